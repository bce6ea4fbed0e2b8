"""Stored scores from Feast's online store."""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime

from inference import feature_store
from inference.serving.answers import Churn

#: Seconds after which Redis is taken to be down.
REDIS_TIMEOUT = 0.4


class StoreDownError(Exception):
    """The online store does not answer, or nothing was materialised to it yet."""


class ScoreLookup:
    """Reads ``churn_scores_v1`` by one thread at a time, because Feast shares one connection."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._store = self._service = None

    def open(self) -> None:
        """Load Feast, which takes seconds, and what is registered.

        Raises
        ------
        StoreDownError
            If nothing was applied yet.
        """
        try:
            store = feature_store.open_store(timeout=REDIS_TIMEOUT)
            self._service = store.get_feature_service(feature_store.SCORES_SERVICE)
            self._store = store
        except Exception as error:
            raise StoreDownError(type(error).__name__) from error

    def read(self, customer_ids: Sequence[str]) -> list[Churn | None]:
        """Look customers up.

        Parameters
        ----------
        customer_ids : sequence of str
            Customers, none of them twice.

        Returns
        -------
        list of Churn or None
            One per customer, in their order; None where there is no score.

        Raises
        ------
        StoreDownError
            If the store does not answer.
        """
        with self._lock:
            if self._store is None:
                self.open()
            try:
                response = self._store.get_online_features(self._service, {"customer_id": list(customer_ids)})
            except Exception as error:
                raise StoreDownError(type(error).__name__) from error
        columns = response.to_dict(include_event_timestamps=True)
        now = datetime.now(UTC)
        rows = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
        return [None if row["churn_probability"] is None else _answer(row, now) for row in rows]


def _answer(row: dict, now: datetime) -> Churn:
    as_of = datetime.fromtimestamp(row["churn_probability__ts"], UTC)
    # checked where it was published: dbt's contract and data tests hold for every row
    return Churn.model_construct(
        **{name: row[name] for name in Churn.model_fields if name in row},
        reasons=[row[name] for name in ("reason_1", "reason_2", "reason_3") if row[name]],
        as_of=as_of,
        feature_age_seconds=max((now - as_of).total_seconds(), 0.0),
        source="stored",
    )
