"""Takes events in: to disk first, then into the scores. Concurrent requests share one write to disk."""

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from typing import Any

from inference.home import home
from inference.pseudonyms import ERASED_CUSTOMERS, erased_customers, salted_hash
from inference.serving.updater import ScoreUpdater, run_in
from inference.warehouse.event_log import Event, EventLog

#: ``churn__history_days`` before the first build.
DEFAULT_HISTORY_DAYS = 730


class Intake:
    """Logs events and keeps scores up to date with them.

    Parameters
    ----------
    log : EventLog
        Written by one thread; while it writes, requests gather, and the next write is for all of them.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._has_events = log.newest() > 0
        self._updater = ScoreUpdater()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="log")
        self._arrived: list[tuple[Sequence[Event], asyncio.Future]] = []
        self._writing: asyncio.Task | None = None
        #: Erased customers, and when their file was written.
        self._erased: tuple[int | None, set[str]] = (None, set())
        #: Customers whose score was refreshed on a day, and that day.
        self._refreshed: tuple[date | None, set[str]] = (None, set())

    def start(self) -> None:
        """Begin to load the model, which takes seconds, and to update scores."""
        self._updater.start()

    async def close(self) -> None:
        """Finish what is being written."""
        await self._updater.close()
        self._thread.shutdown(wait=True)
        self._log.close()

    @property
    def problem(self) -> str | None:
        """Why scores do not follow events now; None if they do."""
        return self._updater.problem

    @property
    def n_behind(self) -> int:
        """Customers whose score does not reflect all of their events."""
        return self._updater.n_behind

    @property
    def history_days(self) -> int:
        """Maximal age of an event in days: ``churn__history_days`` of the last build."""
        shop = self._updater.shop
        return shop.facts.history_days if shop else DEFAULT_HISTORY_DAYS

    async def accept(self, events: Sequence[Event]) -> tuple[list[bool], dict[str, dict[str, Any] | None]]:
        """Log events, then score their customers.

        Parameters
        ----------
        events : sequence of Event
            Of one request: all are accepted, or none.

        Returns
        -------
        list of bool
            Whether each was new.
        dict
            Scores by customer, None for those who have none; customers whose score comes later are left out.

        Raises
        ------
        EventConflictError
            If an event id was used for other content.
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
        if not self._has_events or self.problem is not None:
            return
        today = datetime.now(UTC).date()
        if self._refreshed[0] != today:
            self._refreshed = (today, set())
        new = set(customer_ids) - self._refreshed[1]
        self._refreshed[1].update(new)
        self._updater.add(new)

    async def _write_arrived(self) -> None:
        while self._arrived:
            arrived, self._arrived = self._arrived, []
            groups = [events for events, _ in arrived]
            results: Sequence[list[bool] | Exception]
            try:
                results = await run_in(self._thread, self._log.append_all, groups)
            except Exception as error:
                results = [error] * len(arrived)
            for (_, logged), result in zip(arrived, results, strict=True):
                if logged.done():  # its request was cancelled
                    continue
                if isinstance(result, Exception):
                    logged.set_exception(result)
                else:
                    logged.set_result(result)
