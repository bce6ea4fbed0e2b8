"""What MLflow's registry says of this project; kept beside its database, as importing MLflow takes seconds."""

import json
import logging
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

from inference.home import home

MODEL_NAME = "churn_radar"
CHAMPION = "champion"

#: Begins the registered model's tags that keep the decisions, numbered in order.
DECISION_TAG = "decision."


@dataclass(frozen=True)
class Version:
    """A registered version and its run.

    Parameters
    ----------
    version : str
        Number.
    run_id : str
        The run that trained it.
    source : str
        URI of the folder of its files.
    trained_at : int
        Milliseconds since 1970, UTC.
    parameters, metrics : dict
        What the run logged; empty where it is gone.
    """

    version: str
    run_id: str
    source: str
    trained_at: int
    parameters: dict[str, str]
    metrics: dict[str, float]


@dataclass(frozen=True)
class Contents:
    """Decisions about the model, oldest first; the registered versions by number; which one the alias names."""

    decisions: list[dict]
    versions: dict[str, Version]
    champion: str | None


def client():
    """Connect to MLflow: ``MLFLOW_TRACKING_URI``, or SQLite in the home folder."""
    logging.getLogger("alembic").setLevel(logging.ERROR)
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow  # takes seconds to import

    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    uri = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    connection = mlflow.MlflowClient(uri)
    if connection.get_experiment_by_name(MODEL_NAME) is None:
        connection.create_experiment(MODEL_NAME, artifact_location=(folder / "artifacts").as_uri())
    return connection


def contents(keep: bool = True) -> Contents:
    """Read the registry, or what was kept of it where its database is in the home folder and did not change since.

    Parameters
    ----------
    keep : bool
        Whether what has to be read is kept; who only looks, as the desk does, writes nothing.
    """
    file, stamp = _folder() / "contents.json", _stamp()
    if stamp is not None:
        try:
            kept = json.loads(file.read_text())
            if kept.pop("stamp") == stamp:
                versions = {name: Version(**version) for name, version in kept.pop("versions").items()}
                return Contents(versions=versions, **kept)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # none was kept, or not all of it is there
    found = _ask(client())
    if keep and stamp is not None:  # of before it was asked: what changed meanwhile is asked for again
        with suppress(OSError):  # a folder that may only be read, or another thread was first
            partial = file.with_suffix(f".{os.getpid()}")
            partial.write_text(json.dumps({"stamp": stamp, **asdict(found)}))
            partial.replace(file)
    return found


def fetched(version: Version, folder: str, name: str = "") -> Path:
    """Return where the files of a version, or the one of this name, are: where they lie, or fetched into ``folder``.

    Raises
    ------
    OSError
        If they cannot be fetched.
    """
    at = urlparse(version.source)
    if at.scheme in ("", "file"):
        return Path(unquote(at.path)) / name
    connection = client()
    from mlflow.exceptions import MlflowException

    try:
        return Path(connection.download_artifacts(version.run_id, f"model/{name}".rstrip("/"), folder))
    except MlflowException as error:
        raise OSError(str(error)) from None


def _folder() -> Path:
    return home() / "mlflow"


def _stamp() -> list[list[int]] | None:
    """Sizes and times of the database's files; None where it is another's, or is not there yet."""
    file = _folder() / "mlflow.db"
    if "MLFLOW_TRACKING_URI" in os.environ or not file.exists():
        return None
    stats = [path.stat() for path in (file, file.with_name("mlflow.db-wal")) if path.exists()]
    return [[stat.st_size, stat.st_mtime_ns] for stat in stats]


def _ask(connection) -> Contents:
    from mlflow.exceptions import MlflowException

    named = f"name = '{MODEL_NAME}'"
    found = connection.search_registered_models(named)
    tags = sorted(found[0].tags.items()) if found else []
    versions = {}
    for version in connection.search_model_versions(named, max_results=10_000):
        try:
            data = connection.get_run(version.run_id).data
            parameters, metrics = dict(data.params), dict(data.metrics)
        except MlflowException:  # deleted for good
            parameters, metrics = {}, {}
        versions[str(version.version)] = Version(
            str(version.version),
            version.run_id,
            version.source,
            version.creation_timestamp,
            parameters,
            metrics,
        )
    try:
        champion = str(connection.get_model_version_by_alias(MODEL_NAME, CHAMPION).version)
    except MlflowException:  # no such model, or no such alias
        champion = None
    return Contents([json.loads(value) for name, value in tags if name.startswith(DECISION_TAG)], versions, champion)
