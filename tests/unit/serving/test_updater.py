"""What requests wait for, and what they do not: a store that is down, a store that is opened, customers of others."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import closing
from typing import Any

import pytest
from fastapi.testclient import TestClient
from small_home import event, load_online, write_tables

from inference.event_log.events import EventLogDownError
from inference.event_log.sqlite_log import SqliteEventLog
from inference.realtime.online_store import NO_ANSWER, OnlineStore, StoreDownError
from inference.realtime.rescorer import Rescorer
from inference.serving import app, updater
from inference.serving.lookup import ScoreLookup
from inference.serving.updater import MAX_TOGETHER, ScoreUpdater


class SlowRescorer:
    """Scores as the real one does, in a time that can be seen, or finds the store down."""

    shop = None

    def __init__(self) -> None:
        self.is_down, self.batches = False, []

    def behind(self) -> list[str]:
        return []

    def overtaken(self, scores: dict) -> list[str]:
        return []

    def rescore(self, customers: list[str]) -> dict[str, dict[str, Any]]:
        time.sleep(0.1)
        if self.is_down:
            raise StoreDownError(NO_ANSWER)
        self.batches.append(customers)
        return {customer: {"of": customer} for customer in customers}


@pytest.fixture
def run(monkeypatch) -> Callable:
    """Run a coroutine on an updater that has started, and its rescorer."""
    rescorer = SlowRescorer()
    monkeypatch.setattr(updater, "_open_rescorer", lambda: rescorer)
    monkeypatch.setattr(updater, "RETRY_SECONDS", 0.2)

    async def started(steps: Callable[[ScoreUpdater, SlowRescorer], Coroutine]) -> None:
        scores = ScoreUpdater()
        scores.start()
        while scores.problem is not None:
            await asyncio.sleep(0.01)
        await steps(scores, rescorer)
        await scores.close()

    return lambda steps: asyncio.run(started(steps))


def test_only_the_first_request_waits_for_a_store_that_is_down(run):
    async def steps(scores: ScoreUpdater, rescorer: SlowRescorer) -> None:
        rescorer.is_down = True
        started = time.monotonic()
        assert await scores.score([f"c{i}" for i in range(2 * MAX_TOGETHER)]) == {}
        assert time.monotonic() - started < 0.5
        for i in range(60):  # longer than two attempts
            started = time.monotonic()
            assert await scores.score([f"d{i}"]) == {}
            assert time.monotonic() - started < 0.05
            await asyncio.sleep(0.01)
        assert (scores.problem, scores.n_behind) == (NO_ANSWER, 2 * MAX_TOGETHER + 60)
        rescorer.is_down = False
        while scores.n_behind:
            await asyncio.sleep(0.01)
        assert await scores.score(["c0"]) == {"c0": {"of": "c0"}}
        assert len({customer for batch in rescorer.batches for customer in batch}) == 2 * MAX_TOGETHER + 60

    run(steps)


def test_who_waits_for_a_score_goes_before_a_log_that_is_replayed(run):
    async def steps(scores: ScoreUpdater, rescorer: SlowRescorer) -> None:
        scores.add(f"c{i}" for i in range(20 * MAX_TOGETHER))
        await asyncio.sleep(0.05)
        assert await scores.score(["new", "c300"]) == {"new": {"of": "new"}, "c300": {"of": "c300"}}
        assert len(rescorer.batches) <= 2
        assert scores.n_behind > 10 * MAX_TOGETHER

    run(steps)


def test_readiness_says_that_the_log_is_down_and_is_back(run, monkeypatch):
    monkeypatch.setattr(updater, "CATCH_UP_SECONDS", 0.05)

    def fail() -> list[str]:
        raise EventLogDownError("Redis does not answer")

    async def steps(scores: ScoreUpdater, rescorer: SlowRescorer) -> None:
        rescorer.behind = fail
        await asyncio.sleep(0.2)
        assert scores.problem == updater.NO_LOG
        del rescorer.behind
        await asyncio.sleep(0.2)
        assert scores.problem is None

    run(steps)


def test_without_a_build_nobody_is_scored_again_and_again(model_registry, churn_home):
    write_tables(churn_home)
    load_online(churn_home)
    with closing(SqliteEventLog()) as log:
        log.append_all([[event(1)]])
        rescorer = Rescorer(OnlineStore(), log)
        scores = rescorer.rescore(["c0001"])
        assert scores == {"c0001": None}
        assert rescorer.overtaken(scores) == []


def test_the_service_lives_before_the_store_is_open(monkeypatch, tmp_path):
    monkeypatch.setenv("CHURN_HOME", str(tmp_path))
    opened = threading.Event()

    def wait_and_fail(lookup: ScoreLookup) -> None:
        opened.wait(10)
        raise StoreDownError("not applied")

    monkeypatch.setattr(ScoreLookup, "_open", wait_and_fail)
    started = time.monotonic()
    with TestClient(app.create_app([])) as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        assert time.monotonic() - started < 2
        assert client.get("/readyz").json()["detail"] == "the online store does not answer; try again later"
        opened.set()
