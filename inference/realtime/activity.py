"""Tables of one customer that features read, from that customer's rows: what the intermediate dbt models do in SQL."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any

import numpy as np

from inference.realtime.features import PARTS, at_midnight, exact

Row = dict[str, Any]
#: Visits of one day: ``day``, ``occurred_at`` (the last), ``events``, ``sessions`` and ``<type>_events``.
Visit = dict[str, Any]

#: Event types of ``int_customer_events`` by order status.
ORDER_EVENTS = {"completed": "order", "cancelled": "cancelled", "returned": "returned"}
#: The category of a visit is the first of these event types that occurred.
VISIT_CATEGORIES = ("cart_add", "wishlist", "search", "view")
#: Days of ``int_customer_daily_products``.
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


def daily_activity(orders: Sequence[Row], visits: Sequence[Visit], event_types: Sequence[str]) -> dict[str, np.ndarray]:
    """Return ``int_customer_daily_activity`` by column: one row per order, then one per day with a visit."""
    no_orders, unknown = np.zeros(len(visits)), np.full(len(visits), np.nan)
    completed = np.array([order["status"] == "completed" for order in orders], dtype=bool)
    six_hours = np.array([order["ordered_at"].hour // 6 for order in orders], dtype=int)
    days = [order["ordered_at"].date() for order in orders] + [visit["day"] for visit in visits]

    def numbers(name: str) -> np.ndarray:
        return np.array([order[name] for order in orders], dtype=float)  # None becomes NaN

    def exact_numbers(name: str) -> np.ndarray:
        return np.array([exact(order[name]) for order in orders], dtype=float)

    def of_status(status: str) -> np.ndarray:
        return np.array([order["status"] == status for order in orders], dtype=float)

    of_orders = {
        "orders": (completed, no_orders),
        "cancelled_orders": (of_status("cancelled"), no_orders),
        "returned_orders": (of_status("returned"), no_orders),
        "coupon_orders": (np.where(completed, numbers("has_coupon"), 0.0), no_orders),
        "amount": (np.where(completed, exact_numbers("amount"), 0.0), no_orders),
        "largest_order_amount": (np.where(completed, numbers("amount"), np.nan), unknown),
        "discount_amount": (np.where(completed, exact_numbers("discount_amount"), np.nan), unknown),
        "items": (np.where(completed, numbers("items"), np.nan), unknown),
        **{f"{part}_orders": (completed & (six_hours == n), no_orders) for n, part in enumerate(PARTS)},
    }
    names = {f"{event_type}_events" for event_type in event_types}
    of_visits = {name: [visit.get(name, 0) for visit in visits] for name in ("events", "sessions", *names)}
    of_visits["other_events"] = [
        visit["events"] - sum(visit.get(name, 0) for name in names) if visit.get("packed", True) else 0
        for visit in visits
    ]
    return {
        "activity_date": np.array(days, dtype="datetime64[D]"),
        **{name: np.concatenate([values.astype(float), rest]) for name, (values, rest) in of_orders.items()},
        **{name: np.array([0.0] * len(orders) + values, dtype=float) for name, values in of_visits.items()},
    }


def daily_products(orders: Iterable[Row], items: Mapping[str, Sequence[Row]], as_of: date) -> dict[str, np.ndarray]:
    """Return ``int_customer_daily_products`` by column, of completed orders of the last ``PRODUCT_DAYS`` days."""
    bought: dict[tuple[date, str], Row] = {}
    for order in orders:
        day = order["ordered_at"].date()
        if order["status"] != "completed" or (as_of - day).days > PRODUCT_DAYS:
            continue
        for item in items.get(order["order_id"], ()):
            group = bought.setdefault((day, item["product_id"]), {"category": None, "amount": 0.0})
            group["category"] = max(filter(None, (group["category"], item.get("category"))), default=None)
            group["amount"] += item["amount"] or 0.0
    return {
        "activity_date": np.array([day for day, _ in bought], dtype="datetime64[D]"),
        "product_id": np.array([product for _, product in bought], dtype=object),
        "category": np.array([group["category"] for group in bought.values()], dtype=object),
        "amount": np.array([group["amount"] for group in bought.values()], dtype=float),
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
