"""R-learner: acceptance of contacts as a function of features, by boosted trees on residuals.

With the outcome residual y~ (churn minus its prediction from the score) and the treatment residual t~ (treatment minus
its mean, times minus the churn probability), acceptance a(x) minimises the weighted squared error of y~ - a(x) t~
(Robinson 1988; Nie and Wager 2021).
"""

import json
import shutil
from dataclasses import dataclass

import joblib
import lightgbm
import numpy as np
import pandas as pd

from inference.decisions.contacts import Contacts
from inference.home import EFFECTS, home, whole_file

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


@dataclass(frozen=True)
class Residuals:
    """Residuals of contacts, arrays of shape (n_contacts,)."""

    #: Inverse propensities, with mean 1.
    weight: np.ndarray
    #: Churn minus its linear regression on the churn probability.
    outcome: np.ndarray
    #: Treatment minus its mean, times minus the churn probability. Times acceptance it is the effect on the outcome.
    treatment: np.ndarray

    @classmethod
    def of(cls, contacts: Contacts) -> "Residuals":
        """Compute the residuals of contacts and holdouts."""
        weight = 1 / contacts.propensity
        weight = weight / weight.mean()
        share = np.average(contacts.is_treated, weights=weight)
        root = np.sqrt(weight)
        design = _with_intercept(contacts.probability)
        line, *_ = np.linalg.lstsq(design * root[:, None], contacts.churned * root, rcond=None)
        treatment = -(contacts.is_treated - share) * contacts.probability
        return cls(weight, contacts.churned - design @ line, treatment)

    def fit_acceptance(self, x: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Weighted regression of the outcome on the treatment residual, with robust covariance (White 1980).

        Acceptance is linear in ``x``, of shape (n_contacts, n_columns), or the same for all. Returns coefficients of
        shape (n_columns,) and their covariance of shape (n_columns, n_columns).
        """
        design = self.treatment[:, None] * (1 if x is None else x)
        bread = np.linalg.pinv(design.T @ (self.weight[:, None] * design))
        coefficients = bread @ (design.T @ (self.weight * self.outcome))
        scores = (self.weight * (self.outcome - design @ coefficients))[:, None] * design
        return coefficients, bread @ (scores.T @ scores) @ bread


class RLearner:
    """Acceptance of contacts of any kind, as boosted trees of features.

    One model is fitted without each fold of customers. Its predictions for that fold are out-of-fold; for other
    customers the models are averaged, and their variance gives the uncertainty of the average (delete-a-group
    jackknife, Kott 2001).
    """

    def fit(self, contacts: Contacts) -> "RLearner":
        """Learn from contacts of any kind and the holdouts of the same campaigns."""
        residuals = Residuals.of(contacts)
        self.base_ = residuals.fit_acceptance()[0][0]
        weight = residuals.weight * residuals.treatment**2
        X = contacts.X.to_numpy(float)
        settings = TREES | {"min_data_in_leaf": max(MIN_ROWS_IN_LEAF, len(X) // 50), "lambda_l2": len(X) / 100}
        target = residuals.outcome / residuals.treatment - self.base_
        models, predicted = cached_fit(settings, X, target, customer_folds(contacts.customer), weight / weight.mean())
        self.boosters_ = [lightgbm.Booster(model_str=model) for model in models]
        self.out_of_fold_ = pd.Series(self.base_ + predicted, index=contacts.X.index)
        return self

    def predict(self, X: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the acceptance, shape (n_customers,) each."""
        predicted = np.array([booster.predict(X.to_numpy(float)) for booster in self.boosters_])
        return self.base_ + predicted.mean(axis=0), np.sqrt((N_FOLDS - 1) * predicted.var(axis=0))


class CalibratedRLearner:
    """Acceptance of one action: a linear function of what an R-learner predicts.

    The contacts, with the action and holdouts, are among those that the learner was fitted on. ``gain_``, of shape
    (n_contacts,), is the out-of-fold drop of the squared error of each, compared with one acceptance for all.
    """

    def __init__(self, learner: RLearner, contacts: Contacts) -> None:
        self.learner = learner
        residuals = Residuals.of(contacts)
        design = _with_intercept(learner.out_of_fold_.loc[contacts.X.index].to_numpy())
        self.line_, self.covariance_ = residuals.fit_acceptance(design)
        outcome, treatment = residuals.outcome, residuals.treatment
        base = residuals.fit_acceptance()[0][0]
        errors = (outcome - treatment * base) ** 2 - (outcome - treatment * (design @ self.line_)) ** 2
        self.gain_ = residuals.weight * errors

    def predict(self, X: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the acceptance, shape (n_customers,) each."""
        predicted, deviation = self.learner.predict(X)
        design = _with_intercept(predicted)
        variance = np.einsum("ij,jk,ik->i", design, self.covariance_, design) + (self.line_[1] * deviation) ** 2
        return design @ self.line_, np.sqrt(variance)


def predict_churn(X: pd.DataFrame, churned: np.ndarray, customer: np.ndarray) -> np.ndarray:
    """Out-of-fold churn probability of contacts, each by a model that did not see the customer.

    The champion was trained on the outcomes of many contacts, so its own scores would hide part of the effect.

    The arguments are as in ``Contacts``; the result has shape (n_contacts,).
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
    folder = home() / EFFECTS
    file = folder / f"{joblib.hash([lightgbm.__version__, N_FOLDS, N_TREES, *arguments])}.json"
    try:
        saved = json.loads(file.read_text())
        models, predicted = saved["models"], np.array(saved["predicted"], float)
    except (OSError, ValueError, KeyError, TypeError):  # not there, or damaged
        models, predicted = fit_out_of_fold(*arguments)  # type: ignore[arg-type]
        with whole_file(file) as beside:
            beside.write_text(json.dumps({"models": models, "predicted": predicted.tolist()}))
        shutil.rmtree(folder / "joblib", ignore_errors=True)  # pickles of an earlier version
        for old in sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)[:-MAX_CACHED_FITS]:
            old.unlink(missing_ok=True)
    return models, predicted


def _with_intercept(x: np.ndarray) -> np.ndarray:
    return np.column_stack([np.ones(len(x)), x])
