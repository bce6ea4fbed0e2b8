"""What the desk reads: the Parquet files of the last build, by DuckDB, and of each the rows that a page shows."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pandas as pd

from inference.errors import ChurnRadarError
from inference.home import home, published

#: ``churn__min_group`` where no build has said.
USUAL_MIN_GROUP = 10


@dataclass(frozen=True)
class ShopSettings:
    """What the last build says of the shop.

    Parameters
    ----------
    min_group : int
        The dbt var ``churn__min_group``: figures of smaller groups are not shown.
    pseudonymise : bool
        Whether customers go by pseudonyms.
    """

    min_group: int = USUAL_MIN_GROUP
    pseudonymise: bool = False


def exported(table: str) -> Path:
    """Parquet file of a table that a build exports for Feast."""
    return home() / "features" / f"{table}.parquet"


def stamp(*files: Path) -> tuple[int | None, ...]:
    """When files were written last, in nanoseconds; None for one that is not there."""
    return tuple(file.stat().st_mtime_ns if file.exists() else None for file in files)


def ask(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence = (), **files: Path
) -> duckdb.DuckDBPyConnection:
    """Ask about Parquet files.

    Parameters
    ----------
    connection : DuckDBPyConnection
        Who answers.
    sql : str
        Statements in which ``{name}`` stands for a file.
    parameters : sequence
        Values of their question marks.
    **files : Path
        Files by name.

    Raises
    ------
    ChurnRadarError
        If a file is not there, or is not what a build writes.
    """
    for file in files.values():
        if not file.exists():
            raise ChurnRadarError(f"{file}: no such file; run dbt build first")
    paths = {name: "read_parquet('" + str(file).replace("'", "''") + "')" for name, file in files.items()}
    try:
        return connection.execute(sql.format(**paths), list(parameters))
    except duckdb.Error as error:
        names = ", ".join(str(file) for file in files.values())
        said = str(error).splitlines()[0]
        raise ChurnRadarError(f"{names}: cannot be read; expected what dbt build writes ({said})") from None


def query(sql: str, parameters: Sequence = (), **files: Path) -> pd.DataFrame:
    """Ask about Parquet files, see ``ask``; nothing is held open afterwards."""
    with duckdb.connect() as connection:
        return ask(connection, sql, parameters, **files).df()


def shop_settings() -> ShopSettings:
    """Read what the last build says of the shop; what is usual, where none has."""
    if not exported("online_shop").exists():
        return ShopSettings()
    found = query("select facts from {shop}", shop=exported("online_shop"))
    told = json.loads(found.facts.iloc[0]) if len(found) else {}
    return ShopSettings(told.get("min_group", USUAL_MIN_GROUP), told.get("pseudonymise", False))


def hide_small(groups: pd.DataFrame, counts: Sequence[str], least: int) -> tuple[pd.DataFrame, int]:
    """Leave out groups in which one of the counts is lower than the least.

    Parameters
    ----------
    groups : DataFrame
        One row per group.
    counts : sequence of str
        Columns that count customers.
    least : int
        ``churn__min_group``.

    Returns
    -------
    DataFrame
        The groups that may be shown.
    int
        How many are left out.
    """
    shown = groups[(groups[list(counts)] >= least).all(axis=1)].reset_index(drop=True)
    return shown, len(groups) - len(shown)


def report() -> dict | None:
    """Read what ``churn-radar report`` wrote last; None where it never did.

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
    """Return the newest decision about the version that scores now; None where no model was trained."""
    file = published("churn_model")
    if not file.exists():
        return None
    found = query("select * from {model} where is_champion order by decided_at desc limit 1", model=file)
    return found.iloc[0] if len(found) else None


def by_date(table: str) -> pd.DataFrame | None:
    """Read a table of the monitoring, the oldest date first; of a date, the newest version.

    Parameters
    ----------
    table : str
        ``churn_model_performance`` or ``churn_score_drift``.

    Returns
    -------
    DataFrame or None
        None where no build has written it.
    """
    if not published(table).exists():
        return None
    return query(
        """
        select * from {monitored}
        qualify row_number() over (partition by as_of_date order by try_cast(model_version as integer) desc) = 1
        order by as_of_date
        """,
        monitored=published(table),
    )


def feature_drift(top: int) -> pd.DataFrame | None:
    """Return the features that the model reads and that drifted most at the newest date.

    Parameters
    ----------
    top : int
        How many.

    Returns
    -------
    DataFrame or None
        Rows of ``churn_feature_drift``; ``features`` and ``unusual_features`` count all of them. None where no build
        has written it.
    """
    if not published("churn_feature_drift").exists():
        return None
    return query(
        """
        with newest as (
            select * from {drift}
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
        drift=published("churn_feature_drift"),
    )


def experiment() -> pd.DataFrame | None:
    """Read ``retention_experiment_results``; None where there is no experiment yet."""
    file = published("retention_experiment_results")
    if not file.exists():
        return None
    found = query("select * from {results} order by action, campaign_id, segment", results=file)
    return found if len(found) else None


def recommended() -> pd.DataFrame | None:
    """Count ``retention_actions`` of the newest date by action; None where nothing was recommended yet.

    Returns
    -------
    DataFrame
        ``as_of_date``, ``action``, ``customers``, ``expected_profit`` and ``contact_cost``, the sums.
    """
    file = published("retention_actions")
    if not file.exists():
        return None
    found = query(
        """
        select
            as_of_date,
            action,
            count(distinct customer_id) as customers,
            sum(expected_profit) as expected_profit,
            sum(contact_cost) as contact_cost
        from {actions}
        where as_of_date = (select max(as_of_date) from {actions})
        group by as_of_date, action
        order by customers desc, action
        """,
        actions=file,
    )
    return found if len(found) else None
