"""Labelled rows as the members of a churn model learn from them."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd

from inference.model.sequences import Sequences


@dataclass(frozen=True)
class TrainingData:
    """Labelled rows, one per customer and as-of date."""

    rows: pd.DataFrame  # with customer_id, as_of_date, churned and horizon_spend, among other columns
    X: pd.DataFrame  # (n_rows, n_features), float64, null where unknown
    y: np.ndarray  # (n_rows,): 1 for churned, else 0
    sequences: Sequences | None = None  # which the transformer reads
    embeddings: np.ndarray | None = None  # (n_rows, dimension): pooled, where the tabular members read them
    #: Shape (n_rows,): log-odds of the tabular members, which the transformer adds to; of training rows, as predicted
    #: by members that were fitted on other customers.
    tabular_logit: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.y)

    @property
    def customers(self) -> np.ndarray:
        """Customer id of each row."""
        return self.rows.customer_id.to_numpy()

    @property
    def spend(self) -> np.ndarray:
        """Spend in the horizon, in the shop's currency, float64."""
        return self.rows.horizon_spend.to_numpy(dtype=float)

    @property
    def transformer_inputs(self) -> tuple[pd.DataFrame, Sequences, np.ndarray]:
        """Features, sequences and tabular log-odds, as ``TransformerMember.logit`` takes them."""
        if self.sequences is None or self.tabular_logit is None:
            raise ValueError("the transformer needs sequences and the log-odds of the tabular members")
        return self.X, self.sequences, self.tabular_logit

    def take(self, rows: np.ndarray) -> Self:
        """Select rows by a boolean mask or positions."""
        return type(self)(
            self.rows.iloc[rows],
            self.X.iloc[rows],
            self.y[rows],
            None if self.sequences is None else self.sequences.take(rows),
            None if self.embeddings is None else self.embeddings[rows],
            None if self.tabular_logit is None else self.tabular_logit[rows],
        )
