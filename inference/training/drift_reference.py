"""What a model learned from, in bins: the reference that SQL measures later snapshots against."""

import numpy as np
import pandas as pd
import pyarrow as pa

from inference.evaluation.drift import bin_shares, population_stability
from inference.model.churn_model import ChurnModel
from inference.registry import registry

#: What is usual is told from at least this many earlier snapshots.
LEAST_SNAPSHOTS = 3

#: The score stands among the features under this name.
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
    """Distribution of every feature and of the score among the customers that a model learned from last.

    Parameters
    ----------
    model : ChurnModel
        Trained model, with what it said of later snapshots.
    features : DataFrame
        Numeric features of its training rows, those included that it does not read.
    as_of_dates : Series
        Snapshot of each row.

    Returns
    -------
    DataFrame
        One row per feature and bin, the columns of ``SCHEMA`` but ``model_version``. Features stand as they were
        at the newest training snapshot. The score, under the name ``SCORE``, stands as it was given out of time to
        the newest validation snapshot; it has no rows where nothing could be validated. ``usual_psi`` is the largest
        population stability index of an earlier snapshot: what lies no farther away, the model has seen. It is null
        with fewer than ``LEAST_SNAPSHOTS`` of them.
    """
    parts = [_distribution(name, features[name], as_of_dates, name in model.features) for name in features.columns]
    if model.validation is not None:
        said = model.validation
        parts.append(_distribution(SCORE, said.probability, said.as_of_date, False))
    return pd.concat(parts, ignore_index=True)


def _distribution(feature: str, values: pd.Series, as_of_dates: pd.Series, is_read: bool) -> pd.DataFrame:
    newest = as_of_dates.max()
    numbers = pd.to_numeric(values).to_numpy(dtype=float)
    snapshots = {date: numbers[rows] for date, rows in as_of_dates.groupby(as_of_dates).indices.items()}
    reference = snapshots.pop(newest)
    bins = bin_shares(reference)
    moved = [population_stability(bins, earlier) for earlier in snapshots.values()]
    usual = max(moved) if len(moved) >= LEAST_SNAPSHOTS else np.nan
    return bins.assign(feature=feature, is_read=is_read, as_of_date=newest, customers=len(reference), usual_psi=usual)


def new_references(stored: pd.Series | None) -> pa.Table:
    """References of the registered versions that the table churn_drift_reference lacks.

    Parameters
    ----------
    stored : Series of str or None
        Versions that it has.

    Returns
    -------
    pyarrow.Table
        Columns of ``SCHEMA``. A version without a reference, because an older Churn Radar trained it or its files
        are gone, has no rows.
    """
    tables = [SCHEMA.empty_table()]
    for version, reference in registry.references(set() if stored is None else set(stored)):
        tables.append(pa.Table.from_pandas(reference.assign(model_version=version), SCHEMA, preserve_index=False))
    return pa.concat_tables(tables)
