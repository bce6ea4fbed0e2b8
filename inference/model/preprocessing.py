"""Preprocessing of features for linear models and neural networks."""

import numpy as np
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import FunctionTransformer, StandardScaler


def signed_log(X: np.ndarray) -> np.ndarray:
    """sign(x) log(1 + |x|): tames money and counts, keeps the sign."""
    return np.sign(X) * np.log1p(np.abs(X))


def clip_outliers(X: np.ndarray) -> np.ndarray:
    """Keep standardised values within six standard deviations."""
    return np.clip(X, -6, 6)


def standardiser() -> list[tuple[str, object]]:
    """Steps that turn features into signed logarithms in units of standard deviations, with missing indicators.

    Unknown values stand at the mean.
    """
    return [
        ("signed_log", FunctionTransformer(signed_log)),
        ("standardise", StandardScaler()),
        ("clip", FunctionTransformer(clip_outliers)),
        ("impute", SimpleImputer(strategy="constant", fill_value=0.0, add_indicator=True, keep_empty_features=True)),
    ]
