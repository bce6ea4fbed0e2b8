"""Events: rows of raw tables that an application sends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from inference.errors import ChurnRadarError

#: Raw tables that events add rows to, with the columns that an event may have. The first column is the table's key: a
#: later row of the same key replaces an earlier one.
COLUMNS = {
    "orders": (
        "order_id",
        "customer_id",
        "ordered_at",
        "amount",
        "status",
        "discount_amount",
        "coupon_code",
        "loaded_at",
    ),
    "order_items": ("order_id", "product_id", "quantity", "unit_price", "product_name", "category"),
    "events": ("event_id", "customer_id", "event_type", "occurred_at", "session_id", "product_id"),
    "reviews": ("review_id", "customer_id", "review_text", "reviewed_at", "product_id", "rating", "loaded_at"),
    "support_tickets": ("ticket_id", "customer_id", "opened_at", "closed_at", "topic", "ticket_text", "satisfaction"),
}
#: Kinds of events by the raw table that they are a row of.
KINDS = {"orders": "order", "events": "browsing", "reviews": "review", "support_tickets": "ticket"}
#: Columns that are no text.
MOMENTS = ("ordered_at", "occurred_at", "reviewed_at", "opened_at", "closed_at", "loaded_at")
NUMBERS = ("amount", "discount_amount", "quantity", "unit_price", "rating", "satisfaction")
#: Tables whose keys belong to one customer each. (Rows of ``events`` have the id of their event.)
OWNED = ("orders", "reviews", "support_tickets")


@dataclass(frozen=True)
class Event:
    """Rows of raw tables that arrived together; they are accepted all or none."""

    #: Unique; the same id with the same rows is the same event.
    event_id: str
    #: The customer of all rows.
    customer_id: str
    #: Rows by raw table, in the columns of the data contract; times as ISO 8601, in UTC where they have no offset.
    rows: Mapping[str, Sequence[Mapping]]


@dataclass(frozen=True)
class LoggedEvent(Event):
    """An event with its position in the log, from 1 on, and when it was accepted (UTC)."""

    sequence: int
    received_at: datetime

    @property
    def kind(self) -> str:
        """What happened: a value of ``KINDS``."""
        return next(kind for table, kind in KINDS.items() if table in self.rows)

    @property
    def key(self) -> str:
        """The id of what happened, such as the order's."""
        table = next(table for table in KINDS if table in self.rows)
        return self.rows[table][0][COLUMNS[table][0]]


class EventConflictError(Exception):
    """An event contradicts one that was accepted before; the message says how."""


class EventLogDownError(ChurnRadarError):
    """The event log does not answer, or cannot be written now; whether it kept what was being written is unknown."""


def utc(text: str) -> datetime:
    """Read a time in ISO 8601 as naive UTC; one without an offset is UTC, whatever the time zone of the machine."""
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
