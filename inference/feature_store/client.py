"""Feast as the Python side uses it: definitions applied, features read offline and online."""

import hashlib
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from threading import Lock

import duckdb
import pandas as pd

from inference.errors import ChurnRadarError
from inference.features import packing
from inference.features.time_features import count_time
from inference.home import PROJECT_DIR, home, postgres_schema
from inference.warehouse.manifest import Manifest, manifest_path

FEATURE_REPO = PROJECT_DIR / "feature_repo"
#: Tag of Feast's project that says what its definitions were made of.
DEFINITIONS_TAG = "definitions"
#: The field of the model's service, and what it is made of, which the offline store hands on as well.
SERVED_FIELD, STORED_FIELD = "features", "packed"

#: Feature services: what the model reads, what its transformer reads besides, what applications read.
MODEL_SERVICE = "churn_model_v1"
SEQUENCES_SERVICE = "churn_sequences_v1"
SCORES_SERVICE = "churn_scores_v1"
#: What a score needs that follows events; its views, and the one of the scores, by name.
UPDATES_SERVICE = "churn_updates_v1"
HISTORIES_VIEW, SHOP_VIEW, SCORES_VIEW = "online_histories", "online_shop", "online_scores"
#: Held by whoever reads the offline store.
_OFFLINE = Lock()
#: The view of packed features; the model's service counts time in them.
MODEL_VIEW = "model_features"
#: What holds each service's features of snapshots.
SNAPSHOT_TABLES = {MODEL_SERVICE: MODEL_VIEW, SEQUENCES_SERVICE: "sequence_features"}


def definitions_fingerprint() -> str:
    """Fingerprint everything that the feature repository's definitions are made of, 32 hexadecimal digits."""
    digest = hashlib.blake2b(version("feast").encode(), digest_size=16)
    for path in sorted([*FEATURE_REPO.glob("*.py"), *FEATURE_REPO.glob("*.yaml"), *Path(__file__).parent.glob("*.py")]):
        digest.update(f"{path.name}\0".encode() + path.read_bytes())
    manifest = Manifest.load()
    places = [str(home()), os.environ.get("CHURN_REDIS"), os.environ.get("CHURN_ONLINE_SCHEMA")]
    places += [manifest.warehouse, postgres_schema()]
    digest.update(json.dumps([*places, manifest.definitions]).encode())
    return digest.hexdigest()


def apply() -> None:
    """Register the feature repository's definitions, as ``feast apply`` does, where the registry has others.

    Raises
    ------
    ChurnRadarError
        If Feast refuses them.
    """
    if _is_applied():
        return
    # a process of its own reads the definitions as they are now, and may change its working directory
    feast = Path(sys.executable).with_name("feast")
    command = [feast, "-c", FEATURE_REPO, "apply", "--skip-source-validation"]
    # it reads the manifest of the dbt command that runs here, whatever --target-path that has
    env = {**os.environ, "DBT_TARGET_PATH": str(manifest_path().parent)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ChurnRadarError(f"feast apply: {(done.stderr or done.stdout).strip().splitlines()[-1]}")


def _is_applied() -> bool:
    """Whether the registry has these definitions: the text of its project's tag is in its file as it is."""
    registry = home() / "feast" / "registry.db"  # importing Feast to read it takes seconds
    return registry.exists() and definitions_fingerprint().encode() in registry.read_bytes()


def open_store(timeout: float | None = None):
    """Open the feature store of this project.

    Parameters
    ----------
    timeout : float, optional
        Seconds after which Redis is taken to be down; it is waited for without end where none is given.
    """
    # importing Feast takes seconds, and it warns about its own unfinished parts
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from feast import FeatureStore

        store = FeatureStore(repo_path=str(FEATURE_REPO))
    online = store.config.online_store
    if timeout is not None and online.type == "redis":
        online.connection_string += f",socket_timeout={timeout},socket_connect_timeout={timeout}"
    return store


def historical_features(rows: pd.DataFrame, *services: str) -> pd.DataFrame:
    """Join features to rows, each as they stood at its as-of date.

    Parameters
    ----------
    rows : DataFrame
        With ``customer_id`` and ``as_of_date``; any other columns are kept.
    *services : str
        Feature services; the model's where none is given.

    Returns
    -------
    DataFrame
        The rows in their order, with a column per feature.
    """
    _refuse_nobody(rows)
    store = open_store()
    keyed = rows.assign(event_timestamp=pd.to_datetime(rows.as_of_date).dt.tz_localize("UTC"))
    key = ["customer_id", "event_timestamp"]
    for service in services or (MODEL_SERVICE,):
        asked = store.get_feature_service(service)
        # the offline store has one connection to DuckDB, and dbt builds several Python models at once
        with _OFFLINE, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            features = store.get_historical_features(keyed[key], asked).to_df()
        # the offline store may reorder rows: join on the key, never by position
        features["event_timestamp"] = pd.to_datetime(features.event_timestamp, utc=True)
        features = unpack(features, asked)
        keyed = keyed.merge(features, on=key, how="left", validate="one_to_one")
    return keyed.drop(columns="event_timestamp")


def snapshot_features(rows: pd.DataFrame, *services: str) -> pd.DataFrame:
    """Join features to rows of the spine, as ``historical_features`` does, without Feast.

    Each row is its snapshot's own, so there is nothing to look for in time; and importing Feast costs a nightly build
    more than scoring does. What is read are the files that Feast's offline store reads.

    Parameters
    ----------
    rows : DataFrame
        With ``customer_id`` and ``as_of_date``, each pair once; any other columns are kept.
    *services : str
        The model's service, the one of its sequences, or both; the model's where none is given.

    Returns
    -------
    DataFrame
        The rows in their order, with a column per feature.
    """
    _refuse_nobody(rows)
    key = ["customer_id", "as_of_date"]
    keyed = rows.assign(as_of_date=pd.to_datetime(rows.as_of_date).astype("datetime64[us]"))
    for service in services or (MODEL_SERVICE,):
        file = home() / "features" / f"{SNAPSHOT_TABLES[service]}.parquet"
        with duckdb.connect() as connection:
            connection.register("asked", keyed[key])
            # the file is in the order of customers: bounds spare reading what lies outside
            bounds = [keyed.customer_id.min(), keyed.customer_id.max()]
            # a relation with parameters would hold its rows as Python's objects first
            found = connection.execute(
                f"select * exclude (event_timestamp) from '{file}' as features "
                "semi join asked on features.customer_id = asked.customer_id "
                "and features.as_of_date = asked.as_of_date where features.customer_id between ? and ?",
                bounds,
            )
            found = found.to_arrow_table().to_pandas()  # lists that are null become None, as Feast hands them on
        found["as_of_date"] = pd.to_datetime(found.as_of_date).astype("datetime64[us]")
        if service == MODEL_SERVICE:
            manifest = Manifest.load()
            found = with_time(found, manifest.packed_names, manifest.model_columns)
        keyed = keyed.merge(found, on=key, how="left", validate="one_to_one")
    return keyed.assign(as_of_date=rows.as_of_date.to_numpy())


def with_time(rows: pd.DataFrame, numbers: list[str], columns: list[str]) -> pd.DataFrame:
    """Give every feature of ``model_features`` a column of its own, those counted to the as-of date included.

    Parameters
    ----------
    rows : DataFrame
        Rows of ``model_features``; any other columns are kept.
    numbers, columns : list of str
        Names of the packed numbers, and of all features in the model's order.

    Returns
    -------
    DataFrame
        Numbers are float64, null where unknown.
    """
    counted = {SERVED_FIELD: count_time(rows[STORED_FIELD].to_list(), rows.as_of_date.to_list())}
    return _unpacked(rows.assign(**counted), numbers, columns)


def _refuse_nobody(rows: pd.DataFrame) -> None:
    if rows.empty:
        raise ChurnRadarError("int_customer_snapshots: no eligible customer; expected at least one")


def unpack(features: pd.DataFrame, service) -> pd.DataFrame:
    """Give every feature that a service packs a column of its own.

    Parameters
    ----------
    features : DataFrame
        What Feast answers, one column per field of the service.
    service : FeatureService
        Its tags name what is packed.

    Returns
    -------
    DataFrame
        Numbers are float64 in the order of the tag ``columns``, null where unknown; other columns as they are.
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
    """Look customers up in the online store.

    Parameters
    ----------
    customer_ids : sequence of str
        Customers.
    service : str
        Feature service.

    Returns
    -------
    DataFrame
        One row per customer in the order asked for: ``customer_id`` and a column per feature, null
        where the customer is unknown or the feature is.
    """
    store = open_store()
    asked = store.get_feature_service(service)
    response = store.get_online_features(asked, {"customer_id": [str(c) for c in customer_ids]})
    found = pd.DataFrame(response.to_dict())
    # Feast answers in no order of its own
    names = [f.name for p in asked.feature_view_projections for f in p.features]
    return unpack(found[["customer_id", *names]], asked)


def online_scores(customer_ids: Sequence[str]) -> pd.DataFrame:
    """Look the scores of customers up in the online store.

    Parameters
    ----------
    customer_ids : sequence of str
        Customers.

    Returns
    -------
    DataFrame
        One row per customer who has a score, in the order asked for: ``customer_id`` and what ``online_scores`` packs.
    """
    found = online_features(customer_ids, SCORES_SERVICE).dropna(subset="score")
    scores = pd.DataFrame([json.loads(score) for score in found.score], index=found.index)
    return pd.concat([found[["customer_id"]], scores], axis=1)
