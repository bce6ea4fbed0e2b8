"""Scores of a whole snapshot, in this process or by Spark."""

from collections.abc import Iterator, Sequence
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa

from inference.errors import ChurnRadarError
from inference.feature_store import client as feature_store
from inference.progress import track
from inference.registry import registry
from inference.registry.registry import RegisteredModel
from inference.scoring.score import SCHEMA, level_shift_of, mean_logit, now, refuse_other_encoder, score_columns
from inference.warehouse.manifest import Manifest, engine

#: Customers whose features are in memory at once.
CUSTOMERS_AT_ONCE = 20_000


def score_newest_snapshot(
    snapshots: pd.DataFrame, labels: pd.DataFrame, allow_empty: bool = False
) -> pa.RecordBatchReader:
    """Score the customers of the newest snapshot by the champion, ``CUSTOMERS_AT_ONCE`` at a time.

    Parameters
    ----------
    snapshots : DataFrame
        ``int_customer_snapshots``.
    labels : DataFrame
        ``churn_labels``, for the level.
    allow_empty : bool
        Whether a shop without a single customer gets an empty table.

    Returns
    -------
    RecordBatchReader
        The table ``churn_predictions``, made as it is read.

    Raises
    ------
    ChurnRadarError
        If there is no champion or no customer, or the features were read by another encoder than the champion's.
    """
    newest = snapshots.loc[snapshots.is_newest, ["customer_id", "as_of_date"]].sort_values("customer_id")
    if newest.empty and allow_empty:
        return pa.RecordBatchReader.from_batches(SCHEMA, [])
    current = registry.champion(pd.to_datetime(newest.as_of_date).max().date() if len(newest) else None)
    if current is None:
        raise ChurnRadarError("no champion in the model registry; expected one: run with churn__train if_missing")
    services = [feature_store.MODEL_SERVICE]
    if current.model.transformer is not None or current.model.reads_words:
        services.append(feature_store.SEQUENCES_SERVICE)
    labels = labels.merge(_order_days(snapshots), on=["customer_id", "as_of_date"], how="left")
    del snapshots
    if engine() == "spark":
        from inference.scoring.spark_scorer import SparkScorer  # of an extra

        scorer = SparkScorer(current, newest, services)
    else:
        scorer = _Scorer(current, newest, services)
    # the level is that of all customers together, so what the members say of each comes first
    logit, forecast = scorer.members()
    shift = level_shift_of(current, newest.as_of_date.iloc[0], labels, logit, forecast)
    # one moment for all of them: what was scored last at a date is what counts
    return pa.RecordBatchReader.from_batches(SCHEMA, scorer.scored(shift, Manifest.load().fingerprint, now()))


class _Scorer:
    """Scores customers of one date in this process, ``CUSTOMERS_AT_ONCE`` at a time; ``SparkScorer`` is its like."""

    def __init__(self, current: RegisteredModel, customers: pd.DataFrame, services: Sequence[str]) -> None:
        self._current, self._customers, self._services = current, customers, services
        self._said: list[dict[str, np.ndarray]] = []
        self._kept: list[pd.DataFrame] | None = None

    def members(self) -> tuple[np.ndarray, pd.Series]:
        forecasts = []
        for rows in self._read():
            self._said.append(self._current.model.member_logits(*self._current.model.inputs(rows)))
            forecasts.append(rows.no_order_probability)
            self._kept = [rows] if len(self._customers) <= CUSTOMERS_AT_ONCE else None
        return np.concatenate([mean_logit(logits) for logits in self._said]), pd.concat(forecasts)

    def scored(self, shift: float, manifest: str | None, scored_at: datetime) -> Iterator[pa.RecordBatch]:
        for part, logits in zip(self._kept or self._read(), self._said, strict=True):
            columns = score_columns(self._current, part, shift=shift, manifest=manifest, member_logits=logits)
            scored = pd.DataFrame(columns | {"scored_at": scored_at})
            yield pa.RecordBatch.from_pandas(scored, SCHEMA, preserve_index=False)

    def _read(self) -> Iterator[pd.DataFrame]:
        starts = range(0, max(len(self._customers), 1), CUSTOMERS_AT_ONCE)
        for start in track(starts, f"Scoring {len(self._customers):,} customers"):
            asked = self._customers.iloc[start : start + CUSTOMERS_AT_ONCE]
            rows = feature_store.snapshot_features(asked, *self._services)
            refuse_other_encoder(self._current, rows)
            yield rows


def _order_days(snapshots: pd.DataFrame) -> pd.DataFrame:
    """Days from the first and the last order to the as-of date, as ``order_features`` has them."""
    days = {
        f"days_since_{which}_order": (
            pd.to_datetime(snapshots.as_of_date) - pd.to_datetime(snapshots[f"{which}_order_date"])
        ).dt.days
        for which in ("first", "last")
    }
    return snapshots[["customer_id", "as_of_date"]].assign(**days)
