"""Feast's stock stores, placed in ``CHURN_HOME`` and chosen by ``CHURN_REDIS``.

Feast puts environment variables into ``feature_store.yaml`` but has no defaults for those that are
not set, and would take ``${CHURN_HOME}`` for the name of a folder. ``feature_store.yaml`` names the two
classes below, which fill in the defaults and hand over to Feast's own.
"""

import warnings
from pathlib import Path

from feast.infra.online_stores.redis import RedisOnlineStoreConfig
from feast.infra.online_stores.sqlite import SqliteOnlineStoreConfig
from feast.infra.registry.file import FileRegistryStore
from feast.protos.feast.core.Registry_pb2 import Registry as RegistryProto
from feast.repo_config import FeastConfigBaseModel, RegistryConfig

from inference.home import PROJECT_DIR, home

# Feast turns deprecation warnings on for everybody; this one is between ibis and DuckDB, once per view
warnings.filterwarnings("ignore", message="fetch_arrow_table", category=DeprecationWarning)


class HomeRegistryStore(FileRegistryStore):
    """Feast's file registry in the home folder, written beside and renamed into place."""

    def __init__(self, registry_config: RegistryConfig, repo_path: Path) -> None:
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


class HomeOnlineStoreConfig:
    """Feast's own configuration of Redis where ``redis`` is set, else of SQLite at ``path``."""

    def __new__(cls, type: str, redis: str, path: str) -> FeastConfigBaseModel:
        """Return the configuration of the store in use."""
        if redis and not redis.startswith("$"):
            return RedisOnlineStoreConfig(type="redis", connection_string=redis)
        return SqliteOnlineStoreConfig(type="sqlite", path=_in_home(path))


def _in_home(path: str) -> str:
    """Resolve a path that starts with the home folder, whether or not the variable was set."""
    resolved = home() / path.rsplit("}/", 1)[-1] if path.startswith("$") else PROJECT_DIR / path
    resolved.parent.mkdir(parents=True, exist_ok=True)
    return str(resolved)
