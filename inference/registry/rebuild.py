"""MLflow's database written anew from a snapshot of the registry."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from inference.registry.contents import CHAMPION, DECISION_TAG, MODEL_NAME, RegistrySnapshot


def rebuild(file: Path, snapshot: RegistrySnapshot, artifacts: Path) -> None:
    """Write an SQLite database of MLflow with the decisions and versions of a snapshot.

    Parameters
    ----------
    file : Path
        New file.
    snapshot : RegistrySnapshot
        Content; versions and runs keep their numbers, ids and times. Of a run's metrics, the last values.
    artifacts : Path
        Folder of the models' files, which are not touched.
    """
    import mlflow
    from mlflow.entities import Metric, Param

    connection = mlflow.MlflowClient(f"sqlite:///{file}")
    experiment = connection.create_experiment(MODEL_NAME, artifact_location=artifacts.as_uri())
    connection.create_registered_model(MODEL_NAME, description="Churn Radar's churn model")
    given = []
    for version in sorted(snapshot.versions.values(), key=lambda version: int(version.version)):
        moment = version.trained_at
        run = connection.create_run(experiment, start_time=moment).info.run_id
        metrics = [Metric(name, value, moment, 0) for name, value in version.metrics.items()]
        connection.log_batch(run, metrics, [Param(name, value) for name, value in version.parameters.items()])
        connection.set_terminated(run, end_time=moment)
        source = f"{artifacts.as_uri()}/{version.run_id}/artifacts/model"
        new = connection.create_model_version(MODEL_NAME, source=source, run_id=run)
        given.append((version, run, new.version))
    for number, decision in enumerate(snapshot.decisions, 1):
        connection.set_registered_model_tag(MODEL_NAME, f"{DECISION_TAG}{number:06d}", json.dumps(decision))
    with closing(sqlite3.connect(file)) as database, database:
        # from the last on: numbers only grow, where versions were deleted
        for version, run, number in reversed(given):
            database.execute(
                "update model_versions set version = ?, creation_time = ? where version = ?",
                [version.version, version.trained_at, number],
            )
            _replace(database, run, version.run_id)
    if snapshot.champion is not None:
        connection.set_registered_model_alias(MODEL_NAME, CHAMPION, snapshot.champion)


def _replace(database: sqlite3.Connection, run: str, by: str) -> None:
    """Replace a run's id in every table, and in the place of its files."""
    tables = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
    for table in tables:
        for _, column, *_ in database.execute(f'pragma table_info("{table}")').fetchall():
            if column in ("run_uuid", "run_id"):
                database.execute(f'update "{table}" set {column} = ? where {column} = ?', [by, run])
    database.execute("update runs set artifact_uri = replace(artifact_uri, ?, ?)", [run, by])
