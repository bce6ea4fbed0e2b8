import time
from datetime import UTC, datetime

import pyarrow.parquet as pq
import pytest

from inference.event_log.events import Event, EventConflictError
from inference.event_log.export import export
from inference.event_log.sqlite_log import SqliteEventLog


def order(event_id: str, order_id: str, *products: str, at: str = "2026-11-01T12:00:00+01:00") -> Event:
    rows = {"orders": [{"order_id": order_id, "ordered_at": at}]}
    if products:
        rows["order_items"] = [{"order_id": order_id, "product_id": product} for product in products]
    return Event(event_id, "c1", rows)


@pytest.fixture
def log(tmp_path) -> SqliteEventLog:
    return SqliteEventLog(tmp_path / "log.db")


def test_an_event_is_logged_once(log):
    assert log.append_all([[order("a", "1"), order("b", "2"), order("a", "1")]]) == [[True, True, False]]
    assert log.append_all([[order("b", "2")]]) == [[False]]
    assert [(event.sequence, event.event_id) for event in log.since()] == [(1, "a"), (2, "b")]
    assert [event.event_id for event in log.since(1)] == ["b"]
    assert list(log.since(0, "nobody")) == []
    assert log.newest() == 2


def test_a_log_that_was_lost_goes_on_behind_what_a_build_has_read(log):
    log.begin_after(7)
    log.append_all([[order("a", "1")]])
    log.begin_after(7)
    log.begin_after(3)
    log.append_all([[order("b", "2")]])
    assert [(event.sequence, event.event_id) for event in log.since(7)] == [(8, "a"), (9, "b")]


def test_one_that_contradicts_takes_all_that_came_with_it_back(log):
    log.append_all([[order("a", "1")]])
    (error,) = log.append_all([[order("b", "2"), order("a", "9")]])
    assert isinstance(error, EventConflictError)
    assert str(error) == "event_id a was used for other content"
    assert [event.event_id for event in log.since()] == ["a"]


@pytest.mark.parametrize(
    ("table", "key"), [("orders", "order_id"), ("reviews", "review_id"), ("support_tickets", "ticket_id")]
)
def test_a_key_belongs_to_one_customer(tmp_path, table, key):
    def event(event_id: str, customer_id: str, value: str) -> Event:
        return Event(event_id, customer_id, {table: [{key: value, "customer_id": customer_id}]})

    log = SqliteEventLog(tmp_path / "log.db")
    assert log.append_all([[event("a", "c1", "7")]]) == [[True]]
    # as in a log of the version before
    log._connection.execute(f"drop index events_of_{table}")
    log.close()
    log = SqliteEventLog(tmp_path / "log.db")
    others, own, both = log.append_all(
        [
            [event("b", "c2", "8"), event("c", "c2", "7")],
            [event("d", "c1", "7"), event("a", "c1", "7")],
            [event("e", "c1", "9"), event("f", "c2", "9")],
        ]
    )
    assert str(others) == f"{key} 7 belongs to another customer"
    assert own == [True, False]
    assert str(both) == f"{key} 9 belongs to another customer"
    assert [logged.event_id for logged in log.since()] == ["a", "d"]
    log.close()


def test_another_process_sees_what_was_appended(log, tmp_path):
    log.append_all([[order("a", "1")]])
    (event,) = SqliteEventLog(tmp_path / "log.db").since()
    assert event.rows == order("a", "1").rows
    assert abs((datetime.now(UTC) - event.received_at).total_seconds()) < 60


def test_versions_are_exported_where_arrival_tells_them_apart(log, tmp_path):
    log.append_all([[order("a", "1", "tea", "cup")]])
    log.append_all([[order("b", "1", "tea")]])
    written = export(tmp_path)
    assert {table: n for table, n in written.items() if n} == {"orders": 2, "order_items": 1}
    assert not (tmp_path / "reviews.parquet").exists()
    assert pq.read_table(tmp_path / "through.parquet")["through"].to_pylist() == [2]
    assert export(tmp_path) == {}, "nothing is new"
    orders = pq.read_table(tmp_path / "orders.parquet").to_pylist()
    assert {row["ordered_at"] for row in orders} == {datetime(2026, 11, 1, 11)}
    assert orders[0]["loaded_at"] < orders[1]["loaded_at"]
    (item,) = pq.read_table(tmp_path / "order_items.parquet").to_pylist()
    assert (item["order_id"], item["product_id"]) == ("1", "tea")
    assert not list(tmp_path.glob("*.partial"))


@pytest.fixture
def in_new_york(monkeypatch):
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_times_are_utc_on_a_machine_of_any_time_zone(log, tmp_path, in_new_york):
    # the service writes times without an offset
    log.append_all([[order("a", "1", at="2026-11-01T11:00:00"), order("b", "2", at="2026-11-01T12:00:00+01:00")]])
    export(tmp_path)
    orders = pq.read_table(tmp_path / "orders.parquet").to_pylist()
    assert [row["ordered_at"] for row in orders] == [datetime(2026, 11, 1, 11)] * 2
    assert abs((datetime.now(UTC).replace(tzinfo=None) - orders[0]["loaded_at"]).total_seconds()) < 60


def test_a_log_without_events_exports_no_table(log, tmp_path):
    assert set(export(tmp_path).values()) == {0}
    assert [file.name for file in tmp_path.glob("*.parquet")] == ["through.parquet"]


def test_of_two_requests_at_once_the_contradictory_one_is_refused_alone(log):
    log.append_all([[order("a", "1")]])
    first, second = log.append_all([[order("b", "2"), order("a", "9")], [order("c", "3")]])
    assert isinstance(first, EventConflictError)
    assert second == [True]
    assert [event.event_id for event in log.since()] == ["a", "c"]
    assert log.newest_by_customer(0) == {"c1": 2}


@pytest.mark.parametrize("name", ["orders", "through"])
def test_a_damaged_file_is_written_again(log, tmp_path, name):
    log.append_all([[order("a", "1")]])
    export(tmp_path)
    (tmp_path / f"{name}.parquet").write_bytes(b"PAR1 garbage")
    assert export(tmp_path)["orders"] == 1
    assert pq.read_table(tmp_path / "orders.parquet")["order_id"].to_pylist() == ["1"]
    assert export(tmp_path) == {}


def test_a_log_that_was_lost_does_not_empty_what_was_exported(log, tmp_path):
    log.append_all([[order("a", "1")]])
    export(tmp_path)
    log.close()
    (tmp_path / "log.db").write_bytes(b"")
    assert export(tmp_path) == {}
    assert pq.read_table(tmp_path / "orders.parquet")["order_id"].to_pylist() == ["1"]
