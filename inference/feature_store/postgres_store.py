"""Feast's PostgreSQL offline store with the column types of the tables.

Feast's own store reads rows into Python objects and lets Arrow infer the types, which fails for a column of nulls, a
list of 32-bit floats and an array of ``varchar``. This one runs the same queries through DuckDB, which keeps the types.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import pyarrow as pa
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres import (
    PostgreSQLOfflineStore,
    PostgreSQLOfflineStoreConfig,
    PostgreSQLRetrievalJob,
)
from feast.infra.offline_stores.offline_store import RetrievalJob

from inference.warehouse import postgres


class ArrowPostgreSQLOfflineStoreConfig(PostgreSQLOfflineStoreConfig):
    """Configuration of the store below; Feast finds a store by the name of its configuration."""


class ArrowRetrievalJob(PostgreSQLRetrievalJob):
    """Result of a query of Feast's store."""

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        with self._query_generator() as query, postgres.connect() as connection:
            return postgres.query(connection, query)


def _by_arrow(ask: Callable[..., RetrievalJob]) -> Callable[..., ArrowRetrievalJob]:
    @wraps(ask)
    def answer(*arguments: Any, **named: Any) -> ArrowRetrievalJob:
        job = ask(*arguments, **named)
        return ArrowRetrievalJob(
            job._query_generator, job.config, job.full_feature_names, job.on_demand_feature_views, job.metadata
        )

    return answer


class ArrowPostgreSQLOfflineStore(PostgreSQLOfflineStore):
    """Feast's PostgreSQL offline store with other retrieval jobs; the queries are the same."""

    get_historical_features = staticmethod(_by_arrow(PostgreSQLOfflineStore.get_historical_features))
    pull_latest_from_table_or_query = staticmethod(_by_arrow(PostgreSQLOfflineStore.pull_latest_from_table_or_query))
    pull_all_from_table_or_query = staticmethod(_by_arrow(PostgreSQLOfflineStore.pull_all_from_table_or_query))
