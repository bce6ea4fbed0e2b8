"""Requests share a write to the log, within limits."""

import asyncio
from collections.abc import Sequence

from inference.event_log.events import Event
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
