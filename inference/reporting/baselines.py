"""Baselines of the report: simpler models, and one from the literature. None of them scores a customer."""

from typing import Protocol, Self

import numpy as np
import pandas as pd
from scipy.special import logit
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from inference.model.preprocessing import Standardiser
from inference.model.sequences import Sequences, read_sequences
from inference.model.training_data import TrainingData
from inference.model.transformer.member import TransformerMember
from inference.model.transformer.settings import TransformerSettings
from inference.text.encoder.encoder import Encoder


class Baseline(Protocol):
    """Interface of a baseline."""

    name: str
    description: str

    def fit(self, rows: pd.DataFrame, X: pd.DataFrame, y: np.ndarray) -> Self:
        """Fit on rows, their features, and labels 0 or 1 of shape (n_rows,)."""

    def logit(self, rows: pd.DataFrame, X: pd.DataFrame) -> np.ndarray:
        """Log-odds of churn, shape (n_rows,)."""


class Recency:
    """Logistic regression on the days since the last order."""

    name = "recency"
    description = "logistic regression on the days since the last order"

    def fit(self, rows: pd.DataFrame, X: pd.DataFrame, y: np.ndarray) -> Self:
        """Fit one coefficient."""
        self.model_ = LogisticRegression().fit(self._column(X), y)
        return self

    def logit(self, rows: pd.DataFrame, X: pd.DataFrame) -> np.ndarray:
        """Log-odds of churn."""
        return self.model_.decision_function(self._column(X))

    def _column(self, X: pd.DataFrame) -> np.ndarray:
        return np.log1p(X[["days_since_last_order"]].to_numpy())


class Network:
    """Feed-forward network with two hidden layers of 64 and 32 units, as common in the churn literature."""

    name = "network 64-32-1"
    description = "feed-forward network with two hidden layers on the same features"

    def fit(self, rows: pd.DataFrame, X: pd.DataFrame, y: np.ndarray) -> Self:
        """Train with early stopping on a tenth of the rows."""
        network = MLPClassifier((64, 32), early_stopping=True, alpha=1e-3, max_iter=50, random_state=0)
        self.standardiser_ = Standardiser().fit(X.to_numpy())
        self.model_ = network.fit(self.standardiser_.transform(X.to_numpy()), y)
        return self

    def logit(self, rows: pd.DataFrame, X: pd.DataFrame) -> np.ndarray:
        """Log-odds of churn."""
        return _logit(self.model_.predict_proba(self.standardiser_.transform(X.to_numpy()))[:, 1])


class PurchaseForecast:
    """Probability of no order in the horizon by the MBG/NBD model, without labels."""

    name = "MBG/NBD"
    description = "purchase model on order days alone, no labels"

    def fit(self, rows: pd.DataFrame, X: pd.DataFrame, y: np.ndarray) -> Self:
        """Do nothing: the forecast was fitted at each snapshot."""
        return self

    def logit(self, rows: pd.DataFrame, X: pd.DataFrame) -> np.ndarray:
        """Log-odds of no order."""
        return _logit(rows.no_order_probability.to_numpy(dtype=float))


class NumbersAsSentences:
    """Language model that reads features written out as a sentence, as proposed in the literature."""

    name = "MiniLM on sentences"
    description = "fine-tuned encoder on numbers written out as sentences"
    #: Features in the sentence.
    columns = (
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

    def __init__(self, max_rows: int = 4000) -> None:
        # numbers are a constant and events are left out, so that the network learns from the sentence alone
        self.settings = TransformerSettings(
            event_layers=0, max_rows_with_words=max_rows, max_epochs=1, token_dropout=0, text_dropout=0
        )

    def fit(self, rows: pd.DataFrame, X: pd.DataFrame, y: np.ndarray) -> Self:
        """Fine-tune for one epoch."""
        data = TrainingData(
            rows.assign(horizon_spend=0.0),
            self._constant(X),
            y,
            sequences=self._sentences(X),
            tabular_logit=np.zeros(len(X)),
        )
        self.model_ = TransformerMember(self.settings).fit(data, encoder=Encoder(), fine_tuned=True, title=self.name)
        return self

    def logit(self, rows: pd.DataFrame, X: pd.DataFrame) -> np.ndarray:
        """Log-odds of churn."""
        return self.model_.logit(self._constant(X), self._sentences(X), np.zeros(len(X)), keep=False)

    def _constant(self, X: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"constant": np.ones(len(X))})

    def _sentences(self, X: pd.DataFrame) -> Sequences:
        columns = [c for c in self.columns if c in X]
        names = [c.replace("_", " ") for c in columns]
        texts = [
            [", ".join(f"{n} {v:.0f}" for n, v in zip(names, row, strict=True) if not np.isnan(v))]
            for row in X[columns].to_numpy()
        ]
        n = len(X)
        empty: list[list] = [[]] * n
        return read_sequences(
            pd.DataFrame(
                {
                    **dict.fromkeys(("event_types", "event_categories", "event_days_ago", "event_amounts"), empty),
                    "text_ids": [["numbers"]] * n,
                    "texts": texts,
                    "text_subjects": [[""]] * n,
                    "text_days_ago": [[0.0]] * n,
                    "text_ratings": [[0.0]] * n,
                }
            )
        )


#: In the order of the report.
BASELINES: tuple[type[Baseline], ...] = (Recency, PurchaseForecast, Network, NumbersAsSentences)


def _logit(probability: np.ndarray) -> np.ndarray:
    return logit(np.clip(probability, 1e-6, 1 - 1e-6))
