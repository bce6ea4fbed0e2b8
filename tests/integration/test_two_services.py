"""Two services of one home whose events are logged in PostgreSQL; without a model, as no build has run."""

import signal
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from service import KEYS, READER, WRITER, Service, serving
from shop import Shop

from inference.event_log.events import Event
from inference.event_log.sqlite_log import SqliteEventLog


@pytest.fixture
def served(shop, postgres_server) -> Shop:
    """A shop whose events were in SQLite, with the settings of a log in PostgreSQL."""
    settings = {name: value for name, value in postgres_server.items() if name.startswith("PG")}
    log = SqliteEventLog(shop.home / "events" / "log.db")
    log.append_all([[Event("before", "c1", {"orders": [{"order_id": "before", "customer_id": "c1", "amount": 1.0}]})]])
    log.close()
    return replace(shop, settings=settings | {"CHURN_API_KEYS": KEYS, "CHURN_EVENTS": "postgres"})


def send(service: Service, event_id: str, customer: str = "c1", **changed: object) -> tuple[int, dict]:
    order = {"type": "order", "event_id": event_id, "customer_id": customer, "order_id": event_id, "amount": 20.0}
    order |= {"ordered_at": datetime.now(UTC).date().isoformat() + "T00:00:00Z"}
    answer = service.post("/v1/events", WRITER, json={"events": [order | changed]})
    return answer.status_code, answer.json()


def test_two_services_share_a_log_on_a_server(served):
    refused = served.run("churn-radar", "serve", check=False)
    assert refused.returncode == 1
    assert f"CHURN_EVENTS is postgres, and the events of {served.home} are in sqlite" in refused.stderr
    assert "Copied 1 events from sqlite to postgres" in served.run("churn-radar", "events", "copy").stdout
    with serving(served, CHURN_DRAIN_SECONDS="3") as one, serving(served) as other:
        assert send(one, "new")[1] | {"pending": 0} == {"accepted": 1, "duplicates": 0, "scores": [], "pending": 0}
        assert send(other, "new")[1]["duplicates"] == 1
        assert send(other, "new", amount=21.0)[0] == 409
        status, problem = send(other, "theirs", "c2", order_id="before")
        assert (status, problem["detail"]) == (
            409,
            "order_id before belongs to another customer; nothing of this request was kept",
        )
        # a balancer asks /readyz, and has time to send nothing more
        one.process.send_signal(signal.SIGTERM)
        until = time.monotonic() + 2
        while "the service stops" not in one.get("/readyz", READER).text:
            assert time.monotonic() < until
        assert send(one, "last")[0] == 200
        assert one.process.wait(10) == -signal.SIGTERM
        assert send(other, "last")[1]["duplicates"] == 1
    listed = served.run("churn-radar", "events", "list", "--json").stdout
    assert [word in listed for word in ("before", "new", "last", "theirs")] == [True, True, True, False]
    # a nightly build whose environment lacks the variable does not go on without the events
    del served.settings["CHURN_EVENTS"]
    build = served.run("dbt", "run", "--select", "stg_orders", check=False)
    assert build.returncode != 0
    assert f"CHURN_EVENTS is sqlite, and the events of {served.home} are in postgres; expected" in build.stdout


def test_while_the_log_is_down_scores_are_served_and_builds_go_on(shop, redis_server):
    served = replace(
        shop, settings={"CHURN_API_KEYS": KEYS, "CHURN_EVENTS": "redis", "CHURN_REDIS": redis_server.address}
    )
    shop.home.mkdir()
    with serving(served) as service:
        assert send(service, "a")[0] == 200
        redis_server.stop()
        status, problem = send(service, "b")
        assert (status, problem["detail"]) == (503, "the event log does not answer; send the same events again later")
        assert service.get("/healthz").status_code == 200
        warned = served.run("dbt", "debug").stdout
        redis_server.start()
        assert send(service, "b")[1]["accepted"] == 1
        assert send(service, "a")[1]["duplicates"] == 1
    assert f"Redis at {redis_server.address}: " in warned
    assert "Events accepted since the last build are left for the next one" in warned
