"""Events become rows as staging reads them."""

from inference.serving.events import BrowsingEvent


def test_event_types_have_no_capitals_and_no_blanks_around_them():
    event = BrowsingEvent(
        type="browsing", event_id="e", customer_id="c", event_type=" View ", occurred_at="2024-01-01T00:00:00Z"
    )
    assert event.rows()["events"][0]["event_type"] == "view"
