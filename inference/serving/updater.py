"""Keeps stored scores up to date with the event log, in the background."""

import asyncio
import gc
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from inference.errors import ChurnRadarError
from inference.event_log.events import EventLogDownError
from inference.event_log.opening import open_log
from inference.realtime.online_store import OnlineStore, StoreDownError

if TYPE_CHECKING:
    from inference.realtime.rescorer import Rescorer

T = TypeVar("T")
logger = logging.getLogger(__name__)

#: Seconds that a request waits for scores, and between two attempts after an error.
SCORE_TIMEOUT, RETRY_SECONDS = 0.9, 1.0
#: Seconds between two searches for scores that lack events, which a build leaves behind.
CATCH_UP_SECONDS = 10.0
#: Customers scored at a time, so that nobody waits long for others.
MAX_TOGETHER = 16
#: Says to whoever asks that events are not accepted now, and scores do not follow them.
NO_LOG = "the event log does not answer"
#: ``churn__history_days`` before the first build.
DEFAULT_HISTORY_DAYS = 730


class ScoreUpdater:
    """Scores customers in one thread; customers who arrive while it works are scored together next.

    Attributes
    ----------
    problem : str or None
        Why scores do not follow events now; None if they do.
    """

    def __init__(self) -> None:
        self.problem: str | None = "the model is being loaded"
        self._rescorer: Rescorer | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="score")
        #: Requests that wait for a score, by customer; these customers are scored before those whom nobody waits for.
        self._waiting: dict[str, list[asyncio.Future]] = {}
        #: Customers to score whom nobody waits for.
        self._behind: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task] = []
        self._batch_size = MAX_TOGETHER

    def start(self) -> None:
        """Begin to load the model and to update scores."""
        self._tasks = [asyncio.create_task(self._update()), asyncio.create_task(self._catch_up())]

    async def close(self) -> None:
        """Stop after the scores that are being written."""
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self._thread.shutdown(wait=True, cancel_futures=True)

    @property
    def n_behind(self) -> int:
        """Customers whose score does not reflect all of their events."""
        return len(self._waiting) + len(self._behind)

    @property
    def history_days(self) -> int:
        """Maximal age of an event in days: ``churn__history_days`` of the last build."""
        shop = self._rescorer.shop if self._rescorer else None
        return shop.facts.history_days if shop else DEFAULT_HISTORY_DAYS

    def add(self, customers: Iterable[str]) -> None:
        """Have customers scored in the background."""
        self._behind |= dict.fromkeys(customer for customer in customers if customer not in self._waiting)
        self._wake.set()

    async def score(self, customers: Iterable[str]) -> dict[str, dict[str, Any] | None]:
        """Return scores by customer, None for those who have none, without those who are scored later.

        These are all of them while there is a problem, else those not scored in ``SCORE_TIMEOUT``.
        """
        if self.problem is not None:
            self.add(customers)
            return {}
        scores = {customer: asyncio.get_running_loop().create_future() for customer in customers}
        for customer, score in scores.items():
            self._behind.pop(customer, None)
            self._waiting.setdefault(customer, []).append(score)
        self._wake.set()
        done, _ = await asyncio.wait(scores.values(), timeout=SCORE_TIMEOUT)
        return {c: score.result() for c, score in scores.items() if score in done and not score.exception()}

    async def _update(self) -> None:
        """Score whoever is behind, as long as the service runs."""
        while True:
            try:
                if self._rescorer is None:
                    rescorer = await run_in(self._thread, _open_rescorer)
                    self._rescorer = rescorer
                    self.add(await run_in(self._thread, rescorer.behind))
                while self._waiting or self._behind:
                    await self._score_batch(self._rescorer)
                    self.problem = None
                self.problem = None
                self._wake.clear()
                await self._wake.wait()
            except StoreDownError as error:
                self.problem = str(error)
                await asyncio.sleep(RETRY_SECONDS)
            except EventLogDownError as error:
                self.problem = NO_LOG
                logger.warning("scores do not follow events: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
            except Exception as error:
                # the message may name a path: it goes to the log only
                self.problem = "the model of the last build cannot be used; the log says why"
                logger.warning("scores do not follow events: %s: %s", type(error).__name__, error)
                await asyncio.sleep(RETRY_SECONDS)

    async def _catch_up(self) -> None:
        """Find scores that a build stored while events came in."""
        while True:
            await asyncio.sleep(CATCH_UP_SECONDS)
            if self._rescorer is not None and self.problem in (None, NO_LOG) and not self.n_behind:
                # another error shows up again, and is reported, when the next customer is scored
                with suppress(Exception):
                    try:
                        self.add(await run_in(self._thread, self._rescorer.behind))
                    except EventLogDownError:  # no event is accepted either, so that nobody is scored
                        self.problem = NO_LOG

    async def _score_batch(self, rescorer: "Rescorer") -> None:
        batch = dict(islice(self._waiting.items(), self._batch_size))
        for customer in batch:
            del self._waiting[customer]
        for customer in list(islice(self._behind, self._batch_size - len(batch))):
            del self._behind[customer]
            batch[customer] = []
        try:
            scores = await run_in(self._thread, rescorer.rescore, list(batch))
            self.add(await run_in(self._thread, rescorer.overtaken, scores))
        except (StoreDownError, ChurnRadarError, asyncio.CancelledError) as error:
            others, self._waiting = self._waiting, {}
            self._put_back(others, error)
            self._put_back(batch, error)
            raise
        except Exception as error:
            # one customer fails: score each alone, and drop the failing one until its next event
            logger.error("%d customers could not be scored: %s", len(batch), type(error).__name__)
            self._batch_size = 1
            if len(batch) == 1:
                _fail(batch, error)
            else:
                self._put_back(batch, error)
            return
        self._batch_size = MAX_TOGETHER
        for customer, waiting in batch.items():
            for score in waiting:
                if not score.done():
                    score.set_result(scores[customer])

    def _put_back(self, batch: dict[str, list[asyncio.Future]], error: BaseException) -> None:
        """Answer the waiting requests with an error, and put the customers first in the queue."""
        _fail(batch, error)
        self._behind = dict.fromkeys(customer for customer in batch if customer not in self._waiting) | self._behind


async def run_in(thread: ThreadPoolExecutor, work: Callable[..., T], *arguments: object) -> T:
    """Run a function in a thread."""
    return await asyncio.get_running_loop().run_in_executor(thread, work, *arguments)


def _fail(batch: dict[str, list[asyncio.Future]], error: BaseException) -> None:
    for score in (score for waiting in batch.values() for score in waiting if not score.done()):
        score.set_exception(error if isinstance(error, Exception) else RuntimeError("stopped"))
        score.exception()  # mark as retrieved: its request may be gone


def _open_rescorer() -> "Rescorer":
    from inference.realtime.rescorer import Rescorer  # with SciPy and LightGBM, which take a second

    rescorer = Rescorer(OnlineStore(), open_log())
    rescorer.open()
    gc.collect()
    gc.freeze()  # see app._lifespan
    return rescorer
