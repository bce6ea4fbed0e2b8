"""Stored scores from Feast's online store."""

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from inference.feature_store.client import SCORES_SERVICE, SHOP_VIEW, open_store
from inference.pseudonyms import pseudonym
from inference.realtime.online_store import REDIS_TIMEOUT, StoreDownError
from inference.serving.answers import MAX_CUSTOMERS, Churn
from inference.warehouse.ids import plain_number

if TYPE_CHECKING:
    from feast import FeatureService, FeatureStore

#: Seconds that a lookup may take, and additional seconds per customer.
LOOKUP_TIMEOUT, CUSTOMER_TIMEOUT = 0.9, 0.002
#: Turns of the event loop before a read. Meanwhile responses go out and clients ask again, so that one read serves more
#: of them: a quarter more requests per second at 8 connections (``benchmarks/serving.py``).
GATHERING_TURNS = 4


class ScoreLookup:
    """Reads ``churn_scores_v1`` with one read for all requests that wait at the same time.

    One thread reads, because Feast has one connection. Requests gather meanwhile, and the next read is for all of
    them: most of the time of a read does not depend on its number of customers.
    """

    def __init__(self) -> None:
        self._service: tuple[FeatureStore, FeatureService] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lookup")
        self._waiting: dict[str, asyncio.Future] = {}
        self._reading: asyncio.Task | None = None
        self._numeric_ids: frozenset[str] = frozenset()

    async def open(self) -> None:
        """Load Feast and its registry, which takes seconds; before ``feast apply``, raise ``StoreDownError``."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._open)

    def close(self) -> None:
        """Stop the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def read(self, customer_ids: Sequence[str]) -> list[Churn | None]:
        """Return a score per customer, in their order, None where there is none; late ones are a ``StoreDownError``."""
        loop = asyncio.get_running_loop()
        answers = [self._waiting.setdefault(customer, loop.create_future()) for customer in customer_ids]
        if self._reading is None or self._reading.done():
            self._reading = loop.create_task(self._read_waiting())
        # another request may wait for the same customer, so that no answer is cancelled
        _, late = await asyncio.wait(answers, timeout=LOOKUP_TIMEOUT + CUSTOMER_TIMEOUT * len(answers))
        if late:
            raise StoreDownError("timeout")
        return [answer.result() for answer in answers]

    async def numeric_ids(self) -> frozenset[str]:
        """Return the kinds of ids that the warehouse has as numbers; as they were while the store does not answer."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read_numeric_ids)

    async def _read_waiting(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            for _ in range(GATHERING_TURNS):
                await asyncio.sleep(0)
            batch = dict(list(self._waiting.items())[:MAX_CUSTOMERS])
            for customer in batch:
                del self._waiting[customer]
            try:
                scores = await loop.run_in_executor(self._thread, self._read, list(batch))
            except StoreDownError as error:
                for answer in batch.values():
                    answer.set_exception(error)
                    answer.exception()  # mark as retrieved: its request may be gone
            else:
                for answer, score in zip(batch.values(), scores, strict=True):
                    answer.set_result(score)

    def _open(self) -> "tuple[FeatureStore, FeatureService]":
        if self._service is None:
            try:
                store = open_store(timeout=REDIS_TIMEOUT)
                self._service = store, store.get_feature_service(SCORES_SERVICE)
            except Exception as error:
                raise StoreDownError(type(error).__name__) from error
        return self._service

    def _read(self, customer_ids: list[str]) -> list[Churn | None]:
        ids, scores = list(customer_ids), self._scores(customer_ids)
        if missing := [i for i, score in enumerate(scores) if score is None]:
            other = {i: plain_number(ids[i]) for i in missing if plain_number(ids[i]) != ids[i]}
            if other and "customer" in self._read_numeric_ids():
                for i, number in other.items():
                    ids[i] = number
            # the store's keys may be pseudonyms
            again = self._scores([key for i in missing for key in (ids[i], pseudonym(ids[i]))])
            for i, own, hidden in zip(missing, again[::2], again[1::2], strict=True):
                scores[i] = own or hidden
        now = datetime.now(UTC)
        return [
            None if score is None else to_answer(customer, json.loads(score[0]), now, score[1])
            for customer, score in zip(ids, scores, strict=True)
        ]

    def _read_numeric_ids(self) -> frozenset[str]:
        with suppress(Exception):  # a store without the view, or that does not answer
            store, _ = self._open()
            facts = store.get_online_features([f"{SHOP_VIEW}:facts"], {"shop_id": ["shop"]}).to_dict()["facts"][0]
            self._numeric_ids = frozenset(json.loads(facts).get("numeric_ids", ()) if facts else ())
        return self._numeric_ids

    def _scores(self, customer_ids: list[str]) -> list[tuple[str, datetime] | None]:
        store, service = self._open()
        try:
            response = store.get_online_features(service, {"customer_id": customer_ids})
        except Exception as error:
            raise StoreDownError(type(error).__name__) from error
        columns = response.to_dict(include_event_timestamps=True)
        return [
            None if score is None else (score, datetime.fromtimestamp(as_of, UTC))
            for score, as_of in zip(columns["score"], columns["score__ts"], strict=True)
        ]


def to_answer(customer_id: str, score: dict, now: datetime, stored_as_of: datetime | None = None) -> Churn:
    """Return a score of ``online_scores`` or of ``realtime.score.score_customer`` as an answer of the service.

    ``stored_as_of`` is the event timestamp of a score by a build; others hold ``as_of``.
    """
    if stored_as_of is None or "as_of" in score:
        source, as_of = "fresh", datetime.fromisoformat(score["as_of"])
        known_until = datetime.fromisoformat(score["scored_at"])
    else:
        source, as_of, known_until = "stored", stored_as_of, stored_as_of
    # without validation: the contract and the data tests of churn_scores hold for every row
    own = {
        "customer_id": customer_id,
        "reasons": [score[name] for name in ("reason_1", "reason_2", "reason_3") if score[name]],
        "as_of": as_of,
        "feature_age_seconds": max((now - known_until).total_seconds(), 0.0),
        "source": source,
    }
    same = {name: score[name] for name in score.keys() & Churn.model_fields.keys()}
    return Churn.model_construct(**same | own)
