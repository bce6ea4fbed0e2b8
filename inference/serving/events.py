"""Events as applications send them, and the raw table rows that they become."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    model_validator,
)

from inference.event_log.events import COLUMNS
from inference.serving.answers import Churn, CustomerId, Key
from inference.warehouse.ids import ABSENT

#: Events of one request, and products of one order.
MAX_EVENTS, MAX_ITEMS = 1000, 200
#: Amounts are below this, in any currency, as staging expects of raw tables.
MAX_AMOUNT = 1e12
#: How far an event may be in the future, as clocks differ.
CLOCK_DIFFERENCE = timedelta(minutes=5)


def _id(text: str) -> str:
    if text.lower() in ABSENT:
        raise ValueError("this is written where there is no id; expected an id")
    if not any(character.isprintable() for character in text.replace(" ", "")):
        raise ValueError("no character of this can be seen; expected an id")
    return text


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("this is true or false; expected a number")
    return value


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("in UTC this is before the year 1 or after 9999; expected a time that was") from None


Id = Annotated[Key, AfterValidator(_id)]
Name = Annotated[str, Field(max_length=500, pattern=r"^[^\x00]*$")]
Words = Annotated[str, Field(max_length=20_000, pattern=r"^[^\x00]*$")]
Number = Annotated[float, BeforeValidator(_no_boolean)]
Money = Annotated[Number, Field(gt=-MAX_AMOUNT, lt=MAX_AMOUNT, allow_inf_nan=False)]
#: Cut to the second, the precision in which builds compare times.
Moment = Annotated[
    AwareDatetime,
    AfterValidator(_in_utc),
    PlainSerializer(lambda moment: moment.replace(microsecond=0, tzinfo=None).isoformat()),
    Field(
        description="With a time zone, as in 2026-11-23T18:30:00Z; kept to the second.",
        examples=["2026-11-23T18:30:00Z"],
    ),
]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Event(_Part):
    #: The raw table that the event is a row of, and the field that says when it happened.
    table: ClassVar[str]
    time_field: ClassVar[str]

    event_id: Id = Field(description="Unique; the same event sent again changes nothing.")
    customer_id: Annotated[CustomerId, AfterValidator(_id)]

    def rows(self) -> dict[str, list[dict]]:
        """Return the event's rows by raw table."""
        return {self.table: [self.model_dump(include=set(COLUMNS[self.table]))]}

    def time_problem(self, now: datetime, history_days: int) -> str | None:
        """Return which time is refused and why, or None; features do not use events older than the history."""
        happened_at = getattr(self, self.time_field)
        if happened_at > now + CLOCK_DIFFERENCE:
            return f"{self.time_field} is in the future"
        if happened_at < now - timedelta(days=history_days):
            return f"{self.time_field} is older than the history of {history_days} days"
        return None


class OrderItem(_Part):
    """A product of an order."""

    product_id: Id
    quantity: Number = Field(ge=0, lt=1e9, allow_inf_nan=False)
    unit_price: Money = 0.0
    product_name: Name | None = None
    category: Name | None = None

    @model_validator(mode="after")
    def _refuse_huge_line(self) -> Self:
        if abs(self.quantity * self.unit_price) >= MAX_AMOUNT:
            raise ValueError(f"quantity times unit_price is too large; expected less than {MAX_AMOUNT:,.0f}")
        return self


class OrderEvent(_Event):
    """An order was placed, or is cancelled or returned: sent again with its newest status, under a new event_id."""

    table, time_field = "orders", "ordered_at"
    type: Literal["order"]
    order_id: Id
    ordered_at: Moment
    amount: Number = Field(ge=0, lt=MAX_AMOUNT, allow_inf_nan=False, description="Net amount, in the shop's currency.")
    status: Literal["completed", "cancelled", "returned"] = "completed"
    discount_amount: Money | None = None
    coupon_code: Name | None = None
    items: list[OrderItem] = Field(default=[], max_length=MAX_ITEMS)

    def rows(self) -> dict[str, list[dict]]:
        """Return rows of ``orders`` and ``order_items``."""
        items = [{"order_id": self.order_id, **item.model_dump()} for item in self.items]
        return super().rows() | ({"order_items": items} if items else {})


class BrowsingEvent(_Event):
    """The customer looked at, searched for or carted something."""

    table, time_field = "events", "occurred_at"
    type: Literal["browsing"]
    event_type: Annotated[Key, StringConstraints(strip_whitespace=True, to_lower=True)] = Field(
        description="view, search, cart_add, cart_remove, wishlist, login, or any other; capitals do not count."
    )
    occurred_at: Moment
    session_id: Id | None = None
    product_id: Id | None = None


class ReviewEvent(_Event):
    """A review was written, or changed."""

    table, time_field = "reviews", "reviewed_at"
    type: Literal["review"]
    review_id: Id
    reviewed_at: Moment
    review_text: Words
    rating: Number | None = Field(default=None, ge=1, le=5)
    product_id: Id | None = None


class TicketEvent(_Event):
    """A support ticket was opened, or closed."""

    table, time_field = "support_tickets", "opened_at"
    type: Literal["ticket"]
    ticket_id: Id
    opened_at: Moment
    closed_at: Moment | None = None
    topic: Name | None = None
    ticket_text: Words | None = None
    satisfaction: Number | None = Field(default=None, ge=1, le=5)

    def time_problem(self, now: datetime, history_days: int) -> str | None:
        """Return which of the event's times is refused and why, or None."""
        problem = super().time_problem(now, history_days)
        if problem is None and self.closed_at is not None:
            if self.closed_at < self.opened_at:
                return "closed_at is before opened_at"
            if self.closed_at > now + CLOCK_DIFFERENCE:
                return "closed_at is in the future"
        return problem


AnyEvent = Annotated[OrderEvent | BrowsingEvent | ReviewEvent | TicketEvent, Field(discriminator="type")]


class EventBatch(_Part):
    """Events, in any order."""

    events: list[AnyEvent] = Field(min_length=1, max_length=MAX_EVENTS)


class EventReceipt(BaseModel):
    """What was accepted: it is on disk, and a restart does not lose it."""

    accepted: int = Field(description="Events that are new.")
    duplicates: int = Field(description="Events that were accepted before.")
    scores: list[Churn] = Field(description="Scores of these customers that follow the events.")
    pending: list[CustomerId] = Field(
        description="Customers whose score follows later: the store or the model does not answer."
    )
