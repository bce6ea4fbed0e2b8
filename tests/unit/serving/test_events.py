"""Events become rows as staging reads them."""

import pytest
from pydantic import TypeAdapter, ValidationError

from inference.serving.answers import CustomerId
from inference.serving.events import BrowsingEvent, OrderEvent
from inference.serving.ids import KINDS, as_in_warehouse
from inference.warehouse.event_log import Event


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
