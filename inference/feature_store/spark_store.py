"""Feast's Spark offline store, in a session beside dbt's, whose answers come in the types that the files have.

Feast changes how its session reads names in backquotes, which dbt's own must not, and turns rows into Python objects
whose types Arrow would have to guess.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pandas as pd
import pyarrow as pa
from feast.infra.offline_stores.contrib.spark_offline_store.spark import (
    SparkOfflineStore,
    SparkOfflineStoreConfig,
    SparkRetrievalJob,
)
from feast.infra.offline_stores.offline_store import RetrievalJob

from inference.warehouse import spark

# the store and its sources say so once per view; they turn these on for everybody when they are imported
warnings.filterwarnings("ignore", message="The spark .* is an experimental feature", category=RuntimeWarning)


class ArrowSparkOfflineStoreConfig(SparkOfflineStoreConfig):
    """Configuration of the store below; Feast finds a store by the name of its configuration."""


class ArrowRetrievalJob(SparkRetrievalJob):
    """What a query of Feast's store answers."""

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._to_arrow_internal(timeout).to_pandas()

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self.to_spark_df().toArrow()


class ArrowSparkOfflineStore(SparkOfflineStore):
    """Feast's Spark offline store; what it asks is the same."""

    @staticmethod
    def get_historical_features(*arguments, **named) -> RetrievalJob:
        """Join features to rows, each as they stood at its time."""
        return _by_arrow(SparkOfflineStore.get_historical_features, *arguments, **named)

    @staticmethod
    def pull_latest_from_table_or_query(*arguments, **named) -> RetrievalJob:
        """Read the newest row of each entity."""
        return _by_arrow(SparkOfflineStore.pull_latest_from_table_or_query, *arguments, **named)

    @staticmethod
    def pull_all_from_table_or_query(*arguments, **named) -> RetrievalJob:
        """Read all rows of a window."""
        return _by_arrow(SparkOfflineStore.pull_all_from_table_or_query, *arguments, **named)


def _by_arrow(ask: Callable[..., SparkRetrievalJob], *arguments, **named) -> ArrowRetrievalJob:
    with _session_apart():
        job = ask(*arguments, **named)
    return ArrowRetrievalJob(
        job.spark_session, job.query, job.full_feature_names, job._config, job.on_demand_feature_views, job.metadata
    )


@contextmanager
def _session_apart() -> Iterator[None]:
    """Make a session of its own the one that Feast finds in this thread."""
    own = spark.session(tables=False).newSession()
    sessions = own._jvm.org.apache.spark.sql.classic.SparkSession
    sessions.setActiveSession(own._jsparkSession)
    try:
        yield
    finally:
        sessions.clearActiveSession()
