"""What the registry holds, and its snapshot in JSON."""

import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

MODEL_NAME = "churn_radar"
CHAMPION = "champion"

#: Prefix of the registered model's tags that hold the decisions, numbered in order.
DECISION_TAG = "decision."


@dataclass(frozen=True)
class Version:
    """A registered version and its run."""

    version: str  # its number
    run_id: str  # the run that trained it
    source: str  # URI of the folder of its files, where MLflow is not in the home folder
    trained_at: int  # milliseconds since 1970, UTC
    # what the run logged; empty where the run was deleted. Not compared: dicts have no hash, and versions are keys
    parameters: dict[str, str] = field(compare=False)
    metrics: dict[str, float] = field(compare=False)


@dataclass(frozen=True)
class RegistrySnapshot:
    """Content of the registry."""

    decisions: list[dict]  # model_version, decided_at, as_of_date, decision and reason, oldest first
    versions: dict[str, Version]  # by number
    champion: str | None  # version that the alias ``champion`` names


def read_saved(file: Path) -> tuple[list | None, RegistrySnapshot | None]:
    """Read the saved snapshot and the stamp of the database that it was read from; None where it cannot be read."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        saved = json.loads(file.read_text())
        stamp, versions = saved.pop("stamp"), saved.pop("versions")
        return stamp, RegistrySnapshot(versions={name: Version(**own) for name, own in versions.items()}, **saved)
    return None, None
