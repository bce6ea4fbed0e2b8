"""Boosted trees fitted without each fold of customers in turn, with a cache of fits on disk."""

import joblib
import lightgbm
import numpy as np
import pandas as pd

from inference.home import EFFECTS, home

#: Folds of customers, and trees of each model.
N_FOLDS, N_TREES = 5, 100
MIN_ROWS_IN_LEAF = 20
#: LightGBM parameters for acceptance, whose signal is weak, and for the churn probability.
TREES = {
    "objective": "regression",
    "num_leaves": 4,
    "learning_rate": 0.045,
    "feature_fraction_bynode": 0.4,
    "bagging_fraction": 0.5,
    "bagging_freq": 1,
    "max_bin": 63,
    "boost_from_average": False,
    "seed": 0,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}
CHURN_TREES = TREES | {"objective": "binary", "num_leaves": 15, "learning_rate": 0.1, "boost_from_average": True}
#: Fits that stay in the cache: those of a few weeks.
MAX_CACHED_FITS = 50


def predict_churn(X: pd.DataFrame, churned: np.ndarray, customer: np.ndarray) -> np.ndarray:
    """Out-of-fold churn probability of contacts, each by a model that did not see the customer.

    The champion was trained on the outcomes of many contacts, so its own scores would hide part of the effect.

    Parameters
    ----------
    X : DataFrame of shape (n_contacts, n_features)
        Features before the contact.
    churned : ndarray of shape (n_contacts,)
        1 if the customer placed no order in the horizon, else 0.
    customer : ndarray of shape (n_contacts,), object
        Customer ids.

    Returns
    -------
    ndarray of shape (n_contacts,)
    """
    settings = CHURN_TREES | {"min_data_in_leaf": max(MIN_ROWS_IN_LEAF, len(X) // 500)}
    _, predicted = cached_fit(settings, X.to_numpy(float), churned, customer_folds(customer))
    # the R-learner divides by the probability
    return np.clip(predicted, 0.01, 0.99)


def customer_folds(customer: np.ndarray) -> np.ndarray:
    """Fold of each row, from 0 to ``N_FOLDS`` - 1: the same for all rows of a customer and in any order of rows."""
    codes, unique = pd.factorize(customer, sort=True)
    return np.random.default_rng(0).permutation(len(unique))[codes] % N_FOLDS


def fit_out_of_fold(
    settings: dict, X: np.ndarray, y: np.ndarray, fold: np.ndarray, weight: np.ndarray | None = None
) -> tuple[list[str], np.ndarray]:
    """Fit boosted trees without each fold in turn, and predict that fold.

    Parameters
    ----------
    settings : dict
        LightGBM parameters.
    X : ndarray of shape (n_rows, n_features)
        Features.
    y : ndarray of shape (n_rows,)
        Target.
    fold : ndarray of shape (n_rows,)
        From 0 to ``N_FOLDS`` - 1.
    weight : ndarray of shape (n_rows,), optional
        Weights of the rows.

    Returns
    -------
    list of str
        The models in LightGBM's text format, by the fold that they did not see.
    ndarray of shape (n_rows,)
        Out-of-fold predictions.
    """
    data = lightgbm.Dataset(X, y, weight=weight, params=settings, free_raw_data=False).construct()
    models, predicted = [], np.empty(len(X))
    for number in range(N_FOLDS):
        booster = lightgbm.train(settings, data.subset(np.flatnonzero(fold != number).tolist()), N_TREES)
        models.append(booster.model_to_string())
        predicted[fold == number] = booster.predict(X[fold == number])
    return models, predicted


def cached_fit(*arguments: object) -> tuple[list[str], np.ndarray]:
    """Return ``fit_out_of_fold(*arguments)``, from the cache in ``CHURN_HOME/effects`` for rows of an earlier call."""
    memory = joblib.Memory(home() / EFFECTS, verbose=0)
    fitted = memory.cache(fit_out_of_fold)(*arguments)
    memory.reduce_size(items_limit=MAX_CACHED_FITS)
    return fitted
