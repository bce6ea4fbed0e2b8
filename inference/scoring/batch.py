"""Scores of a whole snapshot, computed in this process or by Spark."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa

from inference.errors import ChurnRadarError
from inference.feature_store import client
from inference.model.level import anchored_shift, level_history
from inference.progress import track
from inference.registry import registry
from inference.registry.registry import RegisteredModel
from inference.scoring.score import SCHEMA, mean_logit, now, refuse_other_encoder, score_columns
from inference.warehouse.manifest import Manifest, engine

if TYPE_CHECKING:
    from inference.scoring.spark_scorer import SparkScorer

#: Customers whose features are held in memory at once.
CUSTOMERS_AT_ONCE = 20_000


def score_newest_snapshot(
    snapshots: pd.DataFrame, labels: pd.DataFrame, allow_empty: bool = False
) -> pa.RecordBatchReader:
    """Score the customers of the newest snapshot with the champion, in batches of ``CUSTOMERS_AT_ONCE``.

    ``snapshots`` are ``int_customer_snapshots``; ``labels`` are ``churn_labels``, which set the level. With
    ``allow_empty`` a shop without customers gets an empty table instead of an error. The rows of ``churn_predictions``
    are computed while they are read.

    Raises
    ------
    ChurnRadarError
        If there is no champion or no customer, or texts were embedded by another encoder than the champion's.
    """
    newest = snapshots.loc[snapshots.is_newest, ["customer_id", "as_of_date"]].sort_values("customer_id")
    if newest.empty and allow_empty:
        return pa.RecordBatchReader.from_batches(SCHEMA, [])
    current = registry.champion(pd.to_datetime(newest.as_of_date).max().date() if len(newest) else None)
    if current is None:
        raise ChurnRadarError("no champion in the model registry; expected one: run with churn__train if_missing")
    services = [client.MODEL_SERVICE]
    if current.model.reads_sequences or current.model.reads_words:
        services.append(client.SEQUENCES_SERVICE)
    labels = labels.merge(_order_days(snapshots), on=["customer_id", "as_of_date"], how="left")
    del snapshots  # frees memory for the features
    scorer = _scorer(current, newest, services)
    # the level shift depends on the log-odds of all customers, so these are computed first
    logit, forecast = scorer.mean_logits()
    history = level_history(labels, current.model.horizon_days)
    as_of_date = pd.Timestamp(newest.as_of_date.iloc[0])
    shift = anchored_shift(current.model.anchor, as_of_date, history, logit, forecast)
    # all rows get the same time: readers take the latest of a date
    return pa.RecordBatchReader.from_batches(SCHEMA, scorer.scores(shift, Manifest.load().fingerprint, now()))


class LocalScorer:
    """Scores customers (``customer_id`` and ``as_of_date``) of one date in this process.

    ``services`` are the feature services that the model reads; ``SparkScorer`` has the same interface.
    """

    def __init__(self, current: RegisteredModel, customers: pd.DataFrame, services: Sequence[str]) -> None:
        self._current, self._customers, self._services = current, customers, services
        self._logits: list[dict[str, np.ndarray]] = []
        self._only_batch: list[pd.DataFrame] | None = None

    def mean_logits(self) -> tuple[np.ndarray, pd.Series]:
        """Return each customer's mean log-odds of the members and purchase forecast, both of shape (n_customers,)."""
        forecasts = []
        for rows in self._read():
            self._logits.append(self._current.model.member_logits(*self._current.model.inputs(rows)))
            forecasts.append(rows.no_order_probability)
            self._only_batch = [rows] if len(self._customers) <= CUSTOMERS_AT_ONCE else None
        return np.concatenate([mean_logit(logits) for logits in self._logits]), pd.concat(forecasts)

    def scores(self, shift: float, manifest: str | None, scored_at: datetime) -> Iterator[pa.RecordBatch]:
        """Yield rows of ``churn_predictions``; call ``mean_logits`` first."""
        for rows, logits in zip(self._only_batch or self._read(), self._logits, strict=True):
            columns = score_columns(self._current, rows, shift=shift, manifest=manifest, member_logits=logits)
            scored = pd.DataFrame(columns | {"scored_at": scored_at})
            yield pa.RecordBatch.from_pandas(scored, SCHEMA, preserve_index=False)

    def _read(self) -> Iterator[pd.DataFrame]:
        starts = range(0, max(len(self._customers), 1), CUSTOMERS_AT_ONCE)
        for start in track(starts, f"Scoring {len(self._customers):,} customers"):
            batch = self._customers.iloc[start : start + CUSTOMERS_AT_ONCE]
            rows = client.snapshot_features(batch, *self._services)
            refuse_other_encoder(self._current, rows)
            yield rows


def _scorer(current: RegisteredModel, customers: pd.DataFrame, services: Sequence[str]) -> "LocalScorer | SparkScorer":
    if engine() == "spark":
        from inference.scoring.spark_scorer import SparkScorer  # needs the extra "spark"

        return SparkScorer(current, customers, services)
    return LocalScorer(current, customers, services)


def _order_days(snapshots: pd.DataFrame) -> pd.DataFrame:
    """Days from the first and the last order to the as-of date, as in ``order_features``."""
    days = snapshots[["customer_id", "as_of_date"]].copy()
    for which in ("first", "last"):
        ordered_on = pd.to_datetime(snapshots[f"{which}_order_date"])
        days[f"days_since_{which}_order"] = (pd.to_datetime(snapshots.as_of_date) - ordered_on).dt.days
    return days
