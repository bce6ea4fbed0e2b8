"""Queries of the pages over the Parquet files of the last build."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pandas as pd

from inference.errors import ChurnRadarError
from inference.home import home, published

#: ``churn__min_group`` before the first build.
DEFAULT_MIN_GROUP = 10


@dataclass(frozen=True)
class ShopSettings:
    """Settings of the last build.

    Parameters
    ----------
    min_group : int
        The dbt var ``churn__min_group``: figures of smaller groups are not shown.
    pseudonymise : bool
        Whether customer ids are pseudonyms.
    """

    min_group: int = DEFAULT_MIN_GROUP
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
    """Run SQL over Parquet files.

    Parameters
    ----------
    connection : DuckDBPyConnection
        An open database.
    sql : str
        Statements with ``{name}`` in place of a file.
    parameters : sequence
        Values of the question marks.
    **files : Path
        Files by name.

    Raises
    ------
    ChurnRadarError
        If a file is missing or damaged.
    """
    for file in files.values():
        if not file.exists():
            raise ChurnRadarError(f"{file}: no such file; run dbt build first")
    paths = {name: "read_parquet('" + str(file).replace("'", "''") + "')" for name, file in files.items()}
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
    """Return the rows of a query over one file, called ``{table}`` in it; None if no build has written the file."""
    return query(sql, parameters, table=file) if file.exists() else None


def shop_settings() -> ShopSettings:
    """Read the settings of the last build; the defaults before the first."""
    if not exported("online_shop").exists():
        return ShopSettings()
    rows = query("select facts from {shop}", shop=exported("online_shop"))
    facts = json.loads(rows.facts.iloc[0]) if len(rows) else {}
    return ShopSettings(facts.get("min_group", DEFAULT_MIN_GROUP), facts.get("pseudonymise", False))


def hide_small(groups: pd.DataFrame, counts: Sequence[str], min_group: int) -> tuple[pd.DataFrame, int]:
    """Remove groups in which one of the counts is below a minimum.

    Parameters
    ----------
    groups : DataFrame
        One row per group.
    counts : sequence of str
        Columns that count customers.
    min_group : int
        ``churn__min_group``.

    Returns
    -------
    DataFrame
        The other groups.
    int
        Number of groups removed.
    """
    shown = groups[(groups[list(counts)] >= min_group).all(axis=1)].reset_index(drop=True)
    return shown, len(groups) - len(shown)


def report() -> dict | None:
    """Read the newest report of ``churn-radar report``; None without one.

    Raises
    ------
    ChurnRadarError
        If the file is damaged.
    """
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
    return rows.iloc[0] if rows is not None and len(rows) else None


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
    """Return the features of the model that drifted most at the newest date.

    Parameters
    ----------
    top : int
        Number of features.

    Returns
    -------
    DataFrame or None
        Rows of ``churn_feature_drift``; ``features`` and ``unusual_features`` count all of them. None before
        the first build.
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
    rows = query_if_built(
        published("retention_experiment_results"), "select * from {table} order by action, campaign_id, segment"
    )
    return rows if rows is not None and len(rows) else None


def recommended() -> pd.DataFrame | None:
    """Sum up ``retention_actions`` of the newest date by action; None without recommendations.

    Returns
    -------
    DataFrame
        ``as_of_date``, ``action``, ``customers``, ``expected_profit`` and ``contact_cost``, the sums.
    """
    rows = query_if_built(
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
    return rows if rows is not None and len(rows) else None
