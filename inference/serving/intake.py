"""Takes events in: on disk first, then into the scores; requests that wait together share the work."""

import asyncio
import gc
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, date, datetime
from typing import TypeVar

from inference.errors import ChurnRadarError
from inference.home import home
from inference.pseudonyms import ERASED_CUSTOMERS, erased_customers, salted_hash
from inference.realtime.online_store import OnlineStore, StoreDownError
from inference.realtime.rescorer import Rescorer
from inference.warehouse.event_log import Event, EventLog

T = TypeVar("T")
log = logging.getLogger("churn_radar")

#: Seconds in which a score follows an event, or is promised for later; and between two tries.
SCORE_TIMEOUT, RETRY_SECONDS = 0.9, 1.0
#: Seconds between two looks at what builds have stored.
CATCH_UP_SECONDS = 10.0
#: ``churn__history_days`` where no build has said.
USUAL_HISTORY_DAYS = 730
#: Customers that are scored in one go, so that nobody waits long for others.
MOST_TOGETHER = 16


class Intake:
    """Logs events and keeps scores up with them.

    One thread writes the log, one scores. While either works, requests gather, and the next round is for all of them:
    one flush of the disk serves many.

    Attributes
    ----------
    problem : str or None
        Why scores do not follow events now.
    """

    def __init__(self) -> None:
        self.problem: str | None = "the model is being loaded"
        self._log: EventLog | None = None
        self._rescorer: Rescorer | None = None
        self._log_thread = ThreadPoolExecutor(1, thread_name_prefix="log")
        self._score_thread = ThreadPoolExecutor(1, thread_name_prefix="score")
        self._arrived: list[tuple[Sequence[Event], asyncio.Future]] = []
        self._behind: dict[str, list[asyncio.Future]] = {}
        self._wake = asyncio.Event()
        self._tasks: dict[str, asyncio.Task] = {}
        self._has_events = False
        self._together = MOST_TOGETHER
        self._erased: tuple[int | None, set[str]] = (None, set())
        self._aged: tuple[date | None, set[str]] = (None, set())

    async def open(self) -> None:
        """Open the log, and begin to load the model, which takes seconds."""
        self._log = await _in(self._log_thread, EventLog)
        self._has_events = await _in(self._log_thread, self._log.newest) > 0
        self._tasks["score"] = asyncio.create_task(self._keep_up())
        self._tasks["catch up"] = asyncio.create_task(self._catch_up())

    async def close(self) -> None:
        """Finish what is being written."""
        for name in ("catch up", "score"):
            if name in self._tasks:
                self._tasks[name].cancel()
                with suppress(asyncio.CancelledError):
                    await self._tasks[name]
        self._score_thread.shutdown(wait=True, cancel_futures=True)
        self._log_thread.shutdown(wait=True)
        if self._log:
            self._log.close()

    @property
    def behind(self) -> int:
        """Customers whose score does not know all of their events."""
        return len(self._behind)

    @property
    def history_days(self) -> int:
        """How old an event may be: ``churn__history_days`` of the last build."""
        shop = self._rescorer.shop if self._rescorer else None
        return shop.facts.history_days if shop else USUAL_HISTORY_DAYS

    async def accept(self, events: Sequence[Event]) -> tuple[list[bool], dict[str, dict]]:
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
            Scores by customer, None for those who have none; without those that have to wait.

        Raises
        ------
        EventConflictError
            If an event id was used for other content.
        """
        loop = asyncio.get_running_loop()
        logged = loop.create_future()
        self._arrived.append((events, logged))
        if "append" not in self._tasks or self._tasks["append"].done():
            self._tasks["append"] = asyncio.create_task(self._append())
        added = await logged
        self._has_events = True
        ids = list(dict.fromkeys(event.customer_id for event in events))
        scores = [loop.create_future() for _ in ids]
        for customer, score in zip(ids, scores, strict=True):
            self._behind.setdefault(customer, []).append(score)
        self._wake.set()
        done, _ = await asyncio.wait(scores, timeout=SCORE_TIMEOUT)
        return added, {c: s.result() for c, s in zip(ids, scores, strict=True) if s in done and not s.exception()}

    def is_erased(self, customer_id: str) -> bool:
        """Whether ``churn-radar erase`` removed a customer; nothing of them is taken in again."""
        file = home() / ERASED_CUSTOMERS
        changed = file.stat().st_mtime_ns if file.exists() else None
        if changed != self._erased[0]:
            self._erased = (changed, erased_customers())
        return bool(self._erased[1]) and salted_hash("erased", customer_id) in self._erased[1]

    def revisit(self, customer_ids: Iterable[str]) -> None:
        """Score customers again whose score is of an earlier day, once a day, where the shop sends events at all.

        Where it sends none, nobody knows here whether a customer was silent or the tables are old.
        """
        if not self._has_events or self.problem is not None:
            return
        today = datetime.now(UTC).date()
        if self._aged[0] != today:
            self._aged = (today, set())
        for customer in customer_ids:
            if customer not in self._aged[1]:
                self._aged[1].add(customer)
                self._behind.setdefault(customer, [])
        self._wake.set()

    async def _append(self) -> None:
        while self._arrived:
            arrived, self._arrived = self._arrived, []
            try:
                results = await _in(self._log_thread, self._log.append_all, [events for events, _ in arrived])
            except Exception as error:
                results = [error] * len(arrived)
            for (_, logged), result in zip(arrived, results, strict=True):
                if logged.done():  # whoever waited has gone
                    continue
                if isinstance(result, Exception):
                    logged.set_exception(result)
                else:
                    logged.set_result(result)

    async def _keep_up(self) -> None:
        """Score whoever is behind, as long as the service runs."""
        while True:
            try:
                if self._rescorer is None:
                    self._rescorer = await _in(self._score_thread, _start)
                    await self._find_behind()
                self.problem = None
                while self._behind:
                    await self._score_some()
                self._wake.clear()
                await self._wake.wait()
            except StoreDownError as error:
                self.problem = str(error)
                await asyncio.sleep(RETRY_SECONDS)
            except Exception as error:
                # what it says may name a path: it is for the log alone
                self.problem = "the model of the last build cannot be used; the log says why"
                log.warning("scores do not follow events: %s: %s", type(error).__name__, error)
                await asyncio.sleep(RETRY_SECONDS)

    async def _catch_up(self) -> None:
        """Look now and then for scores that a build stored although events came while it ran."""
        while True:
            await asyncio.sleep(CATCH_UP_SECONDS)
            if self.problem is None and not self._behind:
                # what is wrong now is found, and told, by the next score
                with suppress(Exception):
                    await self._find_behind()

    async def _find_behind(self) -> None:
        for customer in await _in(self._score_thread, self._rescorer.behind):
            self._behind.setdefault(customer, [])
        self._wake.set()

    async def _score_some(self) -> None:
        some = dict(list(self._behind.items())[: self._together])
        for customer in some:
            del self._behind[customer]
        try:
            told = await _in(self._score_thread, self._rescorer.rescore, list(some))
        except (StoreDownError, ChurnRadarError, asyncio.CancelledError) as error:
            self._put_back(some, error)
            raise
        except Exception as error:
            # one of them is at fault: each by itself, and that one not again until its next event
            log.error("%d customers could not be scored: %s", len(some), type(error).__name__)
            self._together = 1
            if len(some) == 1:
                _answer(some, error)
            else:
                self._put_back(some, error)
            return
        self._together = MOST_TOGETHER
        for customer, waiting in some.items():
            for score in waiting:
                if not score.done():
                    score.set_result(told[customer])

    def _put_back(self, some: dict[str, list[asyncio.Future]], error: BaseException) -> None:
        """Tell those who wait that it will be later; the customers keep their turn."""
        _answer(some, error)
        self._behind = {customer: [] for customer in some} | self._behind


def _answer(some: dict[str, list[asyncio.Future]], error: BaseException) -> None:
    for score in (score for waiting in some.values() for score in waiting if not score.done()):
        score.set_exception(error if isinstance(error, Exception) else RuntimeError("stopped"))
        score.exception()


def leave_out_of_gc() -> None:
    """Take what was loaded for good: looking through all of it for cycles would stop every request again and again."""
    gc.collect()
    gc.freeze()


def _start() -> Rescorer:
    rescorer = Rescorer(OnlineStore(), EventLog())
    rescorer.open()
    leave_out_of_gc()
    return rescorer


async def _in(thread: ThreadPoolExecutor, work: Callable[..., T], *arguments: object) -> T:
    return await asyncio.get_running_loop().run_in_executor(thread, work, *arguments)
