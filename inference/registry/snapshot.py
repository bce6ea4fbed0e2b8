"""JSON snapshot of the MLflow registry, so that a build need not import MLflow, which takes seconds."""

import json
import logging
import os
import sqlite3
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

from inference.errors import ChurnRadarError
from inference.home import home, whole_file
from inference.lock import writing
from inference.registry.contents import CHAMPION, DECISION_TAG, MODEL_NAME, RegistrySnapshot, Version, read_saved
from inference.registry.rebuild import rebuild
from inference.warehouse.sqlite_files import is_lost, set_aside

if TYPE_CHECKING:
    from mlflow import MlflowClient

#: Columns of MLflow's database with absolute URIs.
MLFLOW_URIS = (
    "experiments.artifact_location",
    "runs.artifact_uri",
    "model_versions.source",
    "model_versions.storage_location",
)

logger = logging.getLogger(__name__)


def client() -> "MlflowClient":
    """Connect to MLflow: ``MLFLOW_TRACKING_URI``, or SQLite in the home folder."""
    logging.getLogger("alembic").setLevel(logging.ERROR)
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow  # takes seconds to import

    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    if "MLFLOW_TRACKING_URI" not in os.environ:
        _repair_database(folder)
        _move_database(folder)
    uri = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    connection = mlflow.MlflowClient(uri)
    if connection.get_experiment_by_name(MODEL_NAME) is None:
        connection.create_experiment(MODEL_NAME, artifact_location=(folder / "artifacts").as_uri())
    return connection


def read_snapshot(save: bool = True) -> RegistrySnapshot:
    """Read the registry, from the saved snapshot where MLflow's database has not changed since.

    The desk passes ``save=False``, as it only reads the home folder.
    """
    file, stamp = _folder() / "contents.json", _database_stamp()
    if stamp is not None:  # an incomplete or missing file is queried again
        saved_stamp, saved = read_saved(file)
        if saved is not None and saved_stamp == stamp:
            return saved
    snapshot = _query(client())
    if save and stamp is not None:
        # the stamp was taken before the query, so a change in between is queried again next time
        with suppress(OSError), whole_file(file) as beside:  # the folder may be read-only
            beside.write_text(json.dumps({"stamp": stamp, **asdict(snapshot)}))
    return snapshot


def local_folder(version: Version) -> Path | None:
    """Folder of a version's files on this machine; None where MLflow keeps them elsewhere."""
    if "MLFLOW_TRACKING_URI" not in os.environ:  # the home may have been moved since the version was registered
        return _folder() / "artifacts" / version.run_id / "artifacts" / "model"
    source = urlparse(version.source)
    return Path(unquote(source.path)) if source.scheme in ("", "file") else None


def artifact_path(version: Version, folder: str, name: str = "") -> Path:
    """Path of a version's files, or of the one called ``name``; downloaded into ``folder`` where they are not local.

    Raises OSError if they cannot be downloaded.
    """
    if local := local_folder(version):
        return local / name
    connection = client()
    from mlflow.exceptions import MlflowException

    try:
        return Path(connection.download_artifacts(version.run_id, f"model/{name}".rstrip("/"), folder))
    except MlflowException as error:
        raise OSError(str(error)) from None


def _folder() -> Path:
    return home() / "mlflow"


def _repair_database(folder: Path) -> None:
    """Make MLflow's database again from the saved snapshot, and say so, where it was lost or damaged.

    Raises ChurnRadarError if there is no snapshot.
    """
    file = folder / "mlflow.db"
    _, saved = read_saved(folder / "contents.json")
    if (saved is None and not file.exists()) or not is_lost(file, thorough=True):
        return
    if saved is None:
        raise ChurnRadarError(
            f"{file} is damaged, and contents.json beside it, which it could be made again from, cannot be read; "
            f"restore a backup. Without one, remove {folder} and run dbt build, which trains a new champion"
        )
    with writing("repair of the model registry"):
        was_there = file.exists() and file.stat().st_size > 0
        rebuilt = file.with_name("mlflow.db.partial")
        rebuilt.unlink(missing_ok=True)
        rebuild(rebuilt, saved, folder / "artifacts")
        set_aside(file)
        rebuilt.replace(file)
    logger.warning(
        "%s: %s; made again from contents.json with %d versions, without the loss curves of their trainings",
        file,
        "damaged, and now mlflow.db.damaged" if was_there else "lost",
        len(saved.versions),
    )


def _move_database(folder: Path) -> None:
    """Let MLflow's database name this folder where its home was copied or moved: it holds absolute URIs."""
    file, artifacts = folder / "mlflow.db", (folder / "artifacts").as_uri()
    if not file.exists():
        return
    with closing(sqlite3.connect(file)) as connection, connection:
        query = "select artifact_location from experiments where name = ?"
        registered = connection.execute(query, [MODEL_NAME]).fetchone()
        if registered is None or registered[0] == artifacts:
            return
        before = registered[0]
        try:
            for column in MLFLOW_URIS:
                table, name = column.split(".")
                connection.execute(
                    f"update {table} set {name} = ? || substr({name}, ?) where {name} = ? or substr({name}, 1, ?) = ?",
                    [artifacts, len(before) + 1, before, len(before) + 1, f"{before}/"],
                )
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_READONLY:
                raise
            return  # only MLflow's own tools read these places
    logger.warning("%s: the home was copied or moved, MLflow finds its files here now", folder)


def _database_stamp() -> list[list[int]] | None:
    """Sizes and modification times of the database's files; None where it is remote or does not exist yet."""
    file = _folder() / "mlflow.db"
    if "MLFLOW_TRACKING_URI" in os.environ or not file.exists():
        return None
    stats = [path.stat() for path in (file, file.with_name("mlflow.db-wal")) if path.exists()]
    return [[stat.st_size, stat.st_mtime_ns] for stat in stats]


def _query(connection: "MlflowClient") -> RegistrySnapshot:
    from mlflow.exceptions import MlflowException

    by_name = f"name = '{MODEL_NAME}'"
    models = connection.search_registered_models(by_name)
    tags = sorted(models[0].tags.items()) if models else []
    versions = {}
    for version in connection.search_model_versions(by_name, max_results=10_000):
        try:
            data = connection.get_run(version.run_id).data
            parameters, metrics = dict(data.params), dict(data.metrics)
        except MlflowException:  # the run was deleted permanently
            parameters, metrics = {}, {}
        number = str(version.version)
        versions[number] = Version(
            number, version.run_id, version.source, version.creation_timestamp, parameters, metrics
        )
    try:
        champion = str(connection.get_model_version_by_alias(MODEL_NAME, CHAMPION).version)
    except MlflowException:  # no such model, or no such alias
        champion = None
    decisions = [json.loads(value) for name, value in tags if name.startswith(DECISION_TAG)]
    return RegistrySnapshot(decisions, versions, champion)
