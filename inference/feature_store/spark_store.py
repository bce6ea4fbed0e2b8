"""Feast's Spark offline store, in a Spark session apart from dbt's, with results in the types of the files.

Feast changes a setting of its session (quoted column names) that dbt's session must keep, and it turns rows into
Python objects, whose types Arrow would have to guess.
"""

import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any

import pandas as pd
import pyarrow as pa
from feast.infra.offline_stores.contrib.spark_offline_store.spark import (
    SparkOfflineStore,
    SparkOfflineStoreConfig,
    SparkRetrievalJob,
)
from feast.infra.offline_stores.offline_store import RetrievalJob

from inference.warehouse import spark

# Feast warns once per view, and turns these warnings on for the whole process when it is imported
warnings.filterwarnings("ignore", message="The spark .* is an experimental feature", category=RuntimeWarning)


class ArrowSparkOfflineStoreConfig(SparkOfflineStoreConfig):
    """Configuration of the store below; Feast finds a store by the name of its configuration."""


class ArrowRetrievalJob(SparkRetrievalJob):
    """Result of a query, converted by Spark's own Arrow conversion."""

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._to_arrow_internal(timeout).to_pandas()

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self.to_spark_df().toArrow()


def _by_arrow(ask: Callable[..., RetrievalJob]) -> Callable[..., ArrowRetrievalJob]:
    @wraps(ask)
    def answer(*arguments: Any, **named: Any) -> ArrowRetrievalJob:
        # a new session shares the Spark context with dbt's; the queries run in the active one of this thread
        own = spark.session(tables=False).newSession()
        sessions = own._jvm.org.apache.spark.sql.classic.SparkSession
        sessions.setActiveSession(own._jsparkSession)
        try:
            job = ask(*arguments, **named)
        finally:
            sessions.clearActiveSession()
        return ArrowRetrievalJob(
            job.spark_session, job.query, job.full_feature_names, job._config, job.on_demand_feature_views, job.metadata
        )

    return answer


class ArrowSparkOfflineStore(SparkOfflineStore):
    """Feast's Spark offline store with the same queries."""

    get_historical_features = staticmethod(_by_arrow(SparkOfflineStore.get_historical_features))
    pull_latest_from_table_or_query = staticmethod(_by_arrow(SparkOfflineStore.pull_latest_from_table_or_query))
    pull_all_from_table_or_query = staticmethod(_by_arrow(SparkOfflineStore.pull_all_from_table_or_query))
