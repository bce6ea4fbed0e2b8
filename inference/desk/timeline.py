"""What happened with one customer, in the order of time, and what was said of them."""

import json
from datetime import datetime

import pandas as pd

from inference.desk.data import exported, query
from inference.home import published

#: What happens with a customer, in the order in which it is drawn.
KINDS = ("order", "visit", "review", "ticket", "contact")
COLUMNS = ("happened_at", "kind", "about")


def history(customer_id: str) -> pd.Series | None:
    """Return a customer's row of ``online_histories``: ``history`` and ``text_vectors``; None where there is none."""
    if not exported("online_histories").exists():
        return None
    found = query(
        "select history, text_vectors from {histories} where customer_id = ?",
        [customer_id],
        histories=exported("online_histories"),
    )
    return found.iloc[0] if len(found) else None


def said(customer_id: str) -> pd.DataFrame:
    """Return a customer's rows of ``churn_scores``, the oldest date first; of a date, what was said last."""
    return query(
        """
        select * from {scores} where customer_id = ?
        qualify row_number() over (partition by as_of_date order by scored_at desc) = 1
        order by as_of_date
        """,
        [customer_id],
        scores=published("churn_scores"),
    )


def advice(customer_id: str, as_of: datetime) -> pd.DataFrame:
    """Return a customer's rows of ``retention_actions`` at a date, the most profitable first."""
    if not published("retention_actions").exists():
        return pd.DataFrame()
    return query(
        "select * from {actions} where customer_id = ? and as_of_date = ? order by expected_profit desc nulls last",
        [customer_id, as_of],
        actions=published("retention_actions"),
    )


def quotes(customer_id: str) -> dict[str, str]:
    """Return what may be shown of a customer's texts, by ``text_id``: their beginnings, with personal data masked."""
    if not exported("searchable_texts").exists():
        return {}
    found = query(
        "select text_id, quote from {texts} where customer_id = ?", [customer_id], texts=exported("searchable_texts")
    )
    return dict(zip(found.text_id, found.quote, strict=True))


def happened(packed: str, quoted: dict[str, str]) -> pd.DataFrame:
    """List what happened with a customer.

    Parameters
    ----------
    packed : str
        ``history`` of ``online_histories``.
    quoted : dict of str to str
        What may be shown of texts, by ``text_id``.

    Returns
    -------
    DataFrame
        ``happened_at`` (naive UTC), ``kind`` (one of ``KINDS``) and ``about``, in words; the newest first.
    """
    told = json.loads(packed)
    rows = [(row["ordered_at"], "order", _order(row)) for row in _rows(told["orders"])]
    rows += [(row["occurred_at"], "visit", _visits(row["events"])) for row in _rows(told["visit_days"])]
    rows += [(moment, "visit", _visits(n)) for moment, n in _last_visits(told["events"])]
    rows += [(row["reviewed_at"], "review", _review(row, quoted)) for row in _rows(told["reviews"])]
    rows += [(row["opened_at"], "ticket", _ticket(row, quoted)) for row in _rows(told["tickets"])]
    rows += [
        (row["touched_at"], "contact", row["action"] + (", redeemed" if row["redeemed_at"] else ""))
        for row in _rows(told["contacts"])
        if row["action"] != "holdout"  # nobody contacted them
    ]
    table = pd.DataFrame(rows, columns=COLUMNS)
    table["happened_at"] = pd.to_datetime(table.happened_at, unit="us")
    return table.sort_values("happened_at", ascending=False, ignore_index=True)


def _rows(columns: dict[str, list] | None) -> list[dict]:
    return (
        [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)] if columns else []
    )


def _last_visits(columns: dict[str, list] | None) -> list[tuple[int, int]]:
    """Events of the last days one by one: the newest moment of each day, and how many."""
    days: dict[int, list[int]] = {}
    for row in _rows(columns):
        days.setdefault(row["occurred_at"] // 86_400_000_000, []).append(row["occurred_at"])
    return [(max(moments), len(moments)) for moments in days.values()]


def _order(row: dict) -> str:
    parts = ["" if row["amount"] is None else f"{row['amount']:,.2f}"]
    if row["items"]:
        parts.append(_count(row["items"], "item"))
    parts += [row["category"] or "", "with a coupon" if row["has_coupon"] else ""]
    parts.append("" if row["status"] == "completed" else row["status"])
    return ", ".join(part for part in parts if part)


def _visits(events: float) -> str:
    return _count(events, "event")


def _review(row: dict, quoted: dict[str, str]) -> str:
    stars = "" if row["rating"] is None else f"{row['rating']:g} of 5"
    return " ".join(part for part in (stars, _quote(row["text_id"], quoted)) if part) or "without words or rating"


def _ticket(row: dict, quoted: dict[str, str]) -> str:
    if row["closed_at"] is None:
        ending = "still open"
    else:
        ending = f"closed after {_count((row['closed_at'] - row['opened_at']) // 3_600_000_000, 'hour')}"
    about = " ".join(part for part in (row["topic"], _quote(row["text_id"], quoted)) if part)
    return f"{about}; {ending}" if about else ending


def _quote(text_id: str | None, quoted: dict[str, str]) -> str:
    return f"“{quoted[text_id]}”" if text_id in quoted else ""


def _count(number: float, thing: str) -> str:
    return f"{number:g} {thing}{'' if number == 1 else 's'}"
