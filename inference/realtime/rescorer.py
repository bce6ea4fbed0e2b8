"""Scores that follow events: read what is known of a customer, add what happened since, score, write back."""

import json
from collections.abc import Iterable
from datetime import UTC, date, datetime

import numpy as np

from inference.errors import ChurnRadarError
from inference.feature_store.client import HISTORIES_VIEW, MODEL_VIEW, SCORES_VIEW, SHOP_VIEW
from inference.pseudonyms import pseudonym
from inference.realtime.history import CustomerRows, ReadText
from inference.realtime.online_store import OnlineStore
from inference.realtime.score import OnlineShop, as_of_now, features_at, packed, rescore
from inference.registry import registry
from inference.registry.registry import RegisteredModel
from inference.text.aspects import aspect_scores
from inference.text.cleaning import clean_text, hash_text
from inference.text.encoder.encoder import Encoder
from inference.text.encoder.vector_cache import VectorsAtHand, keep_at_hand
from inference.warehouse.event_log import EventLog

#: Vectors of texts that are kept in memory, about 1.5 kB each.
MOST_VECTORS = 100_000


class Rescorer:
    """Scores customers anew; of one thread at a time.

    A score says up to which event it knows (``through``). What is in the store and what the log holds are enough to
    go on after a crash: nothing else is remembered.

    Parameters
    ----------
    store : OnlineStore
        Where histories come from and scores go to.
    events : EventLog
        What was accepted.
    """

    def __init__(self, store: OnlineStore, events: EventLog) -> None:
        self._store, self._events = store, events
        self._shop: OnlineShop | None = None
        self._facts: str | None = None
        self._model: RegisteredModel | None = None
        self._vectors = VectorsAtHand(MOST_VECTORS)
        self._read: dict[str, ReadText] = {}
        #: Who had no score, knowing the events up to a position.
        self._no_customers: dict[str, int] = {}

    @property
    def shop(self) -> OnlineShop | None:
        """What was read last of the shop as a whole."""
        return self._shop

    def open(self) -> None:
        """Load the model of the last build, and the encoder where the shop has words.

        Raises
        ------
        StoreDownError
            If the store does not answer.
        ChurnRadarError
            If the model cannot be loaded.
        """
        shop = self._read_shop()
        if shop is not None and shop.encoder_revision:
            self._encoder()

    def rescore(self, customer_ids: Iterable[str]) -> dict[str, dict | None]:
        """Score customers on all that was accepted of them, and write features and scores to the store.

        Parameters
        ----------
        customer_ids : iterable of str
            Customers.

        Returns
        -------
        dict
            The score by customer, as ``rescoring.rescore`` gives it, with ``through`` besides; None for those who are
            no customers now, or of whom no build knows.

        Raises
        ------
        StoreDownError
            If the store does not answer.
        ChurnRadarError
            If the model cannot be loaded.
        """
        told, packed_features = self._told(customer_ids)
        scores = {self._key(customer): score for customer, score in told.items() if score is not None}
        stored = self._store.read(SCORES_VIEW, list(scores))
        after = {key: found[0] for key, found in zip(scores, stored, strict=True) if found}
        # the score comes last: what it says that it knows is known everywhere
        features = {self._key(customer): {"packed": value} for customer, value in packed_features.items()}
        self._store.write(MODEL_VIEW, features, after)
        self._store.write(SCORES_VIEW, {key: {"score": json.dumps(score)} for key, score in scores.items()}, after)
        return told

    def score(self, customer_ids: Iterable[str], as_of: date | None = None) -> dict[str, dict | None]:
        """Score customers on all that was accepted of them, and write nothing.

        Parameters
        ----------
        customer_ids : iterable of str
            Customers.
        as_of : date, optional
            Midnight (UTC); the one whose score is told now where it is not given.

        Returns
        -------
        dict
            As ``rescore`` returns it.
        """
        return self._told(customer_ids, as_of)[0]

    def rows(self, customer_ids: Iterable[str]) -> dict[str, CustomerRows]:
        """Return what is known of customers: what the last build packed, and what was accepted since."""
        ids = list(dict.fromkeys(customer_ids))
        histories = self._store.read(HISTORIES_VIEW, [self._key(customer) for customer in ids])
        found = {}
        for customer, history in zip(ids, histories, strict=True):
            values = history[1] if history else {}
            rows = CustomerRows.unpack(values.get("history"), values.get("text_vectors"), values.get("through"))
            for event in self._events.since(rows.through, customer):
                rows.add(event, event.received_at.replace(tzinfo=None), self._read_text)
                rows.through = event.sequence
            found[customer] = rows
        return found

    def behind(self) -> list[str]:
        """Return the customers whose stored score lacks an event: what a crash left, or a build that ended since."""
        shop = self._read_shop()
        if shop is None:
            return []
        newest = self._events.newest_by_customer(shop.through)
        ids = [customer for customer, sequence in newest.items() if self._no_customers.get(customer) != sequence]
        found = []
        for start in range(0, len(ids), 1000):
            part = ids[start : start + 1000]
            scores = self._store.read(SCORES_VIEW, [self._key(customer) for customer in part])
            found += [c for c, score in zip(part, scores, strict=True) if _through(score) < newest[c]]
        return found

    def _told(
        self, customer_ids: Iterable[str], as_of: date | None = None
    ) -> tuple[dict[str, dict | None], dict[str, bytes]]:
        """Return scores, and the packed features of those who have one."""
        shop = self._read_shop()
        if shop is None:
            return dict.fromkeys(customer_ids), {}
        now, told, features = datetime.now(UTC).replace(tzinfo=None), {}, {}
        for customer, rows in self.rows(customer_ids).items():
            midnight = as_of or max(as_of_now(rows, now), shop.as_of)
            if shop.is_customer(rows, midnight):
                own = features_at(rows, midnight, shop)
                told[customer] = rescore(self._model, own, midnight, shop, customer) | {"through": rows.through}
                features[customer] = packed(own, self._store.model_columns, midnight)
            else:
                told[customer], self._no_customers[customer] = None, rows.through
        return told, features

    def _key(self, customer: str) -> str:
        """Return what a customer is called in the store; the log has the shop's own ids."""
        return pseudonym(customer) if self._shop.pseudonymise else customer

    def _read_shop(self) -> OnlineShop | None:
        """Return the shop's facts; its model is loaded when they change."""
        (found,) = self._store.read(SHOP_VIEW, ["shop"])
        if found is None:
            return None
        facts = found[1]["facts"]
        if facts != self._facts:
            shop = OnlineShop.unpack(facts)
            if self._model is None or self._model.version != shop.model_version:
                self._model = registry.load(shop.model_version)
            self._events.begin_after(shop.through)
            # another build may have read texts by another encoder, or for other aspects
            self._shop, self._facts, self._no_customers, self._read = shop, facts, {}, {}
        return self._shop

    def _encoder(self) -> Encoder:
        encoder = Encoder.shared()
        if self._shop.encoder_revision not in (None, encoder.revision):
            raise ChurnRadarError(
                f"the last build read texts by encoder {self._shop.encoder_revision}, and this process has "
                f"{encoder.revision}; expected one encoder: set CHURN_ENCODER to that of the build"
            )
        if self._vectors.revision != encoder.revision:
            self._vectors.load(encoder.revision)
            keep_at_hand(self._vectors)
        return encoder

    def _read_text(self, text: str) -> ReadText:
        """Read what was written; what was read before, for an event of the same customer say, is at hand."""
        key = hash_text(text)
        if key not in self._read:
            if len(self._read) >= MOST_VECTORS:
                self._read.clear()
            self._read[key] = self._read_anew(text)
        return self._read[key]

    def _read_anew(self, text: str) -> ReadText:
        encoder, aspects = self._encoder(), self._shop.aspects
        cleaned = [clean_text(text) for text in (text, *aspects.description)]
        wanted = {hash_text(text): text for text in cleaned}
        found, _ = self._vectors.vectors(encoder.revision, wanted, encoder.encode)
        vectors = np.vstack([found[hash_text(text)] for text in cleaned])
        scores = aspect_scores(vectors[:1], aspects, encoder, described=vectors[1:])
        return ReadText(vectors[0], {name: float(values[0]) for name, values in scores.items()})


def _through(score: tuple[datetime, dict] | None) -> int:
    """Position of the newest event that a stored score knows; a build's says none."""
    return json.loads(score[1]["score"]).get("through", 0) if score and score[1]["score"] else 0
