"""Monitoring tables of the last build, for the decision whether to retrain."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # PostgreSQL and Spark have sessions of their own with the same methods
    from duckdb import DuckDBPyConnection


@dataclass(frozen=True)
class Monitoring:
    """Drift and performance of the version that scored last.

    Parameters
    ----------
    model_version : str
        The version.
    drift_share : float or None
        Share of its features with unusual drift at the newest date; None where nothing was measured.
    broken_promise : float or None
        Drop of its AUROC at the newest date with known outcomes below that of its validation, where it is significant
        and above ``churn__auroc_drop_limit``; else None.
    """

    model_version: str
    drift_share: float | None = None
    broken_promise: float | None = None


def last_monitoring(session: "DuckDBPyConnection", schema: str) -> Monitoring | None:
    """Read ``churn_feature_drift`` and ``churn_model_performance`` as the last build left them.

    This build replaces them after scoring, so a dbt reference to them would be a cycle.

    Parameters
    ----------
    session : DuckDBPyConnection
        The warehouse.
    schema : str
        Schema of the tables as SQL, with its database where the warehouse has several.

    Returns
    -------
    Monitoring or None
        None before the first build has ended.
    """
    name = schema.rpartition(".")[2].strip('"')
    tables = session.sql(
        f"select table_name from information_schema.tables where table_schema = '{name}' "
        "and table_name in ('churn_feature_drift', 'churn_model_performance')"
    ).df()
    if len(tables) < 2:
        return None
    drift = session.sql(
        "select model_version, avg(case when is_unusual then 1e0 else 0e0 end) as drift_share "
        f"from {schema}.churn_feature_drift where is_read group by model_version, as_of_date "
        "order by as_of_date desc, cast(model_version as integer) desc limit 1"
    ).df()
    if drift.empty:
        return None
    version = str(drift.model_version[0])
    performance = session.sql(
        f"select auroc_below_promise, breaks_promise from {schema}.churn_model_performance "
        f"where model_version = '{version}' order by as_of_date desc limit 1"
    ).fetchone()
    drop, broken = performance or (None, None)
    return Monitoring(version, float(drift.drift_share[0]), drop if broken else None)
