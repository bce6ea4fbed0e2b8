"""Versions of the model in MLflow, which of them scores, and since when; the alias ``champion`` scores now."""

import hashlib
import json
import tempfile
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import lru_cache
from pathlib import Path

import pandas as pd

from inference.errors import ChurnRadarError
from inference.model.churn_model import REFERENCE_FILE, ChurnModel
from inference.registry.snapshot import CHAMPION, DECISION_TAG, MODEL_NAME, Contents, Version, client, contents, fetched
from inference.text.encoder.settings import EncoderSettings

#: Columns of the table churn_model, in order, and what they hold.
VERSION_COLUMNS = {
    "model_version": "string",
    "is_champion": "bool",
    "decided_at": "datetime64[us]",
    "as_of_date": "datetime64[us]",
    "decision": "string",
    "reason": "string",
    "trained_at": "datetime64[us]",
    "horizon_days": "int64",
    "members": "string",
    "reads_words": "bool",
    "words_gain": "float64",
    "transformer_gain": "float64",
    "level_anchor": "string",
    "level_error": "float64",
    "threshold": "float64",
    "training_rows": "int64",
    "training_customers": "int64",
    "first_snapshot": "datetime64[us]",
    "last_snapshot": "datetime64[us]",
    "validation_auroc": "float64",
    "validation_log_loss": "float64",
    "validation_ece": "float64",
    "run_id": "string",
}


class DamagedModelError(ChurnRadarError):
    """The files of a registered model are gone or damaged."""


@dataclass(frozen=True)
class RegisteredModel:
    """A model and its version in the registry."""

    version: str
    model: ChurnModel


def champion(as_of_date: date | None = None) -> RegisteredModel | None:
    """Return the champion, or None where no model was promoted.

    Parameters
    ----------
    as_of_date : date, optional
        The champion of then: the version that the last decision for this date or an earlier one made
        champion, if it is still registered. The champion of now where not given, or if nothing was decided
        for a later date.

    Raises
    ------
    DamagedModelError
        If its files are gone or damaged.
    """
    found = contents()
    version = _champion_version(found, as_of_date)
    return None if version is None else _load(found.versions[version], "champion")


def load(version: str) -> RegisteredModel:
    """Return any registered version.

    Raises
    ------
    ChurnRadarError
        If there is no such version, or its files are gone or damaged.
    """
    found = contents(keep=False).versions
    if version not in found:
        known = ", ".join(found) or "none"
        raise ChurnRadarError(f"version {version} is not registered; expected one of the registered versions: {known}")
    return _load(found[version])


@dataclass(frozen=True)
class _Files:
    """Files of a model and what it runs on; equal where their bytes are, whatever folder they lie in."""

    folder: Path = field(compare=False)
    content: str
    settings: EncoderSettings


def _content(folder: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def _read(files: _Files) -> ChurnModel:
    """Load a model once per process, as all of a build ask for the same one."""
    return ChurnModel.load(files.folder)


def _load(version: Version, called: str = "version") -> RegisteredModel:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        try:
            path = fetched(version, folder)
            model = _read(_Files(path, _content(path), EncoderSettings.from_environment()))
            return RegisteredModel(version.version, model)
        except (ChurnRadarError, OSError) as error:
            raise DamagedModelError(
                f"{called} {version.version} in {version.source} cannot be read; expected the files as they were "
                f"saved: restore them, or run churn-radar train ({str(error).removeprefix(f'{path}: ')})"
            ) from None


def register(model: ChurnModel, promote: bool, reason: str, as_of_date: date | None = None) -> str:
    """Log a model, register it as a new version and, if it won, move the alias to it.

    Parameters
    ----------
    model : ChurnModel
        Trained model.
    promote : bool
        Whether it becomes the champion.
    reason : str
        Why, or why not, in words.
    as_of_date : date, optional
        The newest snapshot when it was trained; today where not given. A model that is promoted for a past date
        scores that date, and leaves the alias to what was decided for a later one.

    Returns
    -------
    str
        The new version.
    """
    connection = client()
    experiment = connection.get_experiment_by_name(MODEL_NAME)
    run = connection.create_run(experiment.experiment_id, run_name=f"train {model.summary.last_snapshot}")
    run_id = run.info.run_id
    for name, value in _parameters(model).items():
        connection.log_param(run_id, name, value)
    for name, value in model.summary.validation.items():
        connection.log_metric(run_id, f"validation_{name}", value)
    for name, gain in _gains(model).items():
        connection.log_metric(run_id, name, gain)
    _log_curves(connection, run_id, model)
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder, "model"))
        connection.log_artifacts(run_id, Path(folder, "model"), "model")
    connection.set_terminated(run_id)
    if not connection.search_registered_models(f"name = '{MODEL_NAME}'"):
        connection.create_registered_model(MODEL_NAME, description="Churn Radar's churn model")
    version = connection.create_model_version(MODEL_NAME, source=f"{run.info.artifact_uri}/model", run_id=run_id)
    _decide(connection, str(version.version), "promoted" if promote else "kept_back", reason, as_of_date)
    return str(version.version)


def rollback(version: str | None = None, reason: str = "asked for") -> str:
    """Make an earlier version the champion again.

    Parameters
    ----------
    version : str, optional
        Any registered version; the champion before the present one where not given.
    reason : str
        Why, in words.

    Returns
    -------
    str
        The version that is champion now.

    Raises
    ------
    ChurnRadarError
        If there is no such version or no earlier champion, or its files are gone or damaged.
    """
    found = contents()
    current = _champion_version(found)
    made = [d["model_version"] for d in found.decisions if d["decision"] != "kept_back"]
    if version is None:
        earlier = [v for v in made if current is not None and int(v) < int(current)]
        if not earlier:
            raise ChurnRadarError("there is no earlier champion to return to; churn_model lists every version")
        version = max(earlier, key=int)
    load(version)
    if current == version:
        raise ChurnRadarError(f"version {version} is the champion already; expected another one")
    newest = date.fromisoformat(max(d["as_of_date"] for d in found.decisions))
    _decide(client(), version, "rolled_back", f"returned from version {current or 'none'}: {reason}", newest)
    return version


def _decide(connection, version: str, decision: str, reason: str, as_of_date: date | None) -> None:
    """Keep a decision with the registered model; move the alias where nothing was decided for a later date."""
    earlier = contents().decisions
    record = {
        "model_version": version,
        "decided_at": datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds"),
        "as_of_date": str(as_of_date or date.today()),
        "decision": decision,
        "reason": reason,
    }
    connection.set_registered_model_tag(MODEL_NAME, f"{DECISION_TAG}{len(earlier) + 1:06d}", json.dumps(record))
    later = [d for d in earlier if d["decision"] != "kept_back" and d["as_of_date"] > record["as_of_date"]]
    if decision != "kept_back" and not later:
        connection.set_registered_model_alias(MODEL_NAME, CHAMPION, version)


def versions() -> pd.DataFrame:
    """List every decision, oldest first, with the version that it is about: the columns of ``VERSION_COLUMNS``."""
    found = contents()
    current = _champion_version(found)
    records = []
    for decision in found.decisions:
        version = found.versions.get(decision["model_version"])
        if version is None or not version.parameters:  # deleted from the registry, or its run
            continue
        parameters, metrics = version.parameters, version.metrics
        level_error = float(parameters["level_error"]) if parameters["level_error"] != "None" else None
        records.append(
            {
                **decision,
                "decided_at": pd.Timestamp(decision["decided_at"]),
                "as_of_date": pd.Timestamp(decision["as_of_date"]),
                "is_champion": version.version == current,
                "trained_at": pd.Timestamp(version.trained_at, unit="ms"),
                "horizon_days": int(parameters["horizon_days"]),
                "members": parameters["members"],
                "reads_words": parameters["reads_words"] == "True",
                "words_gain": metrics.get("words_gain"),
                "transformer_gain": metrics.get("transformer_gain"),
                "level_anchor": parameters["anchor"],
                "level_error": level_error,
                "threshold": float(parameters["threshold"]),
                "training_rows": int(parameters["training_rows"]),
                "training_customers": int(parameters["training_customers"]),
                "first_snapshot": pd.Timestamp(parameters["first_snapshot"]),
                "last_snapshot": pd.Timestamp(parameters["last_snapshot"]),
                "validation_auroc": metrics.get("validation_auroc"),
                "validation_log_loss": metrics.get("validation_log_loss"),
                "validation_ece": metrics.get("validation_ece"),
                "run_id": version.run_id,
            }
        )
    table = pd.DataFrame(records, columns=list(VERSION_COLUMNS))
    # a table without rows has no types of its own
    return table if records else table.astype(VERSION_COLUMNS)


def references(known: Collection[str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """Read what drift is measured against of every version that has it and is not among the known ones."""
    for name, version in contents().versions.items():
        if name in known:
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                reference = pd.read_parquet(fetched(version, folder, REFERENCE_FILE))
            except (OSError, ValueError):
                continue  # it has none, or it is gone or damaged
        yield name, reference


def _gains(model: ChurnModel) -> dict[str, float]:
    """What words and the transformer lowered the log-loss of later snapshots by, where that was measured."""
    transformer = model.summary.transformer.gains if model.summary.transformer else {}
    gains = {
        "words_gain": model.summary.words_gain,
        "transformer_gain": transformer.get("kept"),
        "transformer_events_gain": transformer.get("events"),
        "transformer_words_gain": transformer.get("words"),
        "transformer_fine_tuned_gain": transformer.get("fine_tuned"),
    }
    return {name: gain["mean"] for name, gain in gains.items() if gain}


def _log_curves(connection, run_id: str, model: ChurnModel) -> None:
    """Log the loss curves of every training of the transformer."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    for history in model.summary.transformer.histories if model.summary.transformer else []:
        name = history["name"].replace(" ", "_")
        points = [Metric(f"{name}_loss", p["loss"], now, p["step"]) for p in history["steps"]]
        points += [Metric(f"{name}_later_log_loss", p["log_loss"], now, p["step"]) for p in history["later"]]
        for start in range(0, len(points), 500):
            connection.log_batch(run_id, metrics=points[start : start + 500])


def _parameters(model: ChurnModel) -> dict:
    names = (
        "training_rows",
        "training_customers",
        "first_snapshot",
        "last_snapshot",
        "level_error",
    )
    return {name: getattr(model.summary, name) for name in names} | {
        "horizon_days": model.horizon_days,
        "members": "+".join(model.names),
        "reads_words": model.reads_words,
        "anchor": model.anchor,
        "threshold": model.threshold,
        "n_features": len(model.features),
    }


def _champion_version(found: Contents, as_of_date: date | None = None) -> str | None:
    made = [d for d in found.decisions if d["decision"] != "kept_back"]
    if as_of_date is not None and any(d["as_of_date"] > str(as_of_date) for d in made):
        # the sort is stable: of the decisions for one date the last one holds
        for decision in sorted(made, key=lambda d: d["as_of_date"])[::-1]:
            if decision["as_of_date"] <= str(as_of_date) and decision["model_version"] in found.versions:
                return decision["model_version"]
        return None
    return found.champion
