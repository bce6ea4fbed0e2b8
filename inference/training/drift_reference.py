"""Distributions of a model's features in bins, the reference for drift of later snapshots, which SQL computes."""

import tempfile
from contextlib import suppress

import numpy as np
import pandas as pd
import pyarrow as pa

from inference.evaluation.drift import bin_shares, population_stability
from inference.model.churn_model import REFERENCE_FILE, ChurnModel
from inference.registry.snapshot import artifact_path, read_snapshot

#: Number of earlier snapshots that are needed to know how much drift is usual.
MIN_SNAPSHOTS = 3

#: Name of the score among the features.
SCORE = "churn_probability"

#: The table churn_drift_reference.
SCHEMA = pa.schema(
    [
        ("model_version", pa.string()),
        ("feature", pa.string()),
        ("is_read", pa.bool_()),
        ("as_of_date", pa.timestamp("us")),
        ("customers", pa.int64()),
        ("usual_psi", pa.float64()),
        ("bin", pa.int64()),
        ("is_missing", pa.bool_()),
        ("above", pa.float64()),
        ("up_to", pa.float64()),
        ("share", pa.float64()),
    ]
)


def drift_reference(model: ChurnModel, features: pd.DataFrame, as_of_dates: pd.Series) -> pd.DataFrame:
    """Distribution of every feature and of the score at the newest training snapshot.

    One row per feature and bin, the columns of ``SCHEMA`` but ``model_version``. The score, under the name ``SCORE``,
    is that of the newest validation snapshot, predicted out of time; it has no rows without validation.
    ``usual_psi`` is the largest population stability index between an earlier snapshot and the newest one; null with
    fewer than ``MIN_SNAPSHOTS`` earlier ones.

    Parameters
    ----------
    model : ChurnModel
        Trained model with its validation.
    features : DataFrame
        Numeric features of its training rows, including those that are not its inputs.
    as_of_dates : Series
        Snapshot of each row.
    """
    parts = [_distribution(name, features[name], as_of_dates, name in model.features) for name in features.columns]
    if model.validation is not None:
        scores = model.validation
        parts.append(_distribution(SCORE, scores.probability, scores.as_of_date, False))
    return pd.concat(parts, ignore_index=True)


def _distribution(feature: str, values: pd.Series, as_of_dates: pd.Series, is_read: bool) -> pd.DataFrame:
    newest = as_of_dates.max()
    numbers = pd.to_numeric(values).to_numpy(dtype=float)
    snapshots = {date: numbers[rows] for date, rows in as_of_dates.groupby(as_of_dates).indices.items()}
    reference = snapshots.pop(newest)
    bins = bin_shares(reference)
    moved = [population_stability(bins, earlier) for earlier in snapshots.values()]
    usual = max(moved) if len(moved) >= MIN_SNAPSHOTS else np.nan
    return bins.assign(feature=feature, is_read=is_read, as_of_date=newest, customers=len(reference), usual_psi=usual)


def new_references(stored: pd.Series | None) -> pa.Table:
    """References of registered versions that are not among those ``stored`` in the table churn_drift_reference.

    Columns of ``SCHEMA``; a version has no rows where its files are gone or an older Churn Radar trained it.
    """
    tables, known = [SCHEMA.empty_table()], set() if stored is None else set(stored)
    for name, version in read_snapshot().versions.items():
        if name in known:
            continue
        reference = None
        with tempfile.TemporaryDirectory() as folder, suppress(OSError, ValueError):
            reference = pd.read_parquet(artifact_path(version, folder, REFERENCE_FILE))
        if reference is not None:
            tables.append(pa.Table.from_pandas(reference.assign(model_version=name), SCHEMA, preserve_index=False))
    return pa.concat_tables(tables)
