"""The stores of ``feature_store.yaml``: Feast's own, chosen by environment and manifest; vector search in SQLite.

Feast expands environment variables in ``feature_store.yaml`` but leaves unset ones as they are, such as
``${CHURN_HOME}``. Three classes below fill in defaults and return the configuration of a store of Feast.
"""

import logging
import os
import subprocess
import sys
import warnings
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

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
from google.protobuf.message import DecodeError, Message

from inference.errors import ChurnRadarError
from inference.feature_store.redis_store import OneKeyRedisOnlineStoreConfig
from inference.home import LOOPBACK, PROJECT_DIR, home, postgres_schema, postgres_settings, whole_file
from inference.home_format import make_home, refuse_newer
from inference.lock import hold
from inference.warehouse.manifest import Manifest
from inference.warehouse.sqlite_files import is_lost

# Feast turns deprecation warnings on for the whole process; these concern ibis and DuckDB, once per view
warnings.filterwarnings("ignore", message="fetch_arrow_table|fetch_record_batch", category=DeprecationWarning)
# the on-demand view churn_features computes ten numbers per row
warnings.filterwarnings("ignore", message="On demand feature view is an experimental", category=RuntimeWarning)


#: Stands for the home folder in the registry's file.
HOME = "${CHURN_HOME}"
#: SQLite file of the online store in the home folder.
ONLINE_DATABASE = "/feast/online.db"
#: Where commands of Feast listen that have no option for it.
EVERYWHERE = "every address"
#: Commands of Feast that listen on a port, and the address where they do by default.
SERVERS = {
    "serve": "127.0.0.1",
    "serve_offline": "127.0.0.1",
    "serve_lineage": "0.0.0.0",
    "ui": "0.0.0.0",
    "serve_registry": EVERYWHERE,
    "serve_transformations": EVERYWHERE,
}
#: Commands of Feast that write to the home.
WRITERS = ("apply", "materialize", "materialize-incremental", "teardown")

logger = logging.getLogger(__name__)


def refuse_open_server(arguments: Sequence[str], auth: str | None) -> None:
    """Exit where a command ``feast`` would let everybody who reaches its port read and write features.

    It would if it listens beyond loopback and ``auth.type`` of ``feature_store.yaml`` asks for no authentication.
    """
    command = next((word for word in arguments if word in SERVERS), None)
    if command is None or auth not in (None, "no_auth"):
        return
    host = SERVERS[command]
    if host != EVERYWHERE:
        options = ArgumentParser(add_help=False, allow_abbrev=False)
        options.add_argument("-h", "--host", default=host)
        host = options.parse_known_args(arguments)[0].host
    if host not in LOOPBACK:
        raise SystemExit(
            f"feast {command} would listen on {host} and let everybody read and write features; expected a loopback "
            f"address (--host 127.0.0.1), or auth in feature_store.yaml. churn-radar serve asks for keys."
        )


def prepare_home(arguments: Sequence[str]) -> None:
    """Lock the home during a command ``feast`` that writes to it, and repair a damaged online store before it.

    Exits in one line where another command has the lock, a later version wrote the home, or it cannot be made.
    """
    command = next((word for word in arguments if word in (*WRITERS, "serve")), None)
    if home().exists() and not home().is_dir():
        raise SystemExit(f"feast: {home()} is no folder; expected one: set CHURN_HOME")
    try:
        refuse_newer()
        if command in WRITERS:
            hold(f"feast {command}")
        is_elsewhere = os.environ.get("CHURN_REDIS") or os.environ.get("CHURN_ONLINE_SCHEMA")
        file = home() / ONLINE_DATABASE.lstrip("/")
        if command and not is_elsewhere and (file.parent / "registry.db").exists() and is_lost(file):
            # in a process of its own, as Feast is still reading its settings in this one
            opens = "from inference.feature_store.client import open_store; open_store()"
            subprocess.run([sys.executable, "-c", opens], check=False, close_fds=False)
    except ChurnRadarError as error:
        raise SystemExit(f"feast {command}: {error}") from None


class HomeRegistryStore(FileRegistryStore):
    """Feast's file registry in the home folder, written as a whole; it can be copied and moved with its home.

    Feast registers absolute paths, and drops the tables of an online store whose path is no longer the one registered:
    those of the original, where the registry is a copy. So paths in the file begin with ``HOME``.

    Feast also registers functions, as source and as pickles, and runs what it reads. The file has their source, and
    only source that stands in ``feature_repo`` is read from it.
    """

    _filepath: Path

    def __init__(self, registry_config: RegistryConfig, repo_path: Path) -> None:
        super().__init__(RegistryConfig(path=_in_home(registry_config.path)), repo_path)

    def get_registry_proto(self) -> RegistryProto:
        """Read the file."""
        try:
            registry = super().get_registry_proto()
        except DecodeError:
            damaged = self._filepath.replace(self._filepath.with_name(f"{self._filepath.name}.damaged"))
            logger.warning("%s: cannot be read, and is now %s: run feast apply", self._filepath, damaged.name)
            raise FileNotFoundError(self._filepath) from None  # Feast begins a new one
        _move_registry(registry, _home_of(registry), str(home()))
        if dropped := _drop_foreign_code(registry):
            names = ", ".join(dropped)
            logger.warning("%s: without %s, whose code is not in feature_repo: run feast apply", self._filepath, names)
        return registry

    def _write_registry(self, registry_proto: RegistryProto) -> None:
        # Feast overwrites the file: killed meanwhile, it would leave a registry that cannot be read
        final = self._filepath
        stored = RegistryProto()
        stored.CopyFrom(registry_proto)
        _move_registry(stored, str(home()), HOME)
        for part in _messages(stored):
            if "body_text" in part.DESCRIPTOR.fields_by_name:
                part.ClearField("body")
        try:
            with whole_file(final) as beside:
                self._filepath = beside
                super()._write_registry(stored)
        finally:
            self._filepath = final


def _home_of(registry: RegistryProto) -> str:
    """The home that a registry's paths begin with: ``HOME``, or the folder in which an earlier version wrote it."""
    paths = [table.sqlite_table.path for table in registry.infra.infra_objects]
    return next((path.removesuffix(ONLINE_DATABASE) for path in paths if path.endswith(ONLINE_DATABASE)), HOME)


def _messages(message: Message) -> Iterator[Message]:
    """A message and all messages within it."""
    yield message
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            parts = value.values() if hasattr(value, "values") else value if field.is_repeated else [value]
            for part in parts:
                if isinstance(part, Message):
                    yield from _messages(part)


def _move_registry(registry: RegistryProto, old: str, new: str) -> None:
    """Replace the home that paths in a registry begin with, wherever they stand in it."""
    for part in _messages(registry):
        for field, value in part.ListFields():
            if field.type == field.TYPE_STRING and not field.is_repeated and value.startswith(f"{old}/"):
                setattr(part, field.name, new + value.removeprefix(old))


def _drop_foreign_code(registry: RegistryProto) -> list[str]:
    """Remove all pickles from a registry, and what has code that is not in ``feature_repo``; return its names."""
    own = "\0".join(file.read_text() for file in sorted((PROJECT_DIR / "feature_repo").glob("*.py")))
    dropped = []
    for field, values in registry.ListFields():
        if field.type == field.TYPE_MESSAGE and field.is_repeated and not hasattr(values, "values"):
            for number in reversed(range(len(values))):
                if _has_foreign_code(values[number], own):
                    dropped.append(getattr(values[number], "spec", values[number]).name)
                    del values[number]
    for part in _messages(registry):
        if "body_text" in part.DESCRIPTOR.fields_by_name:
            part.ClearField("body")
    return dropped


def _has_foreign_code(message: Message, own: str) -> bool:
    """Whether a message holds source that is no passage of ``own``, or a pickle without source."""
    for part in _messages(message):
        source = getattr(part, "body_text", "")
        pickles = [getattr(part, name, b"") for name in ("body", "ibis_function")]
        if source not in own or (any(pickles) and not source):
            return True
    return False


class WarehouseOfflineStoreConfig:
    """Configuration of Feast's offline store for the warehouse: PostgreSQL, Spark, or DuckDB over Parquet."""

    # Feast requires a class here and calls it
    def __new__(cls, type: str) -> FeastConfigBaseModel:
        """Return the configuration."""
        warehouse = Manifest.load().warehouse
        if warehouse == "spark":
            from inference.feature_store.spark_store import ArrowSparkOfflineStoreConfig  # needs an extra

            return ArrowSparkOfflineStoreConfig(type="spark")
        if warehouse == "postgres":
            from inference.feature_store.postgres_store import ArrowPostgreSQLOfflineStoreConfig  # needs an extra

            settings = _postgres_settings()
            return ArrowPostgreSQLOfflineStoreConfig(type="postgres", **settings, db_schema=postgres_schema())
        return DuckDBOfflineStoreConfig(type="duckdb")


class HomeOnlineStoreConfig:
    """Configuration of the online store: Redis if ``redis`` is set, PostgreSQL if ``postgres`` is, else SQLite."""

    def __new__(cls, type: str, redis: str, path: str, postgres: str = "") -> FeastConfigBaseModel:
        """Return the configuration."""
        if redis and not redis.startswith("$"):
            return OneKeyRedisOnlineStoreConfig(type="redis", connection_string=redis)
        if postgres and not postgres.startswith("$"):
            from feast.infra.online_stores.postgres_online_store.postgres import PostgreSQLOnlineStoreConfig

            return PostgreSQLOnlineStoreConfig(type="postgres", **_postgres_settings(), db_schema=postgres)
        return SearchableSqliteOnlineStoreConfig(type="sqlite", path=_in_home(path))


class SearchableSqliteOnlineStoreConfig(SqliteOnlineStoreConfig):
    """Configuration of the store below; Feast derives its name from the store's."""


class SearchableSqliteOnlineStore(SqliteOnlineStore):
    """Feast's SQLite store with exact vector search by numpy.

    Feast's own search needs an SQLite extension, which it loads on Python 3.10 only.
    """

    def retrieve_online_documents_v2(  # noqa: PLR0913 (Feast's interface)
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
    ) -> list[tuple[datetime | None, EntityKey | None, dict[str, Value] | None]]:
        """Find the rows whose vectors are nearest to a query by cosine.

        Only rows of the newest snapshot are searched: others no longer exist in the shop. Filters, which must be on
        strings, are applied before the search, so up to ``top_k`` matching rows are returned. Without an embedding,
        or with a filter on a number, it raises a ValueError.

        Returns
        -------
        list of tuples
            Event timestamp, entity key, and features with ``distance``, which is 1 minus the cosine; ordered by
            entity, because Feast 0.67 confuses the rows of its answer in any other order.
        """
        if embedding is None or query_string is not None:
            raise ValueError(f"{table.name}: rows are found by an embedding; expected query, not query_string")
        if filters is not None and self._filters_need_value_num(filters):
            raise ValueError(f"{table.name}: rows are filtered by strings; expected no filter on a number")
        stored = f'"{compute_table_id(config.project, table)}"'
        vector = next(f.name for f in table.schema if f.vector_index)
        condition, parameters = SqliteFilterTranslator(stored.strip('"')).translate(filters)
        query = np.asarray(embedding, dtype="<f4")
        message_size = Value(float_list_val=FloatList(val=embedding)).ByteSize()  # vectors of another length differ
        result = self._get_conn(config).execute(
            f"select entity_key, value from {stored} where feature_name = ? and length(value) = ? "
            f"and event_ts = (select max(event_ts) from {stored}) and {condition or 'true'}",
            [vector, message_size, *parameters],
        )
        candidates = result.fetchall()
        if not candidates:
            return []
        # the floats of a list are the last bytes of its message; parsing messages takes ten times as long
        packed = b"".join(value[-query.nbytes :] for _, value in candidates)
        matrix = np.frombuffer(packed, dtype="<f4").reshape(len(candidates), len(query))
        lengths = np.linalg.norm(matrix, axis=1) * np.linalg.norm(query)
        distances = 1 - matrix @ query / np.maximum(lengths, 1e-12)
        nearest = np.argsort(distances, kind="stable")[:top_k]
        version = config.entity_key_serialization_version
        keys = [(deserialize_entity_key(candidates[i][0], version), distances[i]) for i in nearest]
        keys.sort(key=lambda row: row[0].entity_values[0].string_val)
        rows = self.online_read(config, table, [key for key, _ in keys], requested_features)
        return [
            (moment, key, {**(features or {}), "distance": Value(float_val=distance)})
            for (key, distance), (moment, features) in zip(keys, rows, strict=True)
        ]


def _postgres_settings() -> dict[str, Any]:
    settings = postgres_settings()
    settings["database"] = settings.pop("dbname")
    return {**settings, "sslmode": os.environ.get("PGSSLMODE", "prefer")}


def _in_home(path: str) -> str:
    """Resolve a path that begins with ``${CHURN_HOME}``, expanded or not, and make its folder."""
    resolved = home() / path.rsplit("}/", 1)[-1] if path.startswith("$") else PROJECT_DIR / path
    refuse_newer()
    if not home().exists():
        make_home()
    resolved.parent.mkdir(parents=True, exist_ok=True)
    return str(resolved)


# Every command of Feast imports this module before it listens; Feast has no hook with the address, only its arguments.
if Path(sys.argv[0]).stem == "feast":
    _settings = yaml.safe_load((PROJECT_DIR / "feature_repo" / "feature_store.yaml").read_text())
    refuse_open_server(sys.argv[1:], (_settings.get("auth") or {}).get("type"))
    prepare_home(sys.argv[1:])
