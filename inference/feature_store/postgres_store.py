"""Feast's PostgreSQL offline store, whose answers come in the types that the tables have.

Feast reads rows into Python objects and lets Arrow guess what they are: a column of nulls, a list of 32-bit numbers
or an array of ``varchar`` end in an error. Here the same queries are answered through ADBC.
"""

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
    """What a query of Feast's store answers."""

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        store = self.config.offline_store
        dsn = postgres.session_dsn(
            host=store.host,
            port=store.port,
            user=store.user,
            password=store.password,
            dbname=store.database,
            sslmode=store.sslmode,
            sslkey=store.sslkey_path,
            sslcert=store.sslcert_path,
            sslrootcert=store.sslrootcert_path,
        )
        with self._query_generator() as query, postgres.connect(dsn) as connection:
            postgres.execute(connection, f'set search_path to "{store.db_schema}"')
            with postgres.read(connection, query) as rows:
                return rows.read_all()


class ArrowPostgreSQLOfflineStore(PostgreSQLOfflineStore):
    """Feast's PostgreSQL offline store; what it asks is the same."""

    @staticmethod
    def get_historical_features(*arguments, **named) -> RetrievalJob:
        """Join features to rows, each as they stood at its time."""
        return _by_arrow(PostgreSQLOfflineStore.get_historical_features(*arguments, **named))

    @staticmethod
    def pull_latest_from_table_or_query(*arguments, **named) -> RetrievalJob:
        """Read the newest row of each entity."""
        return _by_arrow(PostgreSQLOfflineStore.pull_latest_from_table_or_query(*arguments, **named))

    @staticmethod
    def pull_all_from_table_or_query(*arguments, **named) -> RetrievalJob:
        """Read all rows of a window."""
        return _by_arrow(PostgreSQLOfflineStore.pull_all_from_table_or_query(*arguments, **named))


def _by_arrow(job: PostgreSQLRetrievalJob) -> ArrowRetrievalJob:
    return ArrowRetrievalJob(
        job._query_generator, job.config, job.full_feature_names, job.on_demand_feature_views, job.metadata
    )
