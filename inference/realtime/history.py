"""Everything known of one customer: the rows that the last build packed, and the rows of the events since.

Rows are kept by key, so adding an event twice, or one that the build has read, changes nothing.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Self

import numpy as np

from inference.event_log.events import Event, utc
from inference.realtime import activity
from inference.realtime.activity import Row, Visit
from inference.realtime.features import History, ShopFacts, at_midnight, exact
from inference.text.aspects import ASPECTS

EPOCH = datetime(1970, 1, 1)
#: Scores of a text without words.
NO_SCORES = {f"{aspect}_score": None for aspect in (*ASPECTS, "complaint")}


@dataclass(frozen=True)
class ReadText:
    """A text as the encoder reads it: its embedding (float32), ``complaint_score`` and ``<aspect>_score``."""

    vector: np.ndarray
    scores: Mapping[str, float]


@dataclass
class CustomerRows:
    """Rows of one customer by table and key; times are naive UTC."""

    #: Position in the event log of the newest event among these rows.
    through: int = 0
    #: The first order before the history window, and how many days with an order, and orders, there were before it.
    first_order_date: date | None = None
    order_days: int = 0
    orders_before: int = 0
    #: Last visit before the packed ones.
    last_visit_date: date | None = None
    #: As ``customer_features`` packs them.
    attributes: list[str] | None = None
    orders: dict[str, Row] = field(default_factory=dict)
    #: Rows by order.
    items: dict[str, list[Row]] = field(default_factory=dict)
    #: Visits that are packed as one row per day.
    visit_days: dict[date, Visit] = field(default_factory=dict)
    events: dict[str, Row] = field(default_factory=dict)
    reviews: dict[str, Row] = field(default_factory=dict)
    tickets: dict[str, Row] = field(default_factory=dict)
    contacts: dict[str, Row] = field(default_factory=dict)
    #: Embeddings by ``text_id``.
    vectors: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def unpack(cls, history: str | None, text_vectors: Sequence[float] | None, through: int | None = None) -> Self:
        """Read a row of ``online_histories``; None stands for a customer without one, who has no rows."""
        if history is None:
            return cls()
        packed = json.loads(history)
        rows = cls(
            through=through or 0,
            first_order_date=_date(packed["first_order_date"]),
            order_days=packed["order_days"] or 0,
            orders_before=packed["orders_before"] or 0,
            last_visit_date=_date(packed["last_visit_date"]),
            attributes=packed["attributes"],
            orders=_by_key(packed["orders"], "order_id"),
            visit_days={row["occurred_at"].date(): row for row in _rows(packed["visit_days"])},
            events=_by_key(packed["events"], "event_id"),
            reviews=_by_key(packed["reviews"], "review_id"),
            tickets=_by_key(packed["tickets"], "ticket_id"),
            contacts=_by_key(packed["contacts"], "touch_id"),
        )
        for item in _rows(packed["items"]):
            rows.items.setdefault(item["order_id"], []).append(item)
        if packed["pooled"]:
            names = packed["pooled"]["text_id"]
            matrix = np.asarray(text_vectors, dtype=np.float32).reshape(len(names), -1)
            rows.vectors = dict(zip(names, matrix, strict=True))
        return rows

    def add(self, event: Event, received_at: datetime, read_text: Callable[[str], ReadText]) -> None:
        """Add the rows of an event that was accepted at a moment (naive UTC); they replace rows of the same keys."""
        for order in event.rows.get("orders", ()):
            self._add_order(order, event.rows.get("order_items", ()), received_at)
        for row in event.rows.get("events", ()):
            self.events[row["event_id"]] = {**row, "occurred_at": utc(row["occurred_at"])}
        for row in event.rows.get("reviews", ()):
            written_at, product_name = utc(row["reviewed_at"]), self._product_name(row.get("product_id"))
            self.reviews[row["review_id"]] = {
                "review_id": row["review_id"],
                "reviewed_at": written_at,
                "known_at": max(written_at, received_at),
                "rating": row.get("rating"),
                **self._text(f"reviews:{row['review_id']}", row["review_text"], product_name, read_text),
            }
        for row in event.rows.get("support_tickets", ()):
            text_id, topic = f"support_tickets:{row['ticket_id']}", row.get("topic")
            self.tickets[row["ticket_id"]] = {
                "ticket_id": row["ticket_id"],
                "opened_at": utc(row["opened_at"]),
                "closed_at": utc(row["closed_at"]) if row.get("closed_at") is not None else None,
                "satisfaction": row.get("satisfaction"),
                "topic": topic,
                **self._text(text_id, row.get("ticket_text"), topic, read_text),
            }

    def newest(self) -> datetime | None:
        """Return when the customer's newest action was known; None without any."""
        moments = [row["known_at"] for row in (*self.orders.values(), *self.reviews.values())]
        moments += [row["occurred_at"] for row in self.events.values()]
        moments += [row["opened_at"] for row in self.tickets.values()]
        return max(moments, default=None)

    def at(self, as_of: date, shop: ShopFacts) -> History:
        """Return the rows known at a midnight (UTC), in the form that the features read."""
        orders, reviews = list(self._orders_known(as_of)), list(self.reviews.values())
        visits = activity.visits(self.visit_days, self.events.values(), self.last_visit_date, as_of)
        since = as_of - timedelta(days=shop.history_days)
        return History(
            orders=activity.order_columns([order for order in orders if order["ordered_at"].date() >= since]),
            visits=activity.visit_columns([visit for visit in visits if visit["day"] >= since], shop.event_types),
            products=activity.product_columns(orders, self.items, as_of),
            reviews=[{**row, "loaded_at": row["known_at"], "superseded_at": None} for row in reviews],
            tickets=list(self.tickets.values()),
            contacts=list(self.contacts.values()),
            events=list(activity.events(orders, visits, reviews, self.tickets.values(), self.contacts.values())),
            texts=activity.texts(reviews, self.tickets.values()),
            first_order_date=self.first_order_date,
        )

    def order_dates(self, as_of: date) -> tuple[date | None, date | None, int, int]:
        """Return the first and last date with a completed order, and how many such dates and orders there are."""
        dates = [o["ordered_at"].date() for o in self._orders_known(as_of) if o["status"] == "completed"]
        first = min([*dates, *([self.first_order_date] if self.first_order_date else [])], default=None)
        return first, max(dates, default=None), self.order_days + len(set(dates)), self.orders_before + len(dates)

    def _orders_known(self, as_of: date) -> Iterator[Row]:
        midnight = at_midnight(as_of)
        return (o for o in self.orders.values() if o["known_at"] < midnight and o["ordered_at"] < midnight)

    def _add_order(self, order: Mapping, items: Sequence[Mapping], received_at: datetime) -> None:
        key, ordered_at = order["order_id"], utc(order["ordered_at"])
        before = self.orders.get(key, {})
        own = [item for item in items if item["order_id"] == key]
        if own:
            self.items[key] = [
                {
                    **item,
                    "product_name": item.get("product_name") or item.get("category"),
                    "amount": exact(item["quantity"] * (item.get("unit_price") or 0.0)),
                }
                for item in own
            ]
        self.orders[key] = {
            "order_id": key,
            "ordered_at": ordered_at,
            "known_at": max(ordered_at, received_at),
            "status": order.get("status") or "completed",
            "amount": order.get("amount"),
            "discount_amount": order.get("discount_amount"),
            "has_coupon": order.get("coupon_code") is not None,
            "items": sum(exact(item["quantity"]) or 0.0 for item in own) if own else before.get("items"),
            "category": _top_category(self.items[key]) if own else before.get("category"),
        }

    def _text(self, text_id: str, text: str | None, subject: str | None, read_text: Callable) -> Row:
        """Return the columns of a review or ticket that hold its text, and keep its embedding."""
        if text is None or not text.strip(" "):
            return {"text_id": None, "text": None, "subject": None, **NO_SCORES}
        read = read_text(text)
        self.vectors[text_id] = read.vector
        return {"text_id": text_id, "text": text, "subject": subject, **read.scores}

    def _product_name(self, product_id: str | None) -> str | None:
        items = (item for items in self.items.values() for item in items)
        return next((item["product_name"] for item in items if item["product_id"] == product_id), None)


def _top_category(items: Sequence[Row]) -> str | None:
    """Return the category with the highest amount, the first by name among equals."""
    spent: dict[str, float] = {}
    for item in items:
        if item.get("category") is not None:
            spent[item["category"]] = spent.get(item["category"], 0.0) + (item["amount"] or 0.0)
    return min(spent, key=lambda name: (-spent[name], name)) if spent else None


def _by_key(columns: Mapping[str, list] | None, key: str) -> dict[str, Row]:
    return {row[key]: row for row in _rows(columns)}


def _rows(columns: Mapping[str, list] | None) -> list[Row]:
    """Return the rows of a packed table; its times are microseconds since 1970."""
    if not columns:
        return []
    read = {name: _moments(values) if name.endswith("_at") else values for name, values in columns.items()}
    return [dict(zip(read, row, strict=True)) for row in zip(*read.values(), strict=True)]


def _moments(values: list[int | None]) -> list[datetime | None]:
    return [None if value is None else EPOCH + timedelta(microseconds=value) for value in values]


def _date(value: str | None) -> date | None:
    return None if value is None else date.fromisoformat(value)
