"""What Churn Radar is compared with in its report: simpler models, and one that the literature proposes.

None of these scores a customer. Each has ``fit(rows, X, y)`` and ``logit(rows, X)``.
"""

from typing import Protocol, Self

import numpy as np
import pandas as pd
from scipy.special import logit
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from inference.model.preprocessing import Standardiser
from inference.model.sequences import Sequences, read_sequences
from inference.model.transformer.member import TransformerMember
from inference.model.transformer.settings import TransformerSettings
from inference.text.encoder.encoder import Encoder


class Baseline(Protocol):
    """Something to compare with."""

    name: str
    description: str

    def fit(self, rows: pd.DataFrame, X: pd.DataFrame, y: np.ndarray) -> Self:
        """Learn from rows, their features and labels 0 or 1 of shape (n_rows,)."""

    def logit(self, rows: pd.DataFrame, X: pd.DataFrame) -> np.ndarray:
        """Log-odds of churn, shape (n_rows,)."""


class Recency:
    """Days since the last order, alone."""

    name = "recency"
    description = "logistic regression on the days since the last order"

    def fit(self, rows: pd.DataFrame, X: pd.DataFrame, y: np.ndarray) -> Self:
        """Learn one coefficient."""
        self.model_ = LogisticRegression().fit(self._column(X), y)
        return self

    def logit(self, rows: pd.DataFrame, X: pd.DataFrame) -> np.ndarray:
        """Log-odds of churn."""
        return self.model_.decision_function(self._column(X))

    def _column(self, X: pd.DataFrame) -> np.ndarray:
        return np.log1p(X[["days_since_last_order"]].to_numpy())


class Network:
    """The plain feed-forward network of the churn literature: two hidden layers of 64 and 32."""

    name = "network 64-32-1"
    description = "feed-forward network with two hidden layers on the same features"

    def fit(self, rows: pd.DataFrame, X: pd.DataFrame, y: np.ndarray) -> Self:
        """Train until a tenth of the rows, left out, stops improving."""
        network = MLPClassifier((64, 32), early_stopping=True, alpha=1e-3, max_iter=50, random_state=0)
        self.standardiser_ = Standardiser().fit(X.to_numpy())
        self.model_ = network.fit(self.standardiser_.transform(X.to_numpy()), y)
        return self

    def logit(self, rows: pd.DataFrame, X: pd.DataFrame) -> np.ndarray:
        """Log-odds of churn."""
        return _logit(self.model_.predict_proba(self.standardiser_.transform(X.to_numpy()))[:, 1])


class PurchaseForecast:
    """P(no order in the horizon) of the MBG/NBD model, as it is."""

    name = "MBG/NBD"
    description = "purchase model on order days alone, no labels"

    def fit(self, rows: pd.DataFrame, X: pd.DataFrame, y: np.ndarray) -> Self:
        """Nothing: it was fitted at each snapshot."""
        return self

    def logit(self, rows: pd.DataFrame, X: pd.DataFrame) -> np.ndarray:
        """Log-odds of no order."""
        return _logit(rows.no_order_probability.to_numpy(dtype=float))


class NumbersAsSentences:
    """A language model that reads the numbers, written out as a sentence, as the literature proposes."""

    name = "MiniLM on sentences"
    description = "fine-tuned encoder on numbers written out as sentences"
    #: What is written out.
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

    def __init__(self, most_rows: int = 4000) -> None:
        # the tower over numbers sees a constant, events are left out: only the sentence speaks
        self.settings = TransformerSettings(
            event_layers=0, most_rows_with_words=most_rows, most_epochs=1, token_dropout=0, text_dropout=0
        )

    def fit(self, rows: pd.DataFrame, X: pd.DataFrame, y: np.ndarray) -> Self:
        """Fine-tune one pass."""
        nothing = np.zeros(len(X))
        self.model_ = TransformerMember(self.settings).fit(
            self._constant(X),
            self._sentences(X),
            nothing,
            y,
            nothing,
            encoder=Encoder(),
            fine_tuned=True,
            title=self.name,
        )
        return self

    def logit(self, rows: pd.DataFrame, X: pd.DataFrame) -> np.ndarray:
        """Log-odds of churn."""
        return self.model_.logit(self._constant(X), self._sentences(X), np.zeros(len(X)), keep=False)

    def _constant(self, X: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"constant": np.ones(len(X))})

    def _sentences(self, X: pd.DataFrame) -> Sequences:
        columns = [c for c in self.columns if c in X]
        names = [c.replace("_", " ") for c in columns]
        told = [
            [", ".join(f"{n} {v:.0f}" for n, v in zip(names, row, strict=True) if not np.isnan(v))]
            for row in X[columns].to_numpy()
        ]
        n = len(X)
        empty = [[]] * n
        return read_sequences(
            pd.DataFrame(
                {
                    **dict.fromkeys(("event_types", "event_categories", "event_days_ago", "event_amounts"), empty),
                    "text_ids": [["numbers"]] * n,
                    "texts": told,
                    "text_subjects": [[""]] * n,
                    "text_days_ago": [[0.0]] * n,
                    "text_ratings": [[0.0]] * n,
                }
            )
        )


#: In the order in which the report lists them.
BASELINES: tuple[type[Baseline], ...] = (Recency, PurchaseForecast, Network, NumbersAsSentences)


def _logit(probability: np.ndarray) -> np.ndarray:
    return logit(np.clip(probability, 1e-6, 1 - 1e-6))
