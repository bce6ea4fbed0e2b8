"""Versions of the model in MLflow; the alias ``champion`` is the one that scores."""

import logging
import os
import tempfile
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from inference.ensemble import REFERENCE_FILE, ChurnModel
from inference.errors import ChurnRadarError
from inference.home import home

MODEL_NAME = "churn_radar"
CHAMPION = "champion"

#: Columns of the table churn_model, in order.
VERSION_COLUMNS = (
    "model_version",
    "is_champion",
    "trained_at",
    "decision",
    "reason",
    "horizon_days",
    "members",
    "reads_words",
    "words_gain",
    "transformer_gain",
    "level_anchor",
    "level_error",
    "threshold",
    "training_rows",
    "training_customers",
    "first_snapshot",
    "last_snapshot",
    "validation_auroc",
    "validation_log_loss",
    "validation_ece",
    "run_id",
)


class DamagedModelError(ChurnRadarError):
    """The files of a registered model are gone or damaged."""


@dataclass(frozen=True)
class RegisteredModel:
    """A model and its version in the registry."""

    version: str
    model: ChurnModel


def client():
    """Connect to MLflow: ``MLFLOW_TRACKING_URI``, or SQLite in the home folder."""
    logging.getLogger("alembic").setLevel(logging.ERROR)
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow  # takes seconds to import

    folder = home() / "mlflow"
    folder.mkdir(parents=True, exist_ok=True)
    uri = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    connection = mlflow.MlflowClient(uri)
    if connection.get_experiment_by_name(MODEL_NAME) is None:
        connection.create_experiment(MODEL_NAME, artifact_location=(folder / "artifacts").as_uri())
    return connection


def champion() -> RegisteredModel | None:
    """Return the champion, or None where no model was ever promoted.

    Raises
    ------
    DamagedModelError
        If its files are gone or damaged.
    """
    connection = client()  # sets how much MLflow says, before it is imported
    from mlflow.exceptions import MlflowException

    version = _champion_version(connection)
    if version is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = connection.download_artifacts(version.run_id, "model", folder)
            return RegisteredModel(str(version.version), ChurnModel.load(Path(path)))
        except (ChurnRadarError, MlflowException, OSError) as error:
            raise DamagedModelError(
                f"champion {version.version} in {version.source} cannot be read; expected the files as they were "
                f"saved: restore them, or run churn-radar train ({str(error).removeprefix(f'{folder}/model: ')})"
            ) from None


def register(model: ChurnModel, promote: bool, reason: str) -> str:
    """Log a model, register it as a new version and, if it won, move the alias to it.

    Parameters
    ----------
    model : ChurnModel
        Trained model.
    promote : bool
        Whether it becomes the champion.
    reason : str
        Why, or why not, in words.

    Returns
    -------
    str
        The new version.
    """
    connection = client()
    experiment = connection.get_experiment_by_name(MODEL_NAME)
    run = connection.create_run(experiment.experiment_id, run_name=f"train {model.details['last_snapshot']}")
    run_id = run.info.run_id
    for name, value in _parameters(model).items():
        connection.log_param(run_id, name, value)
    for name, value in model.details.get("validation", {}).items():
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
    version = connection.create_model_version(
        MODEL_NAME,
        source=f"{run.info.artifact_uri}/model",
        run_id=run_id,
        tags={"decision": "promoted" if promote else "kept_back", "reason": reason},
    )
    if promote:
        connection.set_registered_model_alias(MODEL_NAME, CHAMPION, version.version)
    return str(version.version)


def versions() -> pd.DataFrame:
    """List every version, oldest first, with the columns of ``VERSION_COLUMNS``."""
    connection = client()
    current = _champion_version(connection)
    records = []
    for version in connection.search_model_versions(f"name = '{MODEL_NAME}'", max_results=10_000):
        run = connection.get_run(version.run_id)
        parameters, metrics = run.data.params, run.data.metrics
        level_error = float(parameters["level_error"]) if parameters["level_error"] != "None" else None
        records.append(
            {
                "model_version": str(version.version),
                "is_champion": current is not None and version.version == current.version,
                "trained_at": pd.Timestamp(version.creation_timestamp, unit="ms"),
                "decision": version.tags["decision"],
                "reason": version.tags["reason"],
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
    return table.sort_values("model_version", key=lambda v: v.astype(int), ignore_index=True)


def references(known: Collection[str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """Read what drift is measured against of every version that has it and is not among the known ones."""
    connection = client()
    from mlflow.exceptions import MlflowException

    for version in connection.search_model_versions(f"name = '{MODEL_NAME}'", max_results=10_000):
        if str(version.version) in known:
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                path = connection.download_artifacts(version.run_id, f"model/{REFERENCE_FILE}", folder)
                reference = pd.read_parquet(path)
            except (MlflowException, OSError, ValueError):  # it has none, or it is gone or damaged
                continue
        yield str(version.version), reference


def _gains(model: ChurnModel) -> dict[str, float]:
    """What words and the transformer lowered the log-loss of later snapshots by, where that was measured."""
    transformer = (model.details.get("transformer") or {}).get("gains", {})
    gains = {
        "words_gain": model.details.get("words_gain"),
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
    for history in (model.details.get("transformer") or {}).get("histories", []):
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
    return {name: model.details[name] for name in names} | {
        "horizon_days": model.horizon_days,
        "members": "+".join(model.names),
        "reads_words": model.reads_words,
        "anchor": model.anchor,
        "threshold": model.threshold,
        "n_features": len(model.features),
    }


def _champion_version(connection):
    from mlflow.exceptions import MlflowException

    try:
        return connection.get_model_version_by_alias(MODEL_NAME, CHAMPION)
    except MlflowException:  # no such model, or no such alias
        return None
