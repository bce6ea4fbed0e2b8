"""What happened with one customer: the rows that the last build packed, and those of the events since.

Rows are held by their keys, so that an event that comes twice, or that a build has read already, changes nothing.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

import numpy as np

from inference.realtime.features import PARTS, History, ShopFacts, exact
from inference.text.aspects import ASPECTS
from inference.warehouse.event_log import Event

EPOCH = datetime(1970, 1, 1)
#: Statuses of orders and what the model's sequences call them.
STATUSES = {"completed": "order", "cancelled": "cancelled", "returned": "returned"}
#: What a day's visit is called by, the first that was done.
VISIT_CATEGORIES = ("cart_add", "wishlist", "search", "view")
#: What is known of the words of a text that has none.
UNREAD = {f"{aspect}_score": None for aspect in (*ASPECTS, "complaint")}

Row = dict[str, object]


@dataclass(frozen=True)
class ReadText:
    """What the encoder makes of a text.

    Parameters
    ----------
    vector : ndarray of shape (dimension,), float32
        Its embedding.
    scores : mapping of str to float
        ``complaint_score`` and ``<aspect>_score``.
    """

    vector: np.ndarray
    scores: Mapping[str, float]


@dataclass
class CustomerRows:
    """Rows of one customer by table and key; moments are naive UTC.

    Parameters
    ----------
    through : int
        Position in the log of the newest event that is in here.
    first_order_date : date or None
        Of the orders before the history window; ``order_days`` and ``orders_before`` count those.
    last_visit_date : date or None
        Of the visits before those that are packed.
    attributes : list of str or None
        As ``customer_features`` packs them.
    orders, items, events, reviews, tickets, contacts : dict
        Rows by key; items are lists of rows by order.
    visit_days : dict
        Visits by day, where they are packed by the day.
    vectors : dict of str to ndarray
        Embeddings by text.
    """

    through: int = 0
    first_order_date: date | None = None
    order_days: int = 0
    orders_before: int = 0
    last_visit_date: date | None = None
    attributes: list[str] | None = None
    orders: dict[str, Row] = field(default_factory=dict)
    items: dict[str, list[Row]] = field(default_factory=dict)
    visit_days: dict[date, Row] = field(default_factory=dict)
    events: dict[str, Row] = field(default_factory=dict)
    reviews: dict[str, Row] = field(default_factory=dict)
    tickets: dict[str, Row] = field(default_factory=dict)
    contacts: dict[str, Row] = field(default_factory=dict)
    vectors: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def unpack(
        cls, history: str | None, text_vectors: Sequence[float] | None, through: int | None = None
    ) -> "CustomerRows":
        """Read a row of ``online_histories``; a customer without one has no rows."""
        if history is None:
            return cls()
        told = json.loads(history)
        rows = cls(
            through=through or 0,
            first_order_date=_day(told["first_order_date"]),
            order_days=told["order_days"] or 0,
            orders_before=told["orders_before"] or 0,
            last_visit_date=_day(told["last_visit_date"]),
            attributes=told["attributes"],
            orders=_keyed(told["orders"], "order_id"),
            visit_days={row["occurred_at"].date(): row for row in _rows(told["visit_days"])},
            events=_keyed(told["events"], "event_id"),
            reviews=_keyed(told["reviews"], "review_id"),
            tickets=_keyed(told["tickets"], "ticket_id"),
            contacts=_keyed(told["contacts"], "touch_id"),
        )
        for item in _rows(told["items"]):
            rows.items.setdefault(item["order_id"], []).append(item)
        if told["pooled"]:
            names = told["pooled"]["text_id"]
            matrix = np.asarray(text_vectors, dtype=np.float32).reshape(len(names), -1)
            rows.vectors = dict(zip(names, matrix, strict=True))
        return rows

    def add(self, event: Event, received_at: datetime, read_text: Callable[[str], ReadText]) -> None:
        """Add the rows of an event; those of keys that are there take their places.

        Parameters
        ----------
        event : Event
            Of this customer.
        received_at : datetime
            When it was accepted, naive UTC.
        read_text : callable
            Encodes what was written; only asked where there are words.
        """
        for order in event.rows.get("orders", ()):
            self._add_order(order, event.rows.get("order_items", ()), received_at)
        for row in event.rows.get("events", ()):
            moment = _moment(row["occurred_at"])
            self.events[row["event_id"]] = {**row, "occurred_at": moment}
        for row in event.rows.get("reviews", ()):
            moment = _moment(row["reviewed_at"])
            self.reviews[row["review_id"]] = {
                "review_id": row["review_id"],
                "reviewed_at": moment,
                "known_at": max(moment, received_at),
                "rating": row.get("rating"),
                **self._written(
                    f"reviews:{row['review_id']}",
                    row["review_text"],
                    self._product_name(row.get("product_id")),
                    read_text,
                ),
            }
        for row in event.rows.get("support_tickets", ()):
            self.tickets[row["ticket_id"]] = {
                "ticket_id": row["ticket_id"],
                "opened_at": _moment(row["opened_at"]),
                "closed_at": _moment(row.get("closed_at")),
                "satisfaction": row.get("satisfaction"),
                "topic": row.get("topic"),
                **self._written(
                    f"support_tickets:{row['ticket_id']}", row.get("ticket_text"), row.get("topic"), read_text
                ),
            }

    def newest(self) -> datetime | None:
        """Return when the newest thing that the customer did was known."""
        moments = [row["known_at"] for row in (*self.orders.values(), *self.reviews.values())]
        moments += [row["occurred_at"] for row in self.events.values()]
        moments += [row["opened_at"] for row in self.tickets.values()]
        return max(moments, default=None)

    def at(self, as_of: date, shop: ShopFacts) -> History:
        """Return what was known at a midnight, as the features read it.

        Parameters
        ----------
        as_of : date
            Midnight (UTC), exclusive.
        shop : ShopFacts
            Settings.
        """
        midnight = datetime(as_of.year, as_of.month, as_of.day)
        known = [o for o in self.orders.values() if o["known_at"] < midnight and o["ordered_at"] < midnight]
        visits = self._visits(as_of)
        since = as_of - timedelta(days=shop.history_days)
        return History(
            daily=_daily(
                [order for order in known if order["ordered_at"].date() >= since],
                [visit for visit in visits if visit["day"] >= since],
                shop.event_types,
            ),
            products=self._products([order for order in known if order["status"] == "completed"], as_of),
            reviews=[{**row, "loaded_at": row["known_at"], "superseded_at": None} for row in self.reviews.values()],
            tickets=list(self.tickets.values()),
            contacts=list(self.contacts.values()),
            events=[*_order_events(known), *_visit_events(visits), *self._other_events()],
            texts=self._texts(),
            first_order_date=self.first_order_date,
        )

    def order_dates(self, as_of: date) -> tuple[date | None, date | None, int, int]:
        """First and last day with a completed order known at a midnight, how many such days, and how many orders."""
        midnight = datetime(as_of.year, as_of.month, as_of.day)
        completed = [
            order["ordered_at"].date()
            for order in self.orders.values()
            if order["status"] == "completed" and order["known_at"] < midnight and order["ordered_at"] < midnight
        ]
        first = min([*completed, *([self.first_order_date] if self.first_order_date else [])], default=None)
        days = self.order_days + len(set(completed))
        return first, max(completed, default=None), days, self.orders_before + len(completed)

    def _add_order(self, order: Mapping, items: Sequence[Mapping], received_at: datetime) -> None:
        key, moment = order["order_id"], _moment(order["ordered_at"])
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
            "ordered_at": moment,
            "known_at": max(moment, received_at),
            "status": order.get("status") or "completed",
            "amount": order.get("amount"),
            "discount_amount": order.get("discount_amount"),
            "has_coupon": order.get("coupon_code") is not None,
            "items": sum(exact(item["quantity"]) for item in own) if own else before.get("items"),
            "category": _top_category(self.items[key]) if own else before.get("category"),
        }

    def _written(self, text_id: str, text: str | None, subject: str | None, read_text: Callable) -> Row:
        if text is None or not text.strip(" "):
            return {"text_id": None, "text": None, "subject": None, **UNREAD}
        read = read_text(text)
        self.vectors[text_id] = read.vector
        return {"text_id": text_id, "text": text, "subject": subject, **read.scores}

    def _product_name(self, product_id: str | None) -> str | None:
        for items in self.items.values():
            for item in items:
                if item["product_id"] == product_id:
                    return item["product_name"]
        return None

    def _products(self, completed: list[Row], as_of: date) -> dict[str, np.ndarray]:
        bought: dict[tuple, Row] = {}
        for order in completed:
            day = order["ordered_at"].date()
            if (as_of - day).days > 90:
                continue
            for item in self.items.get(order["order_id"], ()):
                group = bought.setdefault((day, item["product_id"]), {"category": None, "amount": 0.0})
                group["category"] = max(filter(None, (group["category"], item.get("category"))), default=None)
                group["amount"] += item["amount"] or 0.0
        return {
            "activity_date": np.array([day for day, _ in bought], dtype="datetime64[D]"),
            "product_id": np.array([product for _, product in bought], dtype=object),
            "category": np.array([group["category"] for group in bought.values()], dtype=object),
            "amount": np.array([group["amount"] for group in bought.values()], dtype=float),
        }

    def _visits(self, as_of: date) -> list[Row]:
        days = {day: dict(row) for day, row in self.visit_days.items()}
        sessions: dict[date, set] = {}
        for row in self.events.values():
            day = row["occurred_at"].date()
            visit = days.setdefault(day, {"occurred_at": row["occurred_at"], "events": 0, "sessions": 0})
            visit["occurred_at"] = max(visit["occurred_at"], row["occurred_at"])
            visit["events"] += 1
            name = f"{row['event_type']}_events"
            visit[name] = visit.get(name, 0) + 1
            if row.get("session_id") is not None and row["session_id"] not in sessions.setdefault(day, set()):
                sessions[day].add(row["session_id"])
                visit["sessions"] += 1
        if self.last_visit_date:
            moment = datetime.combine(self.last_visit_date, datetime.min.time())
            days.setdefault(self.last_visit_date, {"occurred_at": moment, "events": 1, "sessions": 0, "packed": False})
        return [{**row, "day": day} for day, row in days.items() if day < as_of]

    def _other_events(self) -> list[Row]:
        found = []
        for row in self.reviews.values():
            found.append(
                _event("review", "reviews:" + row["review_id"], row["reviewed_at"], row["known_at"], row["rating"])
            )
        for row in self.tickets.values():
            moment = row["opened_at"]
            found.append(_event("ticket", "support_tickets:" + row["ticket_id"], moment, moment, None, row["topic"]))
        for row in self.contacts.values():
            key = "campaign_touches:" + row["touch_id"]
            if row["action"] != "holdout":
                found.append(_event("contact", key, row["touched_at"], row["touched_at"], None, row["action"]))
            if row["redeemed_at"]:
                found.append(_event("redemption", key, row["redeemed_at"], row["redeemed_at"], None, row["action"]))
        return found

    def _texts(self) -> list[Row]:
        written = [(row, row["reviewed_at"], row["known_at"], row["rating"]) for row in self.reviews.values()]
        written += [(row, row["opened_at"], row["opened_at"], None) for row in self.tickets.values()]
        return [
            {
                "text_id": row["text_id"],
                "text": row["text"],
                "subject": row.get("subject", row.get("topic")),
                "written_at": moment,
                "known_at": known_at,
                "superseded_at": None,
                "rating": rating,
            }
            for row, moment, known_at, rating in written
            if row["text"] is not None
        ]


def _daily(orders: list[Row], visits: list[Row], event_types: tuple[str, ...]) -> dict[str, np.ndarray]:
    """One row per order and one per day with a visit, with the columns of the daily activity."""
    n_orders, n_visits = len(orders), len(visits)
    zeros, unknown = np.zeros(n_visits), np.full(n_visits, np.nan)

    def of_orders(values: list, visits: np.ndarray) -> np.ndarray:
        return np.concatenate([np.array(values, dtype=float), visits])

    def of_visits(values: list) -> np.ndarray:
        return np.concatenate([np.zeros(n_orders), np.array(values, dtype=float)])

    completed = [order["status"] == "completed" for order in orders]
    pairs = list(zip(orders, completed, strict=True))
    hours = [order["ordered_at"].hour // 6 for order in orders]
    days = [order["ordered_at"].date() for order in orders] + [visit["day"] for visit in visits]
    daily = {
        "activity_date": np.array(days, dtype="datetime64[D]"),
        "orders": of_orders(completed, zeros),
        "cancelled_orders": of_orders([order["status"] == "cancelled" for order in orders], zeros),
        "returned_orders": of_orders([order["status"] == "returned" for order in orders], zeros),
        "coupon_orders": of_orders([done and order["has_coupon"] for order, done in pairs], zeros),
        "amount": of_orders([exact(order["amount"]) if done else 0.0 for order, done in pairs], zeros),
        "largest_order_amount": of_orders([order["amount"] if done else np.nan for order, done in pairs], unknown),
        "discount_amount": of_orders(
            [_number(exact(order["discount_amount"])) if done else np.nan for order, done in pairs], unknown
        ),
        "items": of_orders([_number(order["items"]) if done else np.nan for order, done in pairs], unknown),
        "events": of_visits([visit["events"] for visit in visits]),
        "sessions": of_visits([visit["sessions"] for visit in visits]),
    }
    for number, part in enumerate(PARTS):
        daily[f"{part}_orders"] = of_orders(
            [done and h == number for done, h in zip(completed, hours, strict=True)], zeros
        )
    named = {f"{event_type}_events" for event_type in event_types}
    for name in named:
        daily[name] = of_visits([visit.get(name, 0) for visit in visits])
    other = [
        visit["events"] - sum(visit.get(name, 0) for name in named) if visit.get("packed", True) else 0
        for visit in visits
    ]
    return daily | {"other_events": of_visits(other)}


def _order_events(orders: list[Row]) -> list[Row]:
    return [
        _event(
            STATUSES[order["status"]],
            "orders:" + order["order_id"],
            order["ordered_at"],
            order["known_at"],
            order["amount"],
            order["category"],
        )
        for order in orders
    ]


def _visit_events(visits: list[Row]) -> list[Row]:
    return [
        _event(
            "visit",
            f"events:{visit['day']}",
            visit["occurred_at"],
            visit["occurred_at"],
            float(visit["events"]),
            next((name for name in VISIT_CATEGORIES if visit.get(f"{name}_events")), "other"),
        )
        for visit in visits
        if visit.get("packed", True)
    ]


def _event(
    kind: str, key: str, occurred_at: datetime, known_at: datetime, amount: float | None, category: str | None = None
) -> Row:
    return {
        "event_type": kind,
        "event_id": key,
        "occurred_at": occurred_at,
        "known_at": known_at,
        "superseded_at": None,
        "amount": amount,
        "category": category,
    }


def _top_category(items: Sequence[Row]) -> str | None:
    spent: dict[str, float] = {}
    for item in items:
        if item.get("category") is not None:
            spent[item["category"]] = spent.get(item["category"], 0.0) + (item["amount"] or 0.0)
    return min(spent, key=lambda name: (-spent[name], name)) if spent else None


def _keyed(columns: Mapping[str, list] | None, key: str) -> dict[str, Row]:
    return {row[key]: row for row in _rows(columns)}


def _rows(columns: Mapping[str, list] | None) -> list[Row]:
    if not columns:
        return []
    read = {name: _moments(values) if name.endswith("_at") else values for name, values in columns.items()}
    return [dict(zip(read, row, strict=True)) for row in zip(*read.values(), strict=True)]


def _moments(values: list[int | None]) -> list[datetime | None]:
    return [None if value is None else EPOCH + timedelta(microseconds=value) for value in values]


def _moment(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value).replace(tzinfo=None)


def _day(value: str | None) -> date | None:
    return None if value is None else date.fromisoformat(value)


def _number(value: float | None) -> float:
    return np.nan if value is None else value
