"""Requests share a write to the log, within limits, as long as it is the log of the home."""

import asyncio
import json
from collections.abc import Sequence

import pytest

from inference.event_log.events import Event, EventLogDownError
from inference.event_log.opening import NOTE
from inference.event_log.sqlite_log import SqliteEventLog
from inference.serving.intake import MAX_WRITTEN, Intake
from inference.serving.updater import ScoreUpdater


class CountingLog(SqliteEventLog):
    """Counts the events of each write."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[int] = []

    def append_all(self, groups: Sequence[Sequence[Event]]) -> list:
        self.written.append(sum(map(len, groups)))
        return super().append_all(groups)


def request(number: int, size: int) -> list[Event]:
    return [Event(f"{number}-{i}", "c1", {"events": [{"event_id": f"{number}-{i}"}]}) for i in range(size)]


def test_no_write_grows_with_the_requests_that_wait():
    sizes = [3, 600, 400, 1, MAX_WRITTEN + 5, 7, 900, 93, 1]

    async def send() -> list[int]:
        log = CountingLog()
        intake = Intake(log, ScoreUpdater())
        answers = await asyncio.gather(*(intake.accept(request(n, size)) for n, size in enumerate(sizes)))
        assert [added for added, _ in answers] == [[True] * size for size in sizes]
        intake.close()
        return log.written

    assert asyncio.run(send()) == [603, 401, MAX_WRITTEN + 5, MAX_WRITTEN, 1]


def test_a_service_that_runs_while_the_log_is_copied_elsewhere_accepts_no_more(churn_home):
    async def send() -> None:
        intake = Intake(SqliteEventLog(), ScoreUpdater())
        assert (await intake.accept(request(1, 1)))[0] == [True]
        (churn_home / NOTE).write_text(json.dumps({"kind": "redis", "log": "x"}))
        with pytest.raises(EventLogDownError, match="are in redis now; expected a service started since"):
            await intake.accept(request(2, 1))
        intake.close()

    asyncio.run(send())
