"""The newest scores, in memory: counted, filtered, sorted and paged by DuckDB, so that a page gets what it shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.csv

from inference.desk.data import ask
from inference.errors import ChurnRadarError
from inference.home import published

#: Risk bands, the highest first.
BANDS = ("critical", "high", "medium", "low")
#: How the list may be sorted.
ORDERS = {
    "value at risk": "value_at_risk desc",
    "churn probability": "churn_probability desc",
    "rise since last week": "change desc nulls last",
    "expected spend": "expected_spend desc",
}
#: Days that the trend goes back.
TREND_DAYS = 91

#: Of a date that several versions have scored, the one that was asked last counts.
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

    said as (
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
        said.*,
        said.churn_probability - before.churn_probability as change,
        coalesce(list_position({list(BANDS)}, said.risk_band) < before.place, false) as has_risen,
        actions.action
    from said
    left join before using (customer_id)
    left join actions using (customer_id, as_of_date)
"""

#: Of several campaigns, the action that is expected to bring most.
_ACTIONS = """
    create table actions as
    select customer_id, as_of_date, arg_max(action, coalesce(expected_profit, 0)) as action
    from {actions}
    group by customer_id, as_of_date
"""
_NO_ACTIONS = "create table actions (customer_id varchar, as_of_date date, action varchar)"


@dataclass(frozen=True)
class Filters:
    """Which customers the list holds; nothing is asked where a field is empty.

    Parameters
    ----------
    bands, actions : tuple of str
        Risk bands; recommended actions.
    customer : str
        Part of an id.
    reason : str
        Words of a reason, in any case.
    least_value : float
        Lowest value at risk.
    only_risen : bool
        Only those whose band is higher than a week before.
    """

    bands: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    customer: str = ""
    reason: str = ""
    least_value: float = 0.0
    only_risen: bool = False

    def where(self) -> tuple[str, list]:
        """Return a condition and the values of its question marks."""
        asked: list[tuple[str, list]] = [("true", [])]
        for column, values in (("risk_band", self.bands), ("action", self.actions)):
            if values:
                asked.append((f"list_contains(?, {column})", [list(values)]))
        if self.customer.strip():
            asked.append(("contains(lower(customer_id), lower(?))", [self.customer.strip()]))
        if self.reason.strip():
            told = "lower(concat_ws(' ', reason_1, reason_2, reason_3))"
            asked.append((f"contains({told}, lower(?))", [self.reason.strip()]))
        if self.least_value > 0:
            asked.append(("value_at_risk >= ?", [self.least_value]))
        if self.only_risen:
            asked.append(("has_risen", []))
        return " and ".join(sql for sql, _ in asked), [value for _, values in asked for value in values]


class Scores:
    """The newest scores, those of a week before and a trend, as one version of the file has them.

    Parameters
    ----------
    connection : DuckDBPyConnection
        Holds ``newest``, one row per customer: the columns of ``churn_scores``, and ``change`` of the probability
        since ``earlier``, ``has_risen`` and ``action``; and ``by_date``.

    Attributes
    ----------
    as_of, earlier : date
        The newest date, and the newest that is at least a week older; None where there is none.
    horizon_days, customers : int
        Length of the question, and how many were asked.
    model_version : str
        Who answered.
    actions : list of str
        Actions that are recommended to anybody.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self.as_of, self.horizon_days, self.customers, self.model_version = self._rows(
            "select max(as_of_date), max(horizon_days), count(*), max(model_version) from newest"
        )[0]
        self.earlier: date | None = self._rows("select earlier from dates")[0][0]
        self.actions = [action for (action,) in self._rows("select distinct action from newest order by 1") if action]

    def by_date(self) -> pd.DataFrame:
        """Return ``customers``, ``expected_churners`` and ``value_at_risk`` by ``as_of_date`` and ``risk_band``."""
        return self._ask("select * from by_date order by as_of_date, risk_band").df()

    def total(self, filters: Filters) -> tuple[int, float]:
        """Return how many customers pass the filters, and their value at risk."""
        where, values = filters.where()
        return self._rows(f"select count(*), coalesce(sum(value_at_risk), 0) from newest where {where}", values)[0]

    def page(self, filters: Filters, order: str, page: int, size: int) -> pd.DataFrame:
        """Return one page of the customers that pass the filters.

        Parameters
        ----------
        filters : Filters
            Who is asked for.
        order : str
            A name in ``ORDERS``.
        page : int
            From 0 on.
        size : int
            Customers on a page.
        """
        where, values = filters.where()
        limits = f"order by {ORDERS[order]}, customer_id limit {int(size)} offset {int(page * size)}"
        return self._ask(f"select * from newest where {where} {limits}", values).df()

    def csv(self, filters: Filters, order: str) -> bytes:
        """Return all customers that pass the filters, as CSV."""
        where, values = filters.where()
        found = self._ask(f"select * from newest where {where} order by {ORDERS[order]}, customer_id", values)
        sink = pa.BufferOutputStream()
        pyarrow.csv.write_csv(found.to_arrow_table(), sink)
        return sink.getvalue().to_pybytes()

    def customer(self, customer_id: str) -> pd.Series | None:
        """Return one customer's newest score; None where there is none."""
        found = self._ask("select * from newest where customer_id = ?", [customer_id]).df()
        return found.iloc[0] if len(found) else None

    def _ask(self, sql: str, parameters: Sequence = ()) -> duckdb.DuckDBPyConnection:
        # pages are drawn in threads of their own
        return self._connection.cursor().execute(sql, list(parameters))

    def _rows(self, sql: str, parameters: Sequence = ()) -> list[tuple]:
        return self._ask(sql, parameters).fetchall()


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
        ask(connection, _ACTIONS, actions=actions)
    else:
        connection.execute(_NO_ACTIONS)
    ask(connection, _TABLES, scores=file)
    if not connection.execute("select count(*) from newest").fetchone()[0]:
        raise ChurnRadarError(f"{file}: no customer was scored yet; run dbt build once there are orders")
    return Scores(connection)
