"""Baselines of the report: simpler models, and one from the literature. None of them scores a customer.

Each function learns from features ``X`` and labels ``y`` of shape (n_rows,), 0 or 1, and returns the log-odds of churn
of other rows, whose features are ``X_now``.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import logit
from sklearn.neural_network import MLPClassifier

from inference.model.preprocessing import Standardiser
from inference.model.sequences import EVENT_COLUMNS, Sequences, read_sequences
from inference.model.training_data import TrainingData
from inference.model.transformer.member import TransformerMember
from inference.model.transformer.settings import TransformerSettings
from inference.reporting.backtest import SILENCE, recency_regression
from inference.text.encoder.encoder import Encoder

#: Features that are written out as a sentence.
IN_SENTENCES = (
    "days_since_last_order",
    "days_since_first_order",
    "orders_30d",
    "orders_90d",
    "orders_total",
    "spend_90d",
    "average_order_amount",
    "gap_mean_days",
    "gap_std_days",
)


def recency(X: pd.DataFrame, y: np.ndarray, rows: pd.DataFrame, X_now: pd.DataFrame) -> np.ndarray:
    """Logistic regression with one coefficient."""
    return recency_regression().fit(X[SILENCE], y).decision_function(X_now[SILENCE])


def purchase_forecast(X: pd.DataFrame, y: np.ndarray, rows: pd.DataFrame, X_now: pd.DataFrame) -> np.ndarray:
    """Log-odds of no order in the horizon, by the MBG/NBD model that was fitted at each snapshot."""
    return _logit(rows.no_order_probability.to_numpy(dtype=float))


def network(X: pd.DataFrame, y: np.ndarray, rows: pd.DataFrame, X_now: pd.DataFrame) -> np.ndarray:
    """Hidden layers of 64 and 32 units, as common in the churn literature; a tenth of the rows stops the training."""
    standardiser = Standardiser().fit(X.to_numpy())
    model = MLPClassifier((64, 32), early_stopping=True, alpha=1e-3, max_iter=50, random_state=0)
    model.fit(standardiser.transform(X.to_numpy()), y)
    return _logit(model.predict_proba(standardiser.transform(X_now.to_numpy()))[:, 1])


def numbers_as_sentences(
    X: pd.DataFrame, y: np.ndarray, rows: pd.DataFrame, X_now: pd.DataFrame, max_rows: int = 4000
) -> np.ndarray:
    """Language model, fine-tuned for one epoch on the numbers of ``max_rows`` customers, as proposed in the literature.

    Its numbers are a constant and events are left out, so that the network learns from the sentence alone.
    """
    settings = TransformerSettings(
        event_layers=0, max_rows_with_words=max_rows, max_epochs=1, token_dropout=0, text_dropout=0
    )
    data = TrainingData(X, _constant(X), y, as_sentences(X), tabular_logit=np.zeros(len(X)))
    model = TransformerMember(settings).fit(data, encoder=Encoder(), fine_tuned=True, title="MiniLM on sentences")
    return model.logit(_constant(X_now), as_sentences(X_now), np.zeros(len(X_now)), keep=False)


def as_sentences(X: pd.DataFrame) -> Sequences:
    """Write known features out as one text per row, and no events."""
    columns = [c for c in IN_SENTENCES if c in X]
    names = [c.replace("_", " ") for c in columns]
    texts = [
        [", ".join(f"{n} {v:.0f}" for n, v in zip(names, row, strict=True) if not np.isnan(v))]
        for row in X[columns].to_numpy()
    ]
    row = {"text_ids": ["numbers"], "text_subjects": [""], "text_days_ago": [0.0], "text_ratings": [0.0]}
    row |= {name: [] for name in EVENT_COLUMNS}
    return read_sequences(pd.DataFrame({name: [value] * len(X) for name, value in row.items()}).assign(texts=texts))


class Baseline(NamedTuple):
    """Name and description in the report, and the function."""

    name: str
    description: str
    logit: Callable[[pd.DataFrame, np.ndarray, pd.DataFrame, pd.DataFrame], np.ndarray]


#: In the order of the report.
BASELINES = (
    Baseline("recency", "logistic regression on the days since the last order", recency),
    Baseline("MBG/NBD", "purchase model on order days alone, no labels", purchase_forecast),
    Baseline("network 64-32-1", "feed-forward network with two hidden layers on the same features", network),
    Baseline("MiniLM on sentences", "fine-tuned encoder on numbers written out as sentences", numbers_as_sentences),
)


def _constant(X: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"constant": np.ones(len(X))})


def _logit(probability: np.ndarray) -> np.ndarray:
    return logit(np.clip(probability, 1e-6, 1 - 1e-6))
