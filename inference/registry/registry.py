"""Model versions in MLflow and the decisions about them; the alias ``champion`` names the one that scores."""

import json
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from inference.errors import ChurnRadarError
from inference.model.churn_model import ChurnModel
from inference.registry.contents import CHAMPION, DECISION_TAG, MODEL_NAME, RegistrySnapshot, Version
from inference.registry.snapshot import artifact_path, client, local_folder, read_snapshot
from inference.text.encoder.settings import EncoderSettings

if TYPE_CHECKING:
    from mlflow import MlflowClient

#: Columns of the table churn_model in order, and their pandas types.
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
    "lexical_gain": "float64",
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
    """The files of a registered model are missing or damaged."""


@dataclass(frozen=True)
class RegisteredModel:
    """A model and its version in the registry."""

    version: str
    model: ChurnModel


def champion(as_of_date: date | None = None) -> RegisteredModel | None:
    """Load the champion, or that of a date; None where no model was promoted.

    The champion of a date is the registered version that the last decision for this date or an earlier one promoted;
    the alias ``champion``, where no decision was for a later date.
    Raises DamagedModelError if its files are missing or damaged.
    """
    snapshot = read_snapshot()
    version = _champion_version(snapshot, as_of_date)
    return None if version is None else _load(snapshot.versions[version], "champion")


def load(version: str) -> RegisteredModel:
    """Load any registered version; a ChurnRadarError if there is none, or its files are missing or damaged."""
    registered = read_snapshot(save=False).versions
    if version not in registered:
        known = ", ".join(registered) or "none"
        raise ChurnRadarError(f"version {version} is not registered; expected one of the registered versions: {known}")
    return _load(registered[version])


@lru_cache(maxsize=1)
def _load_files(version: Version, settings: EncoderSettings) -> ChurnModel:
    """Load a model once per process and encoder: several dbt models of a build use the same one."""
    with tempfile.TemporaryDirectory() as folder:
        return ChurnModel.load(artifact_path(version, folder))


def _load(version: Version, role: str = "version") -> RegisteredModel:
    try:
        return RegisteredModel(version.version, _load_files(version, EncoderSettings.from_environment()))
    except (ChurnRadarError, OSError) as error:
        place = local_folder(version) or version.source
        raise DamagedModelError(
            f"{role} {version.version} in {place} cannot be read; expected the files as they were saved: restore them, "
            f"or run churn-radar train ({error})"
        ) from None


def register(model: ChurnModel, promote: bool, reason: str, as_of_date: date | None = None) -> str:
    """Log a model to MLflow and register it as a new version, whose number is returned; a promoted one gets the alias.

    Parameters
    ----------
    model : ChurnModel
        Trained model.
    promote : bool
        Whether it becomes the champion.
    reason : str
        Reason of the decision, for people.
    as_of_date : date, optional
        Newest snapshot at training, today by default. A model promoted for a past date scores that date; the alias
        stays with the decision for the latest date.
    """
    connection = client()
    experiment = connection.get_experiment_by_name(MODEL_NAME)
    assert experiment is not None  # client() creates it
    run = connection.create_run(experiment.experiment_id, run_name=f"train {model.summary.last_snapshot}")
    run_id = run.info.run_id
    _log_summary(connection, run_id, model)
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
    """Make a registered version the champion again, the previous champion by default; return its number.

    Raises ChurnRadarError if there is no such version or no earlier champion, or its files are missing or damaged.
    """
    snapshot = read_snapshot()
    current = _champion_version(snapshot)
    if version is None:
        earlier = [
            d["model_version"]
            for d in snapshot.decisions
            if d["decision"] != "kept_back" and current is not None and int(d["model_version"]) < int(current)
        ]
        if not earlier:
            raise ChurnRadarError("there is no earlier champion to return to; churn_model lists every version")
        version = max(earlier, key=int)
    load(version)
    if current == version:
        raise ChurnRadarError(f"version {version} is the champion already; expected another one")
    newest = date.fromisoformat(max(d["as_of_date"] for d in snapshot.decisions))
    _decide(client(), version, "rolled_back", f"returned from version {current or 'none'}: {reason}", newest)
    return version


def _decide(connection: "MlflowClient", version: str, decision: str, reason: str, as_of_date: date | None) -> None:
    """Save a decision as a tag of the registered model; move the alias unless a later date was decided before."""
    earlier = read_snapshot().decisions
    record = {
        "model_version": version,
        "decided_at": datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds"),
        "as_of_date": str(as_of_date or datetime.now(UTC).date()),
        "decision": decision,
        "reason": reason,
    }
    connection.set_registered_model_tag(MODEL_NAME, f"{DECISION_TAG}{len(earlier) + 1:06d}", json.dumps(record))
    later = [d for d in earlier if d["decision"] != "kept_back" and d["as_of_date"] > record["as_of_date"]]
    if decision != "kept_back" and not later:
        connection.set_registered_model_alias(MODEL_NAME, CHAMPION, version)


def versions() -> pd.DataFrame:
    """List every decision with its version, oldest first; columns of ``VERSION_COLUMNS``."""
    snapshot = read_snapshot()
    current = _champion_version(snapshot)
    records = []
    for decision in snapshot.decisions:
        version = snapshot.versions.get(decision["model_version"])
        if version is None or not version.parameters:  # the version or its run was deleted
            continue
        level_error = version.parameters["level_error"]
        values: dict[str, object] = {
            **version.parameters,
            **version.metrics,
            **decision,
            "is_champion": version.version == current,
            "trained_at": pd.Timestamp(version.trained_at, unit="ms"),
            "reads_words": version.parameters["reads_words"] == "True",
            "level_anchor": version.parameters["anchor"],
            "level_error": None if level_error == "None" else level_error,
            "run_id": version.run_id,
        }
        records.append({name: values.get(name) for name in VERSION_COLUMNS})
    return pd.DataFrame(records, columns=list(VERSION_COLUMNS)).astype(VERSION_COLUMNS)


def _log_summary(connection: "MlflowClient", run_id: str, model: ChurnModel) -> None:
    """Log facts about the model, its metrics on later snapshots, and the loss curves of the transformer."""
    from mlflow.entities import Metric, Param

    summary, transformer = model.summary, model.summary.transformer
    names = ("training_rows", "training_customers", "first_snapshot", "last_snapshot", "level_error")
    facts = {name: getattr(summary, name) for name in names} | {
        "horizon_days": model.horizon_days,
        "members": "+".join(model.names),
        "reads_words": model.reads_words,
        "anchor": model.anchor,
        "threshold": model.threshold,
        "n_features": len(model.features),
    }
    # mean decrease of log-loss on later snapshots, where it was measured
    gains = {"words_gain": summary.words_gain, "lexical_gain": summary.lexical_gain}
    for variant, suffix in (("kept", ""), ("events", "_events"), ("words", "_words"), ("fine_tuned", "_fine_tuned")):
        gains[f"transformer{suffix}_gain"] = transformer.gains.get(variant) if transformer else None
    values = {f"validation_{name}": value for name, value in summary.validation.items()}
    values |= {name: gain["mean"] for name, gain in gains.items() if gain}
    now = int(time.time() * 1000)
    metrics = [Metric(name, value, now, 0) for name, value in values.items()]
    for history in transformer.histories if transformer else []:
        name = history["name"].replace(" ", "_")
        metrics += [Metric(f"{name}_loss", p["loss"], now, p["step"]) for p in history["steps"]]
        metrics += [Metric(f"{name}_later_log_loss", p["log_loss"], now, p["step"]) for p in history["later"]]
    connection.log_batch(run_id, params=[Param(name, str(value)) for name, value in facts.items()])
    for start in range(0, len(metrics), 500):
        connection.log_batch(run_id, metrics=metrics[start : start + 500])


def _champion_version(snapshot: RegistrySnapshot, as_of_date: date | None = None) -> str | None:
    promotions = [d for d in snapshot.decisions if d["decision"] != "kept_back"]
    if as_of_date is None or all(d["as_of_date"] <= str(as_of_date) for d in promotions):
        return snapshot.champion
    # the sort is stable: of several decisions for one date the last one counts
    for decision in sorted(promotions, key=lambda d: d["as_of_date"])[::-1]:
        if decision["as_of_date"] <= str(as_of_date) and decision["model_version"] in snapshot.versions:
            return decision["model_version"]
    return None
