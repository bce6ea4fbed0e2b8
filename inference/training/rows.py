"""Training rows: labels joined with features, and the columns that are features."""

from collections.abc import Sequence

import pandas as pd

from inference.errors import ChurnRadarError
from inference.feature_store import client
from inference.features.attributes import PACKED, attribute_features
from inference.model.churn_model import feature_matrix
from inference.model.sequences import EVENT_COLUMNS, TEXT_COLUMNS
from inference.model.training_data import TrainingData
from inference.model.words import EMBEDDING

#: Columns of the training rows that are not features.
LABEL_COLUMNS = (
    "customer_id",
    "as_of_date",
    "horizon_days",
    "window_ends_on",
    "churned",
    "horizon_orders",
    "horizon_spend",
    "encoder_revision",
    PACKED,
    EMBEDDING,
    *EVENT_COLUMNS,
    *TEXT_COLUMNS,
)


def training_rows(labels: pd.DataFrame) -> pd.DataFrame:
    """Join features and sequences to the labelled rows of ``churn_labels``; refuse if no snapshot is labelled yet."""
    known = labels[labels.churned.notna()]
    if known.empty:
        raise ChurnRadarError(
            "churn_labels: no snapshot has a whole activity window before it and a whole label window after it; "
            "expected at least one. Too little history to train: wait, or lower churn__activity_days or "
            "churn__horizon_days"
        )
    return client.historical_features(known, client.MODEL_SERVICE, client.SEQUENCES_SERVICE)


def training_data(rows: pd.DataFrame, features: Sequence[str] | None = None) -> TrainingData:
    """Select features and labels of labelled rows, without sequences and text embeddings.

    Without names, features are all columns that are not in ``LABEL_COLUMNS`` and have a value, and the customers'
    attributes.
    """
    if features is None:
        features = [c for c in rows.columns if c not in LABEL_COLUMNS and rows[c].notna().any()]
        features += attribute_features(rows)
    return TrainingData(rows, feature_matrix(rows, list(features)), rows.churned.to_numpy(dtype=int))
