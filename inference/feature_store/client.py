"""Feast as the Python side uses it: definitions applied, features read offline and online."""

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import duckdb
import pandas as pd

from inference.errors import ChurnRadarError
from inference.feature_store.repair import repair_online_store
from inference.features import packing
from inference.features.time_features import count_time
from inference.home import PROJECT_DIR, home, postgres_schema, sql_literal
from inference.warehouse.manifest import Manifest, manifest_path
from inference.warehouse.sqlite_files import is_damage

if TYPE_CHECKING:
    from feast import FeatureService, FeatureStore

FEATURE_REPO = PROJECT_DIR / "feature_repo"
#: Tag of Feast's project with the fingerprint of its definitions.
DEFINITIONS_TAG = "definitions"
#: Modules of ``inference`` that the definitions in the registry depend on.
DEFINITION_MODULES = (
    "home.py",
    "features/packing.py",
    "features/time_features.py",
    "feature_store/client.py",
    "feature_store/compute_engine.py",
    "feature_store/postgres_store.py",
    "feature_store/redis_store.py",
    "feature_store/spark_store.py",
    "feature_store/stores.py",
    "warehouse/manifest.py",
)
#: The field of the model's service, and the stored field that it is computed from, which Feast returns as well.
SERVED_FIELD, STORED_FIELD = "features", "packed"

#: Feature services: features of the model, further ones of its transformer, scores for applications.
MODEL_SERVICE = "churn_model_v1"
SEQUENCES_SERVICE = "churn_sequences_v1"
SCORES_SERVICE = "churn_scores_v1"
#: What the service needs to score a customer after an event, the views of it, and the view of the scores.
UPDATES_SERVICE = "churn_updates_v1"
HISTORIES_VIEW, SHOP_VIEW, SCORES_VIEW = "online_histories", "online_shop", "online_scores"
#: Held while the offline store is read: it has one connection to DuckDB, and dbt builds Python models in threads.
_OFFLINE = Lock()
#: The view of packed features; the model's service adds the time features.
MODEL_VIEW = "model_features"
#: Parquet files of ``CHURN_HOME`` with each service's features of all snapshots.
SNAPSHOT_TABLES = {MODEL_SERVICE: MODEL_VIEW, SEQUENCES_SERVICE: "sequence_features"}


def definitions_fingerprint() -> str:
    """Hash everything that the definitions in the registry depend on, as 32 hexadecimal digits.

    These are code, settings, versions, the feature models of dbt's manifest, and the places of stores and tables.
    """
    digest = hashlib.blake2b(version("feast").encode(), digest_size=16)
    modules = [PROJECT_DIR / "inference" / name for name in DEFINITION_MODULES]
    for path in [*sorted(FEATURE_REPO.glob("*.py")), *sorted(FEATURE_REPO.glob("*.yaml")), *modules]:
        digest.update(f"{path.name}\0".encode() + path.read_bytes())
    manifest = Manifest.load()
    places = [os.environ.get("CHURN_REDIS"), os.environ.get("CHURN_ONLINE_SCHEMA")]
    places += [manifest.warehouse, postgres_schema()]
    digest.update(json.dumps([*places, manifest.definitions]).encode())
    return digest.hexdigest()


def apply() -> None:
    """Register the feature repository's definitions, as ``feast apply`` does, where the registry has others."""
    registry = home() / "feast" / "registry.db"
    if registry.exists() and definitions_fingerprint().encode() in registry.read_bytes():
        return  # found without importing Feast
    # a process of its own reads the definitions as they are now, and may change its working directory
    feast = Path(sys.executable).with_name("feast")
    command = [str(feast), "-c", str(FEATURE_REPO), "apply", "--skip-source-validation"]
    # it reads the manifest of the dbt command that runs here, whatever --target-path that has
    env = {**os.environ, "DBT_TARGET_PATH": str(manifest_path().parent)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, close_fds=False)
    if done.returncode:
        raise ChurnRadarError(f"feast apply: {(done.stderr or done.stdout).strip().splitlines()[-1]}")


def open_store(timeout: float | None = None) -> "FeatureStore":
    """Open the feature store of this project; a call to Redis fails after ``timeout`` seconds, if there is one.

    A file of the online store that was lost or damaged is made again.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Feast warns about its own unfinished parts
        store = _import_feast()(repo_path=str(FEATURE_REPO))
    online = store.config.online_store
    if timeout is not None and online.type == "redis":
        online.connection_string += f",socket_timeout={timeout},socket_connect_timeout={timeout}"
    repair_online_store(store)
    return store


def _import_feast() -> "type[FeatureStore]":
    """Import Feast, which takes seconds, without what takes half of them: compiling type checks into its functions."""
    import typeguard

    typechecked = typeguard.typechecked
    typeguard.typechecked = lambda target=None, **_: target or (lambda own: own)  # type: ignore[assignment]
    try:
        from feast import FeatureStore
    finally:
        typeguard.typechecked = typechecked
    return FeatureStore


def historical_features(rows: pd.DataFrame, *services: str) -> pd.DataFrame:
    """Join the features of services, by default the model's, to rows as of each row's date, by Feast's offline store.

    The rows have ``customer_id`` and ``as_of_date``; they keep their order and any other columns.
    """
    _refuse_empty(rows)
    store = open_store()
    keyed = rows.assign(event_timestamp=pd.to_datetime(rows.as_of_date).dt.tz_localize("UTC"))
    key = ["customer_id", "event_timestamp"]
    for service in services or (MODEL_SERVICE,):
        feature_service = store.get_feature_service(service)
        with _OFFLINE, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            features = store.get_historical_features(keyed[key], feature_service).to_df()
        # the offline store may reorder rows: join on the key, never by position
        features["event_timestamp"] = pd.to_datetime(features.event_timestamp, utc=True)
        features = unpack(features, feature_service)
        keyed = keyed.merge(features, on=key, how="left", validate="one_to_one")
    return keyed.drop(columns="event_timestamp")


def snapshot_features(rows: pd.DataFrame, *services: str) -> pd.DataFrame:
    """Join features to rows of the spine, as ``historical_features`` does, without the seconds of importing Feast.

    Each row, a pair of customer and date that must occur once, has a snapshot of its own date, so a join by equal keys
    is enough. It reads the Parquet files that Feast's
    offline store reads, of the services in ``SNAPSHOT_TABLES``.
    """
    _refuse_empty(rows)
    key = ["customer_id", "as_of_date"]
    keyed = rows.assign(as_of_date=pd.to_datetime(rows.as_of_date).astype("datetime64[us]"))
    for service in services or (MODEL_SERVICE,):
        file = home() / "features" / f"{SNAPSHOT_TABLES[service]}.parquet"
        with duckdb.connect() as connection:
            connection.register("spine", keyed[key])
            # the file is sorted by customer: DuckDB skips the parts outside of these bounds
            bounds = [keyed.customer_id.min(), keyed.customer_id.max()]
            result = connection.execute(
                f"select * exclude (event_timestamp) from {sql_literal(file)} as features "
                "semi join spine on features.customer_id = spine.customer_id "
                "and features.as_of_date = spine.as_of_date where features.customer_id between ? and ?",
                bounds,
            )
            features = result.to_arrow_table().to_pandas()  # null lists become None, as in Feast's answers
        features["as_of_date"] = pd.to_datetime(features.as_of_date).astype("datetime64[us]")
        if service == MODEL_SERVICE:
            manifest = Manifest.load()
            features = with_time(features, manifest.packed_names, manifest.model_columns)
        keyed = keyed.merge(features, on=key, how="left", validate="one_to_one")
    return keyed.assign(as_of_date=rows.as_of_date.to_numpy())


def with_time(rows: pd.DataFrame, numbers: list[str], columns: list[str]) -> pd.DataFrame:
    """Unpack ``model_features`` into a column per feature, with time features as of each row's date.

    ``numbers`` are the names of the packed numbers, ``columns`` those of all features in the model's order. Numbers are
    float64, null where unknown; any other columns are kept.
    """
    counted = {SERVED_FIELD: count_time(rows[STORED_FIELD].to_list(), rows.as_of_date.to_list())}
    return _unpacked(rows.assign(**counted), numbers, columns)


def _refuse_empty(rows: pd.DataFrame) -> None:
    if rows.empty:
        raise ChurnRadarError("int_customer_snapshots: no eligible customer; expected at least one")


def unpack(features: pd.DataFrame, service: "FeatureService") -> pd.DataFrame:
    """Unpack the packed field of a service's answer, if it has one, into a column per feature; see ``with_time``.

    The service's tags have the names of the packed features.
    """
    if SERVED_FIELD not in features:
        return features
    return _unpacked(features, service.tags["numbers"].split(","), service.tags["columns"].split(","))


def _unpacked(features: pd.DataFrame, numbers: list[str], columns: list[str]) -> pd.DataFrame:
    own = packing.unpack(features[SERVED_FIELD].to_list(), numbers)
    own = own[[*columns, packing.EMBEDDING, *packing.OTHERS]]
    kept = features.drop(columns=[SERVED_FIELD, STORED_FIELD], errors="ignore")
    return pd.concat([kept, own.set_axis(features.index)], axis=1)


def online_features(customer_ids: Sequence[str], service: str) -> pd.DataFrame:
    """Look the features of a service up in the online store.

    Returns
    -------
    DataFrame
        One row per customer in the order asked for: ``customer_id`` and a column per feature, null
        where the customer is unknown or the feature is.

    Raises
    ------
    ChurnRadarError
        If ``feast apply`` has not run.
    """
    from feast.errors import FeastObjectNotFoundException

    store = open_store()
    entities = {"customer_id": [str(c) for c in customer_ids]}
    try:
        feature_service = store.get_feature_service(service)
        try:
            response = store.get_online_features(feature_service, entities)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            repair_online_store(store, thorough=True)
            response = open_store().get_online_features(feature_service, entities)
    except FeastObjectNotFoundException:
        raise ChurnRadarError(
            f"{home() / 'feast' / 'registry.db'} has no {service}; expected the definitions of feature_repo: run "
            "`feast -c feature_repo apply` and feast materialize first"
        ) from None
    features = pd.DataFrame(response.to_dict())
    # Feast returns the columns in any order
    names = [f.name for p in feature_service.feature_view_projections for f in p.features]
    return unpack(features[["customer_id", *names]], feature_service)


def online_scores(customer_ids: Sequence[str]) -> pd.DataFrame:
    """Look the scores of customers up in the online store.

    Returns
    -------
    DataFrame
        One row per customer who has a score, in the order asked for: ``customer_id`` and the keys of the JSON objects
        in ``online_scores``.
    """
    rows = online_features(customer_ids, SCORES_SERVICE).dropna(subset="score")
    scores = pd.DataFrame([json.loads(score) for score in rows.score], index=rows.index)
    return pd.concat([rows[["customer_id"]], scores], axis=1)
