"""Operators list, show and drop what the service accepted."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from inference import cli
from inference.event_log.events import Event
from inference.event_log.export import export
from inference.event_log.sqlite_log import SqliteEventLog


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["events", *arguments])


@pytest.fixture
def log(churn_home: Path) -> SqliteEventLog:
    """Three events of two customers."""
    order = {"order_id": "7731", "customer_id": "1301", "ordered_at": "2026-11-23T18:30:00", "amount": 25.9}
    item = {"order_id": "7731", "product_id": "tea", "quantity": 1.0, "unit_price": 25.9}
    ticket = {"ticket_id": "t1", "customer_id": "1301", "opened_at": "2026-11-23T19:00:00"}
    visit = {
        "event_id": "v1",
        "customer_id": "7[/b]\x1b[2J",
        "event_type": "view",
        "occurred_at": "2026-11-23T20:00:00",
    }
    log = SqliteEventLog()
    log.append_all(
        [
            [Event("shop-7731", "1301", {"orders": [order], "order_items": [item]})],
            [Event("ticket-1", "1301", {"support_tickets": [ticket]})],
            [Event("v1", visit["customer_id"], {"events": [visit]})],
        ]
    )
    return log


def test_accepted_events_are_listed_the_newest_first(log):
    events = json.loads(run("list", "--json").output)
    assert [(e["kind"], e["customer_id"], e["id"], e["event_id"]) for e in events[1:]] == [
        ("ticket", "1301", "t1", "ticket-1"),
        ("order", "1301", "7731", "shop-7731"),
    ]
    table = run("list").output
    assert all(len(line) <= 100 for line in table.splitlines())
    assert "7[/b]\\x1b[2J" in table
    assert "\x1b" not in table


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        (["--customer", "1301"], ["ticket-1", "shop-7731"]),
        (["--kind", "order"], ["shop-7731"]),
        (["--customer", "1301", "--top", "1"], ["ticket-1"]),
        (["--since", "2020-01-01"], ["v1", "ticket-1", "shop-7731"]),
        (["--since", "2999-01-01"], []),
        (["--customer", "nobody"], []),
    ],
)
def test_a_list_may_be_filtered(log, options, ids):
    assert [event["event_id"] for event in json.loads(run("list", "--json", *options).output)] == ids
    assert run("list", *options).exit_code == 0


def test_an_event_is_shown_whole(log):
    shown = json.loads(run("show", "shop-7731").output)
    assert shown["rows"]["order_items"] == [
        {"order_id": "7731", "product_id": "tea", "quantity": 1.0, "unit_price": 25.9}
    ]


def test_a_dropped_event_leaves_a_reason_and_does_not_come_back(log, churn_home):
    export(log, churn_home / "events")
    (order,) = (event for event in log.since() if event.event_id == "shop-7731")
    done = run("drop", "shop-7731", "--reason", "sent by a test")
    again = run("drop", "shop-7731", "--reason", "once more")
    assert "event shop-7731 was dropped already, at " in str(again.exception)
    assert str(again.exception).endswith(" UTC: sent by a test")
    assert done.output.startswith("Dropped: order 7731 of customer 1301, accepted 20")
    shown = json.loads(run("show", "shop-7731").output)
    assert (shown["customer_id"], shown["reason"]) == ("1301", "sent by a test")
    # the build's Parquet is written anew, and the position moves on, so that the service scores the customer again
    assert export(log, churn_home / "events")["orders"] == 0
    assert not (churn_home / "events" / "orders.parquet").exists()
    assert log.newest() == log.newest_dropped("1301") == log.newest_by_customer(3)["1301"] == 4
    resent, corrected = order, Event("shop-7731", "1301", {"orders": [{**order.rows["orders"][0], "amount": 2.59}]})
    assert log.append_all([[resent]]) == [[False]]
    assert log.append_all([[corrected]]) == [[True]]
    assert [event.sequence for event in log.latest()] == [5, 3, 2]


@pytest.mark.parametrize("command", [["show", "no"], ["drop", "no", "--reason", "x"]])
def test_an_unknown_event_is_named(log, command):
    assert "event no is not in the log; churn-radar events list shows which are" in str(run(*command).exception)


def test_without_a_log_the_file_is_named_and_not_made(churn_home):
    churn_home.mkdir()
    assert f"{churn_home}/events/log.db: no such file" in str(run("list").exception)
    assert not (churn_home / "events").exists()


def test_an_unknown_kind_is_refused(log):
    assert "--kind is refund; expected order, browsing, review, ticket" in str(
        run("list", "--kind", "refund").exception
    )


def test_a_damaged_log_is_named_and_kept(log, churn_home):
    file = churn_home / "events" / "log.db"
    log.close()
    file.write_bytes(b"garbage" * 1000)
    assert f"{file}: file is not a database; expected the log of accepted events" in str(run("list").exception)
    assert file.read_bytes() == b"garbage" * 1000
