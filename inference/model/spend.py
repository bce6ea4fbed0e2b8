"""Expected spend of a customer in the horizon, given that they order."""

from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from inference.model.members import fit_boosters, load_boosters, mean_prediction, save_boosters


class SpendModel:
    """Second part of a two-part model: the classifier predicts whether a customer orders, this one how much.

    Gradient boosting with a Tweedie loss (log link), which predicts the mean of skewed amounts with some zeros; see
    Jørgensen (1987), "Exponential dispersion models".
    """

    parameters: dict = {  # noqa: RUF012
        "objective": "tweedie",
        "tweedie_variance_power": 1.5,
        "num_leaves": 7,
        "learning_rate": 0.05,
        "feature_fraction": 0.5,
        "min_data_in_leaf": 50,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    n_trees = 150
    #: With fewer orders than this, the prediction is their mean.
    min_rows = 100

    def __init__(self, n_seeds: int = 2) -> None:
        self.n_seeds = n_seeds

    def fit(self, X: pd.DataFrame, spend: np.ndarray) -> Self:
        """Fit on customers who ordered; ``spend`` is the net amount in the horizon, in the shop's currency."""
        self.mean_ = float(np.mean(spend)) if len(spend) else 0.0
        self.boosters_, self.scale_ = [], 1.0
        if len(spend) >= self.min_rows and self.mean_ > 0:
            self.boosters_ = fit_boosters(self.parameters, self.n_trees, self.n_seeds, X, spend)
            # the few trees are biased towards their start; predicted sums must match the observed ones
            self.scale_ = self.mean_ / float(np.mean(self.predict(X)))
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Expected spend of a customer who orders, in the shop's currency, shape (n_rows,)."""
        if not self.boosters_:
            return np.full(len(X), self.mean_)
        return self.scale_ * mean_prediction(self.boosters_, X)

    def save(self, folder: Path) -> None:
        """Write ``spend.json``."""
        save_boosters(self.boosters_, folder / "spend.json")

    @classmethod
    def load(cls, folder: Path, mean: float, scale: float) -> Self:
        """Read ``spend.json``; mean and scale are kept with the rest of the model."""
        model = cls()
        model.boosters_, model.mean_, model.scale_ = load_boosters(folder / "spend.json"), mean, scale
        return model
