"""Queries of the pages over the Parquet files of the last build."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pandas as pd

from inference.errors import ChurnRadarError
from inference.home import home, published, sql_literal


@dataclass(frozen=True)
class ShopSettings:
    """Settings of the last build, or before the first one."""

    #: The dbt var ``churn__min_group``: figures of smaller groups are not shown.
    min_group: int = 10
    #: Whether customer ids are pseudonyms.
    pseudonymise: bool = False


def exported(table: str) -> Path:
    """Return the Parquet file of a table that a build exports for Feast."""
    return home() / "features" / f"{table}.parquet"


def written_at(*files: Path) -> tuple[int | None, ...]:
    """Return when files were written, in nanoseconds since 1970; None for a missing file."""
    return tuple(file.stat().st_mtime_ns if file.exists() else None for file in files)


def execute(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence = (), **files: Path
) -> duckdb.DuckDBPyConnection:
    """Run SQL with ``{name}`` in place of Parquet files, and values of its question marks.

    Raises
    ------
    ChurnRadarError
        If a file is missing or damaged.
    """
    for file in files.values():
        if not file.exists():
            raise ChurnRadarError(f"{file}: no such file; run dbt build first")
    paths = {name: f"read_parquet({sql_literal(file)})" for name, file in files.items()}
    try:
        return connection.execute(sql.format(**paths), list(parameters))
    except duckdb.Error as error:
        names = ", ".join(str(file) for file in files.values())
        reason = str(error).splitlines()[0]
        raise ChurnRadarError(f"{names}: cannot be read; expected what dbt build writes ({reason})") from None


def query(sql: str, parameters: Sequence = (), **files: Path) -> pd.DataFrame:
    """Return the rows of a query over Parquet files; see ``execute``."""
    with duckdb.connect() as connection:
        return execute(connection, sql, parameters, **files).df()


def query_if_built(file: Path, sql: str, parameters: Sequence = ()) -> pd.DataFrame | None:
    """Return the rows of a query over one file, called ``{table}`` in it; None without rows or before a build."""
    if not file.exists():
        return None
    rows = query(sql, parameters, table=file)
    return rows if len(rows) else None


def shop_settings() -> ShopSettings:
    """Read the settings of the last build; the defaults before the first."""
    rows = query_if_built(exported("online_shop"), "select facts from {table}")
    facts = {} if rows is None else json.loads(rows.facts.iloc[0])
    return ShopSettings(**{name: facts[name] for name in ("min_group", "pseudonymise") if name in facts})


def hide_small(groups: pd.DataFrame, counts: Sequence[str], min_group: int) -> tuple[pd.DataFrame, int]:
    """Remove groups with a count of customers below ``churn__min_group``; return the others and how many went."""
    shown = groups[(groups[list(counts)] >= min_group).all(axis=1)].reset_index(drop=True)
    return shown, len(groups) - len(shown)


def report() -> dict | None:
    """Read the newest report of ``churn-radar report``; None without one, ChurnRadarError where it is damaged."""
    file = published("report").with_suffix(".json")
    if not file.exists():
        return None
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        raise ChurnRadarError(f"{file}: cannot be read; run churn-radar report again") from None


def champion() -> pd.Series | None:
    """Return the champion's newest row of ``churn_model``; None before the first training."""
    rows = query_if_built(
        published("churn_model"), "select * from {table} where is_champion order by decided_at desc limit 1"
    )
    return None if rows is None else rows.iloc[0]


def by_date(table: str) -> pd.DataFrame | None:
    """Read ``churn_model_performance`` or ``churn_score_drift``: the newest version of each date, oldest date first."""
    return query_if_built(
        published(table),
        """
        select * from {table}
        qualify row_number() over (partition by as_of_date order by try_cast(model_version as integer) desc) = 1
        order by as_of_date
        """,
    )


def feature_drift(top: int) -> pd.DataFrame | None:
    """Return the ``top`` features of the model that drifted most at the newest date; None if no drift is known.

    The rows are those of ``churn_feature_drift``; ``features`` and ``unusual_features`` count all of them.
    """
    return query_if_built(
        published("churn_feature_drift"),
        """
        with newest as (
            select * from {table}
            where is_read and psi is not null
            qualify dense_rank() over (order by as_of_date desc, try_cast(model_version as integer) desc) = 1
        )

        select
            *,
            count(*) over () as features,
            count(case when is_unusual then 1 end) over () as unusual_features
        from newest
        order by psi desc, feature
        limit ?
        """,
        [top],
    )


def experiment() -> pd.DataFrame | None:
    """Read ``retention_experiment_results``; None without an experiment."""
    sql = "select * from {table} order by action, campaign_id, segment"
    return query_if_built(published("retention_experiment_results"), sql)


def recommended() -> pd.DataFrame | None:
    """Sum up ``retention_actions`` of the newest date by action; None without recommendations."""
    return query_if_built(
        published("retention_actions"),
        """
        select
            as_of_date,
            action,
            count(distinct customer_id) as customers,
            sum(expected_profit) as expected_profit,
            sum(contact_cost) as contact_cost
        from {table}
        where as_of_date = (select max(as_of_date) from {table})
        group by as_of_date, action
        order by customers desc, action
        """,
    )
