"""Events become rows as staging reads them."""

import math
from datetime import UTC, datetime

import pytest
from pydantic import TypeAdapter, ValidationError

from inference.event_log.events import Event
from inference.serving.answers import CustomerId
from inference.serving.events import (
    MAX_AMOUNT,
    BrowsingEvent,
    OrderEvent,
    OrderItem,
    ReviewEvent,
    TicketEvent,
)
from inference.warehouse.ids import KINDS, as_in_warehouse


def test_event_types_have_no_capitals_and_no_blanks_around_them():
    event = BrowsingEvent(
        type="browsing", event_id="e", customer_id="c", event_type=" View ", occurred_at="2024-01-01T00:00:00Z"
    )
    assert event.rows()["events"][0]["event_type"] == "view"


@pytest.mark.parametrize(
    ("sent", "read"), [(7, "7"), (7.0, "7"), (" 7 ", "7"), ("007", "007"), (10**20, f"1{'0' * 20}")]
)
def test_an_id_is_text_without_blanks_around_it(sent, read):
    assert TypeAdapter(CustomerId).validate_python(sent) == read


@pytest.mark.parametrize("sent", [True, 7.5, 2.0**53, None, "", "   ", "a\nb", [7]])
def test_what_is_no_id_is_refused(sent):
    with pytest.raises(ValidationError):
        TypeAdapter(CustomerId).validate_python(sent)


@pytest.mark.parametrize("absent", ["nan", "None", "<NA>", " null ", "NaT"])
@pytest.mark.parametrize("field", ["customer_id", "order_id", "event_id"])
def test_an_event_of_nobody_is_refused(field, absent):
    order = {
        "type": "order",
        "event_id": "e",
        "customer_id": "c",
        "order_id": "o",
        "ordered_at": "2024-01-01T00:00:00Z",
    }
    with pytest.raises(ValidationError, match=f"{field}\n.*written where there is no id; expected an id"):
        OrderEvent(**order | {"amount": 1.0, field: absent})


def test_ids_are_those_of_the_warehouse_where_it_has_numbers():
    order, line = (
        {"order_id": "+01.0", "customer_id": "007", "coupon_code": "05"},
        {"order_id": "01", "product_id": "09"},
    )
    event = Event("003", "007", {"orders": [order], "order_items": [line]})
    assert as_in_warehouse(event, {"customer", "order"}) == Event(
        "003",
        "7",
        {
            "orders": [{"order_id": "1", "customer_id": "7", "coupon_code": "05"}],
            "order_items": [{"order_id": "1", "product_id": "09"}],
        },
    )
    assert as_in_warehouse(event, set()) == event
    assert {"customer", "order", "product", "event", "session", "review", "ticket"} == KINDS


TICKET = {"type": "ticket", "event_id": "e", "customer_id": "c", "ticket_id": "t", "opened_at": "2024-01-02T00:00:00Z"}


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"])
@pytest.mark.parametrize("field", ["opened_at", "closed_at"])
def test_a_time_that_utc_does_not_have_is_refused(field, moment):
    with pytest.raises(ValidationError, match=f"{field}\n.*before the year 1 or after 9999"):
        TicketEvent(**TICKET | {field: moment})


@pytest.mark.parametrize(
    ("closed_at", "problem"),
    [
        ("2024-01-02T01:00:00+01:00", None),
        ("2024-01-03T00:04:00Z", None),
        ("2024-01-01T23:59:59Z", "closed_at is before opened_at"),
        ("2024-01-03T00:06:00Z", "closed_at is in the future"),
        ("9999-01-01T00:00:00Z", "closed_at is in the future"),
    ],
)
def test_a_ticket_is_closed_after_it_was_opened_and_not_in_the_future(closed_at, problem):
    now = datetime(2024, 1, 3, tzinfo=UTC)
    assert TicketEvent(**TICKET, closed_at=closed_at).time_problem(now, 730) == problem


MOMENT = "2024-01-02T00:00:00Z"
ITEM = {"product_id": "p", "quantity": 1}
VALID = {
    OrderItem: ITEM,
    OrderEvent: {
        "type": "order",
        "event_id": "e",
        "customer_id": "c",
        "order_id": "o",
        "ordered_at": MOMENT,
        "amount": 1,
    },
    BrowsingEvent: {
        "type": "browsing",
        "event_id": "e",
        "customer_id": "c",
        "event_type": "view",
        "occurred_at": MOMENT,
    },
    ReviewEvent: {
        "type": "review",
        "event_id": "e",
        "customer_id": "c",
        "review_id": "r",
        "reviewed_at": MOMENT,
        "review_text": "good",
    },
    TicketEvent: TICKET,
}
IDS = [
    "",
    " \t",
    "nan",
    " NULL ",
    "a\x00b",
    "a\x1bb",
    "a\x9bb",
    "\u200b \u00a0",
    "x" * 201,
    True,
    7.5,
    [],
    {},
    "\ud800",
]
TIMES = ["", "yesterday", "2024-01-02T00:00:00", "9999-12-31T23:59:59-14:00", math.nan, math.inf, True, []]
AMOUNTS = [MAX_AMOUNT, 1e300, math.nan, math.inf, "much", "12,50", "EUR 5", True, []]
TEXTS = ["a\x00b", "x" * 20_001, 5, [], "\ud800"]
GRADES = [0, 0.99, 5.01, -1, math.nan, math.inf, "good", True]
#: What each field refuses, whatever the event.
WRONG = {
    **dict.fromkeys(["event_id", "customer_id", "order_id", "product_id", "session_id", "review_id", "ticket_id"], IDS),
    **dict.fromkeys(["ordered_at", "occurred_at", "reviewed_at", "opened_at", "closed_at"], TIMES),
    "amount": [*AMOUNTS, -0.01, None],
    "quantity": [*AMOUNTS, -1, None],
    "discount_amount": [*AMOUNTS, -MAX_AMOUNT],
    "unit_price": [*AMOUNTS, -MAX_AMOUNT],
    **dict.fromkeys(["review_text", "ticket_text", "topic", "coupon_code", "product_name", "category"], TEXTS),
    **dict.fromkeys(["rating", "satisfaction"], GRADES),
    "event_type": ["", "  ", "a\x00b", "x" * 201, None, 7.5],
    "type": ["", "refund", None],
    "status": ["", "paid", "Completed", None],
    "items": [{}, [{}], [ITEM] * 201, "tea", [ITEM | {"quantity": 1e6, "unit_price": -1e6}]],
}


@pytest.mark.parametrize(("event", "field"), [(event, field) for event in VALID for field in event.model_fields])
def test_every_field_of_every_event_refuses_what_cannot_be_right(event, field):
    assert event(**VALID[event])
    for value in WRONG[field]:
        with pytest.raises(ValidationError) as refused:
            event(**VALID[event] | {field: value})
        assert {str(error["loc"][0]) for error in refused.value.errors()} == {field}, value


@pytest.mark.parametrize("event", VALID)
def test_a_field_that_no_event_has_is_refused(event):
    with pytest.raises(ValidationError, match=r"currency\n.*Extra inputs are not permitted"):
        event(**VALID[event], currency="EUR")


def test_a_line_of_an_order_is_no_larger_than_an_order():
    with pytest.raises(
        ValidationError, match="quantity times unit_price is too large; expected less than 1,000,000,000,000"
    ):
        OrderItem(product_id="p", quantity=1e6, unit_price=1e6)
