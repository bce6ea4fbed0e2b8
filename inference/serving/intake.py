"""Takes events in: to disk first, then into the scores. Concurrent requests share one write to disk."""

import asyncio
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from itertools import accumulate
from typing import Any

from inference.event_log.events import Event, EventConflictError, EventLogDownError
from inference.event_log.log import EventLog
from inference.event_log.opening import used
from inference.home import home
from inference.pseudonyms import ERASED_CUSTOMERS, erased_customers, salted_hash
from inference.serving.updater import ScoreUpdater, run_in

#: Events of one write, unless a single request has more: other services wait only seconds for theirs.
MAX_WRITTEN = 1000


class Intake:
    """Logs events in one thread, and has their customers scored.

    While the thread writes, requests gather, and share the next write.
    """

    def __init__(self, log: EventLog, updater: ScoreUpdater) -> None:
        self._log, self._updater = log, updater
        self._has_events = log.newest() > 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="log")
        self._arrived: list[tuple[Sequence[Event], asyncio.Future]] = []
        self._writing: asyncio.Task | None = None
        #: Erased customers, and when their file was written.
        self._erased: tuple[int | None, set[str]] = (None, set())
        #: Customers whose score was refreshed on a day, and that day.
        self._refreshed: tuple[date | None, set[str]] = (None, set())

    def close(self) -> None:
        """Finish what is being written."""
        self._thread.shutdown(wait=True)
        self._log.close()

    async def accept(self, events: Sequence[Event]) -> tuple[list[bool], dict[str, dict[str, Any] | None]]:
        """Log the events of one request, all or none, then score their customers.

        Returns whether each event was new, and the scores by customer: None for those who have none, without those
        whose score comes later. An event id that was used for other content raises ``EventConflictError``.
        """
        logged = asyncio.get_running_loop().create_future()
        self._arrived.append((events, logged))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_arrived())
        added = await logged
        self._has_events = True
        return added, await self._updater.score(dict.fromkeys(event.customer_id for event in events))

    def is_erased(self, customer_id: str) -> bool:
        """Whether ``churn-radar erase`` removed a customer, of whom no event is accepted any more."""
        file = home() / ERASED_CUSTOMERS
        changed = file.stat().st_mtime_ns if file.exists() else None
        if changed != self._erased[0]:
            self._erased = (changed, erased_customers())
        return bool(self._erased[1]) and salted_hash("erased", customer_id) in self._erased[1]

    def refresh(self, customer_ids: Iterable[str]) -> None:
        """Score customers again whose score is of an earlier day, once a day.

        Does nothing where the shop sends no events: a customer without events since the last build may then have been
        silent, or the shop's tables may be old.
        """
        if not self._has_events or self._updater.problem is not None:
            return
        today = datetime.now(UTC).date()
        if self._refreshed[0] != today:
            self._refreshed = (today, set())
        new = set(customer_ids) - self._refreshed[1]
        self._refreshed[1].update(new)
        self._updater.add(new)

    def _append(self, groups: Sequence[Sequence[Event]]) -> list[list[bool] | EventConflictError]:
        if (now_in := used()) not in (None, self._log.kind):
            raise EventLogDownError(f"the events of {home()} are in {now_in} now; expected a service started since")
        return self._log.append_all(groups)

    async def _write_arrived(self) -> None:
        while self._arrived:
            ends = list(accumulate(len(events) for events, _ in self._arrived))
            n_now = max(1, bisect_right(ends, MAX_WRITTEN))
            arrived, self._arrived = self._arrived[:n_now], self._arrived[n_now:]
            groups = [events for events, _ in arrived]
            results: Sequence[list[bool] | Exception]
            try:
                results = await run_in(self._thread, self._append, groups)
            except Exception as error:
                results = [error] * len(arrived)
            for (_, logged), result in zip(arrived, results, strict=True):
                if logged.done():  # its request was cancelled
                    continue
                if isinstance(result, Exception):
                    logged.set_exception(result)
                else:
                    logged.set_result(result)
