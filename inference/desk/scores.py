"""The newest scores in an in-memory DuckDB, which counts, filters, sorts and pages them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import duckdb
import pandas as pd

from inference.desk.data import execute
from inference.desk.format import csv
from inference.errors import ChurnRadarError
from inference.home import published
from inference.scoring import score

#: Risk bands, the highest first.
BANDS = score.BANDS[::-1]
#: Orders of the list, in SQL.
ORDERS = {
    "value at risk": "value_at_risk desc",
    "churn probability": "churn_probability desc",
    "rise since last week": "change desc nulls last",
    "expected spend": "expected_spend desc",
}
#: Length of the trend in days.
TREND_DAYS = 91

#: If several versions have scored a date, the one that scored last counts.
_TABLES = f"""
    create table rounds as
    select as_of_date, arg_max(model_version, scored_at) as model_version
    from {{scores}}
    group by as_of_date;

    create table dates as
    select
        max(as_of_date) as newest,
        (select max(as_of_date) from rounds where as_of_date <= (select max(as_of_date) - 7 from rounds)) as earlier
    from rounds;

    create table by_date as
    select
        as_of_date,
        risk_band,
        count(*) as customers,
        sum(churn_probability) as expected_churners,
        sum(value_at_risk) as value_at_risk
    from {{scores}}
    inner join rounds using (as_of_date, model_version)
    cross join dates
    where as_of_date >= newest - {TREND_DAYS} or as_of_date = earlier
    group by as_of_date, risk_band;

    create table newest as
    with

    latest as (
        select scores.*
        from {{scores}} as scores
        inner join rounds using (as_of_date, model_version)
        inner join dates on scores.as_of_date = dates.newest
    ),

    before as (
        select
            customer_id,
            churn_probability,
            list_position({list(BANDS)}, risk_band) as place
        from {{scores}} as scores
        inner join rounds using (as_of_date, model_version)
        inner join dates on scores.as_of_date = dates.earlier
    )

    select
        latest.*,
        latest.churn_probability - before.churn_probability as change,
        coalesce(list_position({list(BANDS)}, latest.risk_band) < before.place, false) as has_risen,
        actions.action
    from latest
    left join before using (customer_id)
    left join actions using (customer_id, as_of_date)
"""

#: Of several campaigns, the action with the highest expected profit.
_ACTIONS = """
    create table actions as
    select customer_id, as_of_date, arg_max(action, coalesce(expected_profit, 0)) as action
    from {actions}
    group by customer_id, as_of_date
"""
_NO_ACTIONS = "create table actions (customer_id varchar, as_of_date date, action varchar)"


@dataclass(frozen=True)
class Filters:
    """Filters of the list of customers; an empty field filters nothing."""

    bands: tuple[str, ...] = ()
    #: Recommended actions.
    actions: tuple[str, ...] = ()
    #: Part of an id.
    customer: str = ""
    #: Words of a reason, in any case.
    reason: str = ""
    #: Lowest value at risk.
    min_value: float = 0.0
    #: Only those whose band is higher than a week before.
    only_risen: bool = False

    def where(self) -> tuple[str, list]:
        """Return an SQL condition and the values of its question marks."""
        conditions: list[tuple[str, list]] = [("true", [])]
        for column, values in (("risk_band", self.bands), ("action", self.actions)):
            if values:
                conditions.append((f"list_contains(?, {column})", [list(values)]))
        if self.customer.strip():
            conditions.append(("contains(lower(customer_id), lower(?))", [self.customer.strip()]))
        if self.reason.strip():
            reasons = "lower(concat_ws(' ', reason_1, reason_2, reason_3))"
            conditions.append((f"contains({reasons}, lower(?))", [self.reason.strip()]))
        if self.min_value > 0:
            conditions.append(("value_at_risk >= ?", [self.min_value]))
        if self.only_risen:
            conditions.append(("has_risen", []))
        return " and ".join(sql for sql, _ in conditions), [value for _, values in conditions for value in values]


class Scores:
    """The newest scores, those of a week before, and a trend.

    The connection holds ``newest``, one row per customer: the columns of ``churn_scores``, and ``change`` of the
    probability since ``earlier``, ``has_risen`` and ``action``; and ``by_date``.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        counts = self._rows("select max(as_of_date), max(horizon_days), count(*) from newest")
        self.as_of, self.horizon_days, self.customers = counts[0]
        #: The newest date that is at least a week older.
        self.earlier: date | None = self._rows("select earlier from dates")[0][0]
        #: Actions that are recommended for some customer.
        self.actions = [action for (action,) in self._rows("select distinct action from newest order by 1") if action]

    def by_date(self) -> pd.DataFrame:
        """Return ``customers``, ``expected_churners`` and ``value_at_risk`` by ``as_of_date`` and ``risk_band``."""
        return self._execute("select * from by_date order by as_of_date, risk_band").df()

    def total(self, filters: Filters) -> tuple[int, float]:
        """Return how many customers pass the filters, and their value at risk."""
        where, values = filters.where()
        return self._rows(f"select count(*), coalesce(sum(value_at_risk), 0) from newest where {where}", values)[0]

    def page(self, filters: Filters, order: str, page: int, size: int) -> pd.DataFrame:
        """Return one page, from 0 on, of the customers that pass the filters, in one of ``ORDERS``."""
        where, values = filters.where()
        limits = f"order by {ORDERS[order]}, customer_id limit {int(size)} offset {int(page * size)}"
        return self._execute(f"select * from newest where {where} {limits}", values).df()

    def csv(self, filters: Filters, order: str) -> bytes:
        """Return all customers that pass the filters, as CSV."""
        where, values = filters.where()
        rows = self._execute(f"select * from newest where {where} order by {ORDERS[order]}, customer_id", values)
        return csv(rows.to_arrow_table())

    def customer(self, customer_id: str) -> pd.Series | None:
        """Return one customer's newest score; None without one."""
        rows = self._execute("select * from newest where customer_id = ?", [customer_id]).df()
        return rows.iloc[0] if len(rows) else None

    def _execute(self, sql: str, parameters: Sequence = ()) -> duckdb.DuckDBPyConnection:
        # a cursor each: Streamlit draws every page in its own thread
        return self._connection.cursor().execute(sql, list(parameters))

    def _rows(self, sql: str, parameters: Sequence = ()) -> list[tuple]:
        return self._execute(sql, parameters).fetchall()


def open_scores() -> Scores:
    """Read the newest scores.

    Raises
    ------
    ChurnRadarError
        If there are none, or the file cannot be read.
    """
    file, actions = published("churn_scores"), published("retention_actions")
    if not file.exists():
        raise ChurnRadarError(f"{file}: no scores yet; run dbt build first")
    connection = duckdb.connect()
    if actions.exists():
        execute(connection, _ACTIONS, actions=actions)
    else:
        connection.execute(_NO_ACTIONS)
    execute(connection, _TABLES, scores=file)
    if not connection.execute("from newest limit 1").fetchall():
        raise ChurnRadarError(f"{file}: no customer was scored yet; run dbt build once there are orders")
    return Scores(connection)
