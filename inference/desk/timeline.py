"""Events, scores, recommended actions and texts of one customer."""

from datetime import date, datetime, timedelta

import pandas as pd

from inference.desk.data import exported, query, query_if_built
from inference.desk.format import counted
from inference.home import published
from inference.realtime import activity
from inference.realtime.history import CustomerRows

#: Kinds of events, in the order of the chart.
KINDS = ("order", "visit", "review", "ticket", "contact")
COLUMNS = ("happened_at", "kind", "about")


def history(customer_id: str) -> CustomerRows | None:
    """Return what the last build packed of a customer in ``online_histories``; None if that is nothing."""
    sql = "select history, text_vectors from {table} where customer_id = ?"
    rows = query_if_built(exported("online_histories"), sql, [customer_id])
    return None if rows is None else CustomerRows.unpack(rows.history[0], rows.text_vectors[0])


def scores(customer_id: str) -> pd.DataFrame:
    """Return a customer's rows of ``churn_scores``: the last score of each date, oldest date first."""
    return query(
        """
        select * from {scores} where customer_id = ?
        qualify row_number() over (partition by as_of_date order by scored_at desc) = 1
        order by as_of_date
        """,
        [customer_id],
        scores=published("churn_scores"),
    )


def actions(customer_id: str, as_of: datetime) -> pd.DataFrame:
    """Return a customer's rows of ``retention_actions`` at a date, the most profitable first."""
    sql = "select * from {table} where customer_id = ? and as_of_date = ? order by expected_profit desc nulls last"
    rows = query_if_built(published("retention_actions"), sql, [customer_id, as_of])
    return pd.DataFrame() if rows is None else rows


def quotes(customer_id: str) -> dict[str, str]:
    """Return the beginnings of a customer's texts by ``text_id``, with personal data masked."""
    sql = "select text_id, quote from {table} where customer_id = ?"
    rows = query_if_built(exported("searchable_texts"), sql, [customer_id])
    return {} if rows is None else dict(zip(rows.text_id, rows.quote, strict=True))


def events(customer: CustomerRows, quoted: dict[str, str]) -> pd.DataFrame:
    """List the events of a customer, newest first, with the texts that ``quotes`` returned.

    Returns
    -------
    DataFrame
        ``happened_at`` (naive UTC), ``kind`` (one of ``KINDS``) and ``about``, in words.
    """
    visits = activity.visits(customer.visit_days, customer.events.values(), last_visit_date=None, as_of=date.max)
    rows = [(row["ordered_at"], "order", _order(row)) for row in customer.orders.values()]
    rows += [(row["occurred_at"], "visit", counted(row["events"], "event")) for row in visits]
    rows += [(row["reviewed_at"], "review", _review(row, quoted)) for row in customer.reviews.values()]
    rows += [(row["opened_at"], "ticket", _ticket(row, quoted)) for row in customer.tickets.values()]
    rows += [
        (row["touched_at"], "contact", row["action"] + (", redeemed" if row["redeemed_at"] else ""))
        for row in customer.contacts.values()
        if row["action"] != "holdout"  # not contacted on purpose
    ]
    table = pd.DataFrame(rows, columns=COLUMNS)
    table["happened_at"] = pd.to_datetime(table.happened_at)
    return table.sort_values("happened_at", ascending=False, ignore_index=True)


def _order(row: dict) -> str:
    parts = ["" if row["amount"] is None else f"{row['amount']:,.2f}"]
    if row["items"]:
        parts.append(counted(row["items"], "item"))
    parts += [row["category"] or "", "with a coupon" if row["has_coupon"] else ""]
    parts.append("" if row["status"] == "completed" else row["status"])
    return ", ".join(part for part in parts if part)


def _review(row: dict, quoted: dict[str, str]) -> str:
    stars = "" if row["rating"] is None else f"{row['rating']:g} of 5"
    return " ".join(part for part in (stars, _quote(row["text_id"], quoted)) if part) or "without text or rating"


def _ticket(row: dict, quoted: dict[str, str]) -> str:
    if row["closed_at"] is None:
        ending = "still open"
    else:
        ending = f"closed after {counted((row['closed_at'] - row['opened_at']) // timedelta(hours=1), 'hour')}"
    about = " ".join(part for part in (row["topic"], _quote(row["text_id"], quoted)) if part)
    return f"{about}; {ending}" if about else ending


def _quote(text_id: str | None, quoted: dict[str, str]) -> str:
    return f"“{quoted[text_id]}”" if text_id in quoted else ""
