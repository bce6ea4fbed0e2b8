"""Preprocessing of features for linear models and neural networks."""

from collections.abc import Mapping
from typing import Self

import numpy as np
from sklearn.preprocessing import StandardScaler


def signed_log(X: np.ndarray) -> np.ndarray:
    """sign(x) log(1 + |x|), which makes skewed amounts and counts less extreme."""
    return np.sign(X) * np.log1p(np.abs(X))


class Standardiser:
    """Signed logarithms in standard deviations, clipped at six, with missing indicators.

    Attributes
    ----------
    mean_, scale_ : ndarray of shape (n_features,)
        Of the signed logarithms in training; NaN for a feature without a known value.
    indicated_ : ndarray of int
        Positions of the features that had missing values in training and get an indicator.
    """

    def fit(self, X: np.ndarray) -> Self:
        """Learn mean, scale and which features have missing values, from features of shape (n_rows, n_features)."""
        with np.errstate(invalid="ignore"):  # the mean of a column without a known value
            scaler = StandardScaler().fit(signed_log(X))
        self.mean_, self.scale_ = scaler.mean_, scaler.scale_
        self.indicated_ = np.flatnonzero(np.isnan(X).any(axis=0))
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Standardised features, 0 where missing, then the indicators; shape (n_rows, n_features + n_indicated)."""
        values = np.clip((signed_log(X) - self.mean_) / self.scale_, -6, 6)
        missing = np.isnan(values)
        values[missing] = 0.0
        return np.hstack([values, missing[:, self.indicated_].astype(float)])

    def state(self) -> dict[str, np.ndarray]:
        """Arrays that ``from_state`` makes an equal standardiser from."""
        return {"mean": self.mean_, "scale": self.scale_, "indicated": self.indicated_}

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> Self:
        """Make a standardiser from what ``state`` returned; other entries are ignored."""
        standardiser = cls()
        standardiser.mean_, standardiser.scale_ = state["mean"], state["scale"]
        standardiser.indicated_ = state["indicated"]
        return standardiser
