"""Scores that follow events: read a customer's history, add the events since, score, write to the online store."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import numpy as np

from inference.errors import ChurnRadarError
from inference.event_log.log import EventLog
from inference.feature_store.client import HISTORIES_VIEW, MODEL_VIEW, SCORES_VIEW, SHOP_VIEW
from inference.pseudonyms import pseudonym
from inference.realtime.history import CustomerRows, ReadText
from inference.realtime.online_store import OnlineStore
from inference.realtime.score import current_as_of, features_at, pack_features, score_customer
from inference.realtime.shop import OnlineShop
from inference.registry import registry
from inference.registry.registry import RegisteredModel
from inference.text.aspects import aspect_scores
from inference.text.cleaning import clean_text, hash_text
from inference.text.encoder.encoder import Encoder
from inference.text.encoder.vector_cache import MemoryVectors, use_cache

#: Customers whose stored scores are read at a time.
CUSTOMERS_PER_READ = 1000
#: Texts whose results are kept in memory, about 2.5 kB each.
MAX_TEXTS = 100_000


@dataclass
class _Build:
    """The last build, loaded for scoring."""

    #: Its row of ``online_shop``, as it is stored and unpacked.
    facts: str
    shop: OnlineShop
    #: Its champion.
    model: RegisteredModel
    #: Cache of embeddings, which outlives the build.
    vectors: MemoryVectors
    #: Position of the newest event of customers who have no score.
    not_scored: dict[str, int] = field(default_factory=dict)
    #: Texts that were read, by hash: a customer's texts come again with each of their events.
    texts: dict[str, ReadText] = field(default_factory=dict)

    def key(self, customer: str) -> str:
        """Return a customer's key in the store; the event log has the shop's own ids."""
        return pseudonym(customer) if self.shop.pseudonymise else customer

    def encoder(self) -> Encoder:
        """Return the encoder of this process, loaded; one that the build did not use is a ``ChurnRadarError``."""
        encoder = Encoder.shared()
        if self.shop.encoder_revision not in (None, encoder.revision):
            raise ChurnRadarError(
                f"the last build read texts by encoder {self.shop.encoder_revision}, and this process has "
                f"{encoder.revision}; expected one encoder: set CHURN_ENCODER to that of the build"
            )
        if self.vectors.revision != encoder.revision:
            encoder.load()
            self.vectors.load(encoder.revision)
            use_cache(self.vectors)
        return encoder

    def read_text(self, text: str) -> ReadText:
        """Embed a text and score it by the aspects of the build, or return the earlier result."""
        key = hash_text(text)
        if key not in self.texts:
            if len(self.texts) >= MAX_TEXTS:
                self.texts.clear()
            encoder, aspects = self.encoder(), self.shop.aspects
            cleaned = [clean_text(text) for text in (text, *aspects.description)]
            by_hash, _ = self.vectors.vectors(encoder.revision, {hash_text(t): t for t in cleaned}, encoder.encode)
            vectors = np.vstack([by_hash[hash_text(text)] for text in cleaned])
            scores = aspect_scores(vectors[:1], aspects, vectors[1:])
            # the cache's own vector: a row of the matrix would keep the vectors of all aspects with it
            vector = by_hash[hash_text(cleaned[0])]
            self.texts[key] = ReadText(vector, {name: float(values[0]) for name, values in scores.items()})
        return self.texts[key]


class Rescorer:
    """Scores customers anew; not thread-safe.

    A stored score holds the position of the newest event that it reflects (``through``), so the store and the event
    log are enough to resume after a crash. Methods raise ``StoreDownError`` if the store does not answer, and
    ``ChurnRadarError`` if the model cannot be loaded or the encoder is not that of the build.
    """

    def __init__(self, store: OnlineStore, events: EventLog) -> None:
        self._store, self._events = store, events
        self._build: _Build | None = None
        self._vectors = MemoryVectors(MAX_TEXTS)

    @property
    def shop(self) -> OnlineShop | None:
        """The last build; None before ``open``, or without a build."""
        return self._build.shop if self._build else None

    def open(self) -> None:
        """Load the model of the last build, and the encoder if the shop has texts."""
        build = self._read_build()
        if build is not None and build.shop.encoder_revision:
            build.encoder()

    def rescore(self, customer_ids: Iterable[str]) -> dict[str, dict[str, Any] | None]:
        """Score customers on all of their accepted events, and write features and scores to the store.

        Returns
        -------
        dict
            The score by customer, as returned by ``score_customer``, with ``through`` added; None for those who are
            not customers now, or if there is no build.
        """
        build = self._read_build()
        if build is None:
            return dict.fromkeys(customer_ids)
        scores, packed = self._score(build, customer_ids)
        by_key = {build.key(customer): score for customer, score in scores.items() if score is not None}
        stored = self._store.read(SCORES_VIEW, list(by_key))
        after = {key: row[0] for key, row in zip(by_key, stored, strict=True) if row}
        features = {build.key(customer): {"packed": value} for customer, value in packed.items()}
        self._store.write(MODEL_VIEW, features, after)
        # the score comes last: its features are then in the store as well
        self._store.write(SCORES_VIEW, {key: {"score": json.dumps(score)} for key, score in by_key.items()}, after)
        return scores

    def overtaken(self, scores: Mapping[str, dict[str, Any] | None]) -> list[str]:
        """Return the customers with events that scores just written lack: those of another service may be replaced."""
        not_scored = self._build.not_scored if self._build else {}
        through = {c: score["through"] if score else not_scored.get(c) for c, score in scores.items()}
        known = {c: position for c, position in through.items() if position is not None}  # without a build, nobody's
        return [c for c, position in known.items() if next(iter(self._events.since(position, c)), None) is not None]

    def behind(self) -> list[str]:
        """Return the customers whose stored score lacks an event, after a crash or a build."""
        build = self._read_build()
        if build is None:
            return []
        newest = self._events.newest_by_customer(build.shop.through)
        ids = [customer for customer, sequence in newest.items() if build.not_scored.get(customer) != sequence]
        behind = []
        for start in range(0, len(ids), CUSTOMERS_PER_READ):
            part = ids[start : start + CUSTOMERS_PER_READ]
            scores = self._store.read(SCORES_VIEW, [build.key(customer) for customer in part])
            behind += [c for c, score in zip(part, scores, strict=True) if _through(score) < newest[c]]
        return behind

    def _score(
        self, build: _Build, customer_ids: Iterable[str], as_of: date | None = None
    ) -> tuple[dict[str, dict[str, Any] | None], dict[str, bytes]]:
        """Return scores by customer, and packed features of those who have a score."""
        now, shop = datetime.now(UTC).replace(tzinfo=None), build.shop
        scores: dict[str, dict[str, Any] | None] = {}
        packed: dict[str, bytes] = {}
        for customer, rows in self._rows(build, customer_ids).items():
            midnight = as_of or max(current_as_of(rows, now), shop.as_of)
            if shop.is_customer(rows, midnight):
                features = features_at(rows, midnight, shop)
                score = score_customer(build.model, features, midnight, shop, customer)
                scores[customer] = score | {"through": rows.through}
                packed[customer] = pack_features(features, self._store.model_columns, midnight)
            else:
                scores[customer], build.not_scored[customer] = None, rows.through
        return scores, packed

    def _rows(self, build: _Build, customer_ids: Iterable[str]) -> dict[str, CustomerRows]:
        ids: Sequence[str] = list(dict.fromkeys(customer_ids))
        histories = self._store.read(HISTORIES_VIEW, [build.key(customer) for customer in ids])
        by_customer = {}
        for customer, history in zip(ids, histories, strict=True):
            packed = history[1] if history else {}
            rows = CustomerRows.unpack(packed.get("history"), packed.get("text_vectors"), packed.get("through"))
            dropped = self._events.newest_dropped(customer)  # first: the events that follow are without these
            for event in self._events.since(rows.through, customer):
                rows.add(event, event.received_at.replace(tzinfo=None), build.read_text)
                rows.through = event.sequence
            rows.through = max(rows.through, dropped)
            by_customer[customer] = rows
        return by_customer

    def _read_build(self) -> _Build | None:
        """Return the last build, loaded again if it is a new one; None if there is none."""
        (row,) = self._store.read(SHOP_VIEW, ["shop"])
        if row is None or row[1]["facts"] is None:  # a store without it answers with nulls
            return None
        facts, last = row[1]["facts"], self._build
        if last is None or facts != last.facts:
            shop = OnlineShop.unpack(facts)
            is_same_model = last is not None and last.model.version == shop.model_version
            model = last.model if last is not None and is_same_model else registry.load(shop.model_version)
            self._events.begin_after(shop.through)
            # its caches begin anew: the new build may have other aspects, or none of the texts
            self._build = _Build(facts, shop, model, self._vectors)
        return self._build


def _through(score: tuple[datetime, dict] | None) -> int:
    """Return the position of the newest event in a stored score; a build's score has none."""
    return json.loads(score[1]["score"]).get("through", 0) if score and score[1]["score"] else 0
