"""Tables of one customer that features read, from that customer's rows: what the intermediate dbt models do in SQL."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any

import numpy as np

from inference.realtime.features import at_midnight, exact

Row = dict[str, Any]
#: Visits of one day: ``day``, ``occurred_at`` (the last), ``events``, ``sessions`` and ``<type>_events``.
Visit = dict[str, Any]

#: Event types of ``int_customer_events`` by order status.
ORDER_EVENTS = {"completed": "order", "cancelled": "cancelled", "returned": "returned", "refund": "other"}
#: Statuses whose amounts add up to what was spent; those of refunds are negative.
PAID = ("completed", "refund")
#: The category of a visit is the first of these event types that occurred.
VISIT_CATEGORIES = ("cart_add", "wishlist", "search", "view")
#: Age of the oldest items that features read, in days.
PRODUCT_DAYS = 90


def visits(
    visit_days: Mapping[date, Visit], events: Iterable[Row], last_visit_date: date | None, as_of: date
) -> list[Visit]:
    """Return the visits before an as-of date, one row per day: days that the build packed, and browsing events.

    The row of the last visit before the packed days has ``packed`` False, as nothing but the date is known.
    """
    days = {day: dict(visit) for day, visit in visit_days.items()}
    sessions: dict[date, set] = {}
    for event in events:
        day, name = event["occurred_at"].date(), f"{event['event_type']}_events"
        visit = days.setdefault(day, {"occurred_at": event["occurred_at"], "events": 0, "sessions": 0})
        visit["occurred_at"] = max(visit["occurred_at"], event["occurred_at"])
        visit["events"] += 1
        visit[name] = visit.get(name, 0) + 1
        if event.get("session_id") is not None and event["session_id"] not in sessions.setdefault(day, set()):
            sessions[day].add(event["session_id"])
            visit["sessions"] += 1
    if last_visit_date:
        last = {"occurred_at": at_midnight(last_visit_date), "events": 1, "sessions": 0, "packed": False}
        days.setdefault(last_visit_date, last)
    return [{**visit, "day": day} for day, visit in days.items() if day < as_of]


def order_columns(orders: Sequence[Row]) -> dict[str, np.ndarray]:
    """Return ``int_customer_orders`` by column, with what only completed orders count: unknown (NaN) or 0 elsewhere."""
    completed = np.array([order["status"] == "completed" for order in orders], dtype=bool)
    spent = np.array([order["status"] in PAID for order in orders], dtype=bool)

    def numbers(values: Iterable[float | None]) -> np.ndarray:
        return np.array(list(values), dtype=float)  # None becomes NaN

    of_completed = {
        "amount": numbers(order["amount"] for order in orders),
        "discount_amount": numbers(exact(order["discount_amount"]) for order in orders),
        "items": numbers(order["items"] for order in orders),
        "hour_of_day": numbers(_hour(order["ordered_at"]) for order in orders),
    }
    return {
        "activity_date": np.array([order["ordered_at"].date() for order in orders], dtype="datetime64[D]"),
        "completed": completed.astype(float),
        "cancelled": np.array([order["status"] == "cancelled" for order in orders], dtype=float),
        "returned": np.array([order["status"] == "returned" for order in orders], dtype=float),
        "has_coupon": np.where(completed, numbers(order["has_coupon"] for order in orders), 0.0),
        "spend": np.where(spent, numbers(exact(order["amount"]) for order in orders), 0.0),
        **{name: np.where(completed, values, np.nan) for name, values in of_completed.items()},
    }


def visit_columns(visits: Sequence[Visit], event_types: Sequence[str]) -> dict[str, np.ndarray]:
    """Return ``int_customer_daily_events`` by column."""
    names = [f"{event_type}_events" for event_type in event_types]
    counts = {
        name: np.array([visit.get(name, 0) for visit in visits], dtype=float) for name in ("events", "sessions", *names)
    }
    packed = np.array([visit.get("packed", True) for visit in visits], dtype=bool)
    counts["other_events"] = np.where(packed, counts["events"] - sum(counts[name] for name in names), 0.0)
    return {"activity_date": np.array([visit["day"] for visit in visits], dtype="datetime64[D]"), **counts}


def product_columns(orders: Iterable[Row], items: Mapping[str, Sequence[Row]], as_of: date) -> dict[str, np.ndarray]:
    """Return the items of completed orders of the last ``PRODUCT_DAYS`` days by column."""
    bought = [
        (order["ordered_at"].date(), item)
        for order in orders
        if order["status"] == "completed" and (as_of - order["ordered_at"].date()).days <= PRODUCT_DAYS
        for item in items.get(order["order_id"], ())
    ]
    return {
        "activity_date": np.array([day for day, _ in bought], dtype="datetime64[D]"),
        "product_id": np.array([item["product_id"] for _, item in bought], dtype=object),
        "category": np.array([item.get("category") for _, item in bought], dtype=object),
        "amount": np.array([item["amount"] or 0.0 for _, item in bought], dtype=float),
    }


def events(
    orders: Iterable[Row],
    visits: Iterable[Visit],
    reviews: Iterable[Row],
    tickets: Iterable[Row],
    contacts: Iterable[Row],
) -> Iterator[Row]:
    """Yield the rows of ``int_customer_events``; the amount of a review is its rating."""
    for row in orders:
        kind = ORDER_EVENTS[row["status"]]
        yield _event(kind, row["ordered_at"], row["known_at"], amount=row["amount"], category=row["category"])
    for visit in visits:
        if visit.get("packed", True):
            category = next((name for name in VISIT_CATEGORIES if visit.get(f"{name}_events")), "other")
            yield _event("visit", visit["occurred_at"], amount=float(visit["events"]), category=category)
    for row in reviews:
        yield _event("review", row["reviewed_at"], row["known_at"], amount=row["rating"])
    for row in tickets:
        yield _event("ticket", row["opened_at"], category=row["topic"])
    for row in contacts:
        if row["action"] != "holdout":
            yield _event("contact", row["touched_at"], category=row["action"])
        if row["redeemed_at"]:
            yield _event("redemption", row["redeemed_at"], category=row["action"])


def texts(reviews: Iterable[Row], tickets: Iterable[Row]) -> list[Row]:
    """Return ``int_texts``: the texts of reviews and tickets."""
    written = [(row, row["reviewed_at"], row["known_at"], row["rating"]) for row in reviews]
    written += [(row, row["opened_at"], row["opened_at"], None) for row in tickets]
    return [
        {
            "text_id": row["text_id"],
            "text": row["text"],
            "subject": row.get("subject", row.get("topic")),
            "written_at": written_at,
            "known_at": known_at,
            "superseded_at": None,
            "rating": rating,
        }
        for row, written_at, known_at, rating in written
        if row["text"] is not None
    ]


def _hour(moment: datetime) -> int | None:
    """Return the hour of an order; None at midnight sharp, as such an order has a date, but no time of day."""
    return None if moment == at_midnight(moment.date()) else moment.hour


def _event(
    kind: str,
    occurred_at: datetime,
    known_at: datetime | None = None,
    amount: float | None = None,
    category: str | None = None,
) -> Row:
    return {
        "event_type": kind,
        "occurred_at": occurred_at,
        "known_at": known_at or occurred_at,
        "superseded_at": None,
        "amount": amount,
        "category": category,
    }
