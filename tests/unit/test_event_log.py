from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from inference.serving.event_log import Event, EventConflictError, EventLog, export

SCHEMAS = {
    "orders": pa.schema({"order_id": "string", "ordered_at": pa.timestamp("us"), "loaded_at": pa.timestamp("us")}),
    "order_items": pa.schema({"order_id": "string", "product_id": "string"}),
}


def order(event_id: str, order_id: str, *products: str, at: str = "2026-11-01T12:00:00+01:00") -> Event:
    rows = {"orders": [{"order_id": order_id, "ordered_at": at}]}
    if products:
        rows["order_items"] = [{"order_id": order_id, "product_id": product} for product in products]
    return Event(event_id, "c1", rows)


@pytest.fixture
def log(tmp_path) -> EventLog:
    return EventLog(tmp_path / "log.db")


def test_an_event_is_logged_once(log):
    assert log.append([order("a", "1"), order("b", "2"), order("a", "1")]) == [True, True, False]
    assert log.append([order("b", "2")]) == [False]
    assert [(event.sequence, event.event_id) for event in log.since()] == [(1, "a"), (2, "b")]
    assert [event.event_id for event in log.since(1)] == ["b"]
    assert list(log.since(0, "nobody")) == []
    assert log.newest() == 2


def test_one_that_contradicts_takes_all_that_came_with_it_back(log):
    log.append([order("a", "1")])
    with pytest.raises(EventConflictError) as error:
        log.append([order("b", "2"), order("a", "9")])
    assert error.value.event_id == "a"
    assert [event.event_id for event in log.since()] == ["a"]


def test_another_process_sees_what_was_appended(log, tmp_path):
    log.append([order("a", "1")])
    (event,) = EventLog(tmp_path / "log.db").since()
    assert event.rows == order("a", "1").rows
    assert abs((datetime.now(UTC) - event.received_at).total_seconds()) < 60


def test_versions_are_exported_where_arrival_tells_them_apart(log, tmp_path):
    log.append([order("a", "1", "tea", "cup")])
    log.append([order("b", "1", "tea")])
    assert export(SCHEMAS, tmp_path) == {"orders": 2, "order_items": 1}
    orders = pq.read_table(tmp_path / "orders.parquet").to_pylist()
    assert {row["ordered_at"] for row in orders} == {datetime(2026, 11, 1, 11)}
    assert orders[0]["loaded_at"] < orders[1]["loaded_at"]
    assert pq.read_table(tmp_path / "order_items.parquet").to_pylist() == [{"order_id": "1", "product_id": "tea"}]
    assert not list(tmp_path.glob("*.partial"))


def test_a_log_without_events_exports_empty_tables(log, tmp_path):
    assert export(SCHEMAS, tmp_path) == {"orders": 0, "order_items": 0}
    assert pq.read_table(tmp_path / "orders.parquet").schema.equals(SCHEMAS["orders"])
