"""Tabular members of the average: logistic regression and gradient boosting, with one interface.

``X`` is a DataFrame of float64 features of shape (n_rows, n_features), null where unknown; ``y`` are labels 0 or 1.
"""

import json
from pathlib import Path
from typing import Any, Self, TypeAlias

import lightgbm
import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.linear_model import LogisticRegression

from inference.model.preprocessing import Standardiser
from inference.model.skops_files import read_skops, read_standardiser
from inference.threads import n_threads


class LogisticMember:
    """Strongly regularised logistic regression on standardised signed logarithms with missing indicators."""

    name = "logistic"
    #: Inverse strength of the regularisation.
    C = 0.01

    def fit(self, X: pd.DataFrame, y: np.ndarray) -> Self:
        """Learn from features and labels."""
        self.standardiser_ = Standardiser().fit(X.to_numpy())
        values = self.standardiser_.transform(X.to_numpy())
        regression = LogisticRegression(C=self.C, max_iter=2000).fit(values, y)
        self.coef_, self.intercept_ = regression.coef_[0], float(regression.intercept_[0])
        self.centre_ = values.mean(axis=0)
        return self

    def logit(self, X: pd.DataFrame) -> np.ndarray:
        """Log-odds of churn, shape (n_rows,)."""
        return self.standardiser_.transform(X.to_numpy()) @ self.coef_ + self.intercept_

    def contributions(self, X: pd.DataFrame) -> np.ndarray:
        """SHAP values in log-odds, shape (n_rows, n_features + 1); the last column is the base value.

        Those of a linear model are coefficient times distance from the training mean. A missing indicator counts
        towards its feature (Lundberg and Lee 2017, section 4.2).
        """
        parts = (self.standardiser_.transform(X.to_numpy()) - self.centre_) * self.coef_
        result = np.zeros((len(X), X.shape[1] + 1))
        result[:, :-1] = parts[:, : X.shape[1]]
        result[:, self.standardiser_.indicated_] += parts[:, X.shape[1] :]
        result[:, -1] = self.intercept_ + self.centre_ @ self.coef_
        return result

    def save(self, folder: Path) -> None:
        """Write ``logistic.npz``."""
        arrays: dict[str, Any] = {"C": self.C, "coef": self.coef_, "intercept": self.intercept_, "centre": self.centre_}
        np.savez(folder / "logistic.npz", **(arrays | self.standardiser_.state()))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read ``logistic.npz``, or ``logistic.skops`` of an older version."""
        member, file = cls(), folder / "logistic.npz"
        if not file.exists() and (old := folder / "logistic.skops").exists():
            state = read_skops(old)
            regression = dict(state["pipeline"]["steps"])["regress"]
            member.standardiser_ = read_standardiser(state["pipeline"])
            member.coef_, member.intercept_ = regression["coef_"][0], float(regression["intercept_"][0])
            member.centre_ = state["centre"]
            return member
        with np.load(file) as state:
            member.standardiser_ = Standardiser.from_state(state)
            member.coef_, member.intercept_ = state["coef"], float(state["intercept"])
            member.centre_ = state["centre"]
        return member


class BoostingMember:
    """Shallow LightGBM trees, the mean of a few seeds; number, size and leaves of the trees grow with the rows.

    With a fixed size, boosting lost to logistic regression where there were few customers; see
    docs/decisions/training.md for the shops and sizes that this was measured on.
    """

    name = "boosting"
    parameters: dict = {  # noqa: RUF012
        "objective": "binary",
        "learning_rate": 0.04,
        "feature_fraction": 0.4,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }

    def __init__(self, n_seeds: int = 4) -> None:
        self.n_seeds = n_seeds

    def fit(self, X: pd.DataFrame, y: np.ndarray) -> Self:
        """Learn from features and labels."""
        magnitude = np.log10(len(X))
        size = {
            "num_leaves": max(round(2 * magnitude) - 2, 2),
            "min_data_in_leaf": min(max(len(X) // 25, 10), 75),
        }
        self.boosters_ = fit_boosters(self.parameters | size, round(30 * magnitude), self.n_seeds, X, y)
        return self

    def logit(self, X: pd.DataFrame) -> np.ndarray:
        """Log-odds of churn, shape (n_rows,)."""
        return mean_prediction(self.boosters_, X, raw_score=True)

    def contributions(self, X: pd.DataFrame) -> np.ndarray:
        """SHAP values as of ``LogisticMember``; exact for trees (Lundberg, Erion and Lee 2018)."""
        return mean_prediction(self.boosters_, X, pred_contrib=True)

    def save(self, folder: Path) -> None:
        """Write ``boosting.json``: the trees in LightGBM's own text format."""
        save_boosters(self.boosters_, folder / "boosting.json")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read ``boosting.json``."""
        member = cls()
        member.boosters_ = load_boosters(folder / "boosting.json")
        return member


Member: TypeAlias = LogisticMember | BoostingMember

#: Members by name, in the order in which they are listed everywhere.
MEMBERS: dict[str, type[Member]] = {cls.name: cls for cls in (LogisticMember, BoostingMember)}

#: LightGBM predicts fewer rows than this in one thread.
MIN_ROWS_FOR_THREADS = 64


def fit_boosters(
    parameters: dict, n_trees: int, n_seeds: int, X: pd.DataFrame, y: np.ndarray
) -> list[lightgbm.Booster]:
    """Train one booster per seed on the same data, side by side."""
    values, names = X.to_numpy(), list(X.columns)

    def fit(seed: int) -> lightgbm.Booster:
        # a booster binds its data set, so each seed needs its own; one thread each, as threads that share a booster
        # spin while they wait, which slows down everything else on the machine
        data = lightgbm.Dataset(values, y, feature_name=names, free_raw_data=True)
        return lightgbm.train({**parameters, "seed": seed, "num_threads": 1}, data, n_trees)

    return Parallel(n_jobs=min(n_seeds, n_threads()), backend="threading")(
        delayed(fit)(seed) for seed in range(n_seeds)
    )


def mean_prediction(boosters: list[lightgbm.Booster], X: pd.DataFrame, **kind: bool) -> np.ndarray:
    """Mean prediction of boosters with the same features; ``kind`` is LightGBM's ``raw_score`` or ``pred_contrib``."""
    # for a row or two, waiting threads spin and slow down everything else on the machine
    arguments: dict[str, Any] = {**kind, **({"num_threads": 1} if len(X) < MIN_ROWS_FOR_THREADS else {})}
    return np.mean([booster.predict(X.to_numpy(), **arguments) for booster in boosters], axis=0)


def save_boosters(boosters: list[lightgbm.Booster], path: Path) -> None:
    """Write boosters as a JSON list of LightGBM model texts."""
    path.write_text(json.dumps([booster.model_to_string() for booster in boosters]))


def load_boosters(path: Path) -> list[lightgbm.Booster]:
    """Read what ``save_boosters`` wrote."""
    return [lightgbm.Booster(model_str=text) for text in json.loads(path.read_text())]
