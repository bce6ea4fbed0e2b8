"""Feast's stock stores, placed in ``CHURN_HOME`` and chosen by environment and manifest; vector search in SQLite.

Feast puts environment variables into ``feature_store.yaml`` but has no defaults for those that are
not set, and would take ``${CHURN_HOME}`` for the name of a folder. ``feature_store.yaml`` names three of the
classes below, which fill in the defaults and hand over to Feast's own.
"""

import os
import sys
import warnings
from collections.abc import Sequence
from datetime import datetime
from itertools import zip_longest
from pathlib import Path

import numpy as np
import yaml
from feast import FeatureView
from feast.filter_models import ComparisonFilter, CompoundFilter
from feast.infra.key_encoding_utils import deserialize_entity_key
from feast.infra.offline_stores.duckdb import DuckDBOfflineStoreConfig
from feast.infra.online_stores.helpers import compute_table_id
from feast.infra.online_stores.sqlite import SqliteFilterTranslator, SqliteOnlineStore, SqliteOnlineStoreConfig
from feast.infra.registry.file import FileRegistryStore
from feast.protos.feast.core.Registry_pb2 import Registry as RegistryProto
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import FloatList, Value
from feast.repo_config import FeastConfigBaseModel, RegistryConfig, RepoConfig

from inference.feature_store.redis_store import OneKeyRedisOnlineStoreConfig
from inference.home import PROJECT_DIR, home, postgres_schema, postgres_settings
from inference.warehouse.manifest import Manifest

# Feast turns deprecation warnings on for everybody; these are between ibis and DuckDB, once per view
warnings.filterwarnings("ignore", message="fetch_arrow_table|fetch_record_batch", category=DeprecationWarning)
# that of the model counts ten numbers per row, offline as well
warnings.filterwarnings("ignore", message="On demand feature view is an experimental", category=RuntimeWarning)


#: Commands of Feast that listen on a port, and where they do if they are not told.
SERVERS = {"serve": "127.0.0.1", "serve_offline": "127.0.0.1", "serve_lineage": "0.0.0.0", "ui": "0.0.0.0"}
#: Those that listen everywhere, whatever they are told.
OPEN_SERVERS = ("serve_registry", "serve_transformations")
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def refuse_open_server(arguments: Sequence[str], auth: str | None) -> None:
    """Refuse to run a server of Feast's where everybody who reaches its port may read and write features.

    Feast has no hook for that, but it opens the registry before it listens.

    Parameters
    ----------
    arguments : sequence of str
        The command line.
    auth : str or None
        ``auth.type`` of ``feature_store.yaml``.

    Raises
    ------
    SystemExit
        If a server would listen beyond loopback and asks nobody who they are.
    """
    command = next((word for word in arguments[1:] if word in (*SERVERS, *OPEN_SERVERS)), None)
    if command is None or not Path(arguments[0]).name.startswith("feast") or auth not in (None, "no_auth"):
        return
    host = SERVERS.get(command, "every address")
    for word, following in zip_longest(arguments, arguments[1:], fillvalue=""):
        if command in OPEN_SERVERS:
            break
        if word in ("-h", "--host"):
            host = following
        elif word.startswith("--host="):
            host = word.removeprefix("--host=")
    if host not in LOOPBACK:
        raise SystemExit(
            f"feast {command} would listen on {host} and let everybody read and write features; expected a loopback "
            f"address (--host 127.0.0.1), or auth in feature_store.yaml. churn-radar serve asks for keys."
        )


class HomeRegistryStore(FileRegistryStore):
    """Feast's file registry in the home folder, written beside and renamed into place."""

    def __init__(self, registry_config: RegistryConfig, repo_path: Path) -> None:
        settings = PROJECT_DIR / "feature_repo" / "feature_store.yaml"
        refuse_open_server(sys.argv, (yaml.safe_load(settings.read_text()).get("auth") or {}).get("type"))
        super().__init__(RegistryConfig(path=_in_home(registry_config.path)), repo_path)

    def _write_registry(self, registry_proto: RegistryProto) -> None:
        # Feast overwrites the file: killed half-way, it would leave a registry that nobody can read
        final = self._filepath
        self._filepath = final.with_suffix(".partial")
        try:
            super()._write_registry(registry_proto)
            self._filepath.replace(final)
        finally:
            self._filepath = final


class WarehouseOfflineStoreConfig:
    """Feast's own configuration of PostgreSQL or Spark where dbt builds there, else of DuckDB over Parquet."""

    def __new__(cls, type: str) -> FeastConfigBaseModel:
        """Return the configuration of the store in use."""
        built_by = Manifest.load().warehouse
        if built_by == "spark":
            from inference.feature_store.spark_store import ArrowSparkOfflineStoreConfig

            return ArrowSparkOfflineStoreConfig(type="spark")
        if built_by != "postgres":
            return DuckDBOfflineStoreConfig(type="duckdb")
        from inference.feature_store.postgres_store import ArrowPostgreSQLOfflineStoreConfig

        return ArrowPostgreSQLOfflineStoreConfig(type="postgres", **_postgres_settings(), db_schema=postgres_schema())


class HomeOnlineStoreConfig:
    """Feast's configuration of Redis where ``redis`` is set, of PostgreSQL where ``postgres`` is, else of SQLite."""

    def __new__(cls, type: str, redis: str, path: str, postgres: str = "") -> FeastConfigBaseModel:
        """Return the configuration of the store in use."""
        if redis and not redis.startswith("$"):
            return OneKeyRedisOnlineStoreConfig(type="redis", connection_string=redis)
        if postgres and not postgres.startswith("$"):
            from feast.infra.online_stores.postgres_online_store.postgres import PostgreSQLOnlineStoreConfig

            return PostgreSQLOnlineStoreConfig(type="postgres", **_postgres_settings(), db_schema=postgres)
        return SearchableSqliteOnlineStoreConfig(type="sqlite", path=_in_home(path))


class SearchableSqliteOnlineStoreConfig(SqliteOnlineStoreConfig):
    """Configuration of the store below; Feast finds a store by the name of its configuration."""


class SearchableSqliteOnlineStore(SqliteOnlineStore):
    """Feast's SQLite store, with vector search on every Python.

    Feast's own search needs an extension of SQLite that it loads on Python 3.10 only, and that a Python built
    without loadable extensions never loads. This one compares the query with every vector, which is exact.
    """

    def retrieve_online_documents_v2(
        self,
        config: RepoConfig,
        table: FeatureView,
        requested_features: list[str],
        embedding: list[float] | None,
        top_k: int,
        distance_metric: str | None = None,
        query_string: str | None = None,
        filters: ComparisonFilter | CompoundFilter | None = None,
        include_feature_view_version_metadata: bool = False,
    ) -> list[tuple[datetime | None, EntityKey, dict[str, Value]]]:
        """Find the rows whose vectors are nearest to a query, by cosine.

        Of the rows that were materialised, only those of the newest snapshot are searched: what is not in it
        is gone from the shop. Filters on strings are applied before the search, so that ``top_k`` rows that
        match are found where there are as many.

        Returns
        -------
        list of tuples
            Event timestamp, entity key and features with ``distance``, which is 1 minus the cosine; in the
            order of entities, because Feast 0.67 mixes up the rows of its answer in any other.
        """
        if embedding is None or query_string is not None:
            raise ValueError(f"{table.name}: rows are found by an embedding; expected query, not query_string")
        if filters is not None and self._filters_need_value_num(filters):
            raise ValueError(f"{table.name}: rows are filtered by strings; expected no filter on a number")
        stored = f'"{compute_table_id(config.project, table)}"'
        vector = next(f.name for f in table.schema if f.vector_index)
        condition, parameters = SqliteFilterTranslator(stored.strip('"')).translate(filters)
        query = np.asarray(embedding, dtype="<f4")
        like_query = Value(float_list_val=FloatList(val=embedding)).ByteSize()
        rows = self._get_conn(config).execute(
            f"select entity_key, value from {stored} where feature_name = ? and length(value) = ? "
            f"and event_ts = (select max(event_ts) from {stored}) and {condition or 'true'}",
            [vector, like_query, *parameters],
        )
        found = rows.fetchall()
        if not found:
            return []
        # protobuf packs the floats of a list at its end; making Python numbers of them takes ten times as long
        packed = b"".join(value[-query.nbytes :] for _, value in found)
        matrix = np.frombuffer(packed, dtype="<f4").reshape(len(found), len(query))
        lengths = np.linalg.norm(matrix, axis=1) * np.linalg.norm(query)
        distances = 1 - matrix @ query / np.maximum(lengths, 1e-12)
        nearest = np.argsort(distances, kind="stable")[:top_k]
        keys = [deserialize_entity_key(found[i][0], config.entity_key_serialization_version) for i in nearest]
        results = [
            (moment, key, {**features, "distance": Value(float_val=distance)})
            for key, distance, (moment, features) in zip(
                keys, distances[nearest], self.online_read(config, table, keys, requested_features), strict=True
            )
        ]
        return sorted(results, key=lambda row: row[1].entity_values[0].string_val)


def _postgres_settings() -> dict[str, str | int]:
    settings = postgres_settings()
    settings["database"] = settings.pop("dbname")
    return {**settings, "sslmode": os.environ.get("PGSSLMODE", "prefer")}


def _in_home(path: str) -> str:
    """Resolve a path that starts with the home folder, whether or not the variable was set."""
    resolved = home() / path.rsplit("}/", 1)[-1] if path.startswith("$") else PROJECT_DIR / path
    resolved.parent.mkdir(parents=True, exist_ok=True)
    return str(resolved)
