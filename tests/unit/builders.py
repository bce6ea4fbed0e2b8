"""Small seeded tables and models that several test files use."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import expit

from inference.model.churn_model import ChurnModel, feature_matrix
from inference.model.members import LogisticMember
from inference.model.spend import SpendModel
from inference.model.training_summary import TrainingSummary

#: Features of ``make_rows`` that a customer may have.
FEATURES = [
    "days_since_last_order",
    "days_since_first_order",
    "orders_30d",
    "orders_90d",
    "orders_trend_30d",
    "spend_90d",
    "average_order_amount",
    "gap_mean_days",
    "gap_std_days",
    "rating_last",
    "reviews_total",
    "days_since_last_review",
    "no_order_probability",
]


def make_rows(
    n_customers: int = 120,
    n_snapshots: int = 4,
    seed: int = 0,
    first: str = "2024-01-01",
    every_days: int = 28,
    levels: Sequence[float] | None = None,
) -> pd.DataFrame:
    """Training rows with log-odds of churn = (days since last order - 45) / 12.

    ``levels`` adds to the log-odds of each snapshot, invisible to every feature except ``no_order_probability``, which
    then is the true probability and otherwise a noisy guess. Two of three customers never wrote a review;
    the column ``never_recorded`` is null throughout.
    """
    rng = np.random.default_rng(seed)
    n = n_customers * n_snapshots
    silence = rng.integers(1, 91, n).astype(float)
    logit = (silence - 45) / 12 + np.repeat(np.zeros(n_snapshots) if levels is None else levels, n_customers)
    churned = (rng.random(n) < expit(logit)).astype(float)
    orders_90d = rng.integers(1, 9, n).astype(float)
    orders_30d = np.where(silence <= 30, rng.binomial(orders_90d.astype(int), 0.4), 0).astype(float)
    amount = rng.gamma(4, 10, n)
    reviewer = np.tile(np.arange(n_customers) % 3 == 0, n_snapshots)
    dates = pd.date_range(first, periods=n_snapshots, freq=f"{every_days}D")
    return pd.DataFrame(
        {
            "customer_id": np.tile([f"c{i:04}" for i in range(n_customers)], n_snapshots),
            "as_of_date": np.repeat(dates, n_customers),
            "horizon_days": 30,
            "window_ends_on": np.repeat(dates + pd.Timedelta(days=30), n_customers),
            "churned": churned,
            "horizon_orders": 1 - churned,
            "horizon_spend": (1 - churned) * amount,
            "days_since_last_order": silence,
            "days_since_first_order": silence + rng.integers(0, 300, n),
            "orders_30d": orders_30d,
            "orders_90d": orders_90d,
            "orders_trend_30d": (orders_30d + 1) / 2,
            "spend_90d": orders_90d * amount,
            "average_order_amount": amount,
            "gap_mean_days": np.where(orders_90d > 1, 90 / orders_90d, np.nan),
            "gap_std_days": np.where(orders_90d > 2, 10.0, np.nan),
            "rating_last": np.where(reviewer, rng.integers(1, 6, n), np.nan),
            "reviews_total": reviewer.astype(float),
            "days_since_last_review": np.where(reviewer, rng.integers(1, 400, n), np.nan),
            "no_order_probability": expit(logit + (rng.normal(0, 2, n) if levels is None else 0)),
            "never_recorded": np.nan,
        }
    )


def make_model(rows: pd.DataFrame, anchor: str = "model", **summary: object) -> ChurnModel:
    """Logistic regression and spend on all rows, without validation."""
    X, y = feature_matrix(rows, FEATURES), rows.churned.to_numpy(dtype=int)
    return ChurnModel(
        features=FEATURES,
        members=[LogisticMember().fit(X, y)],
        spend=SpendModel(n_seeds=1).fit(X[y == 0], rows.horizon_spend[y == 0].to_numpy()),
        anchor=anchor,
        threshold=0.5,
        horizon_days=30,
        summary=TrainingSummary(
            training_rows=len(rows),
            training_customers=int(rows.customer_id.nunique()),
            first_snapshot=str(rows.as_of_date.min().date()),
            last_snapshot=str(rows.as_of_date.max().date()),
            **summary,
        ),
    )


class FixedMember:
    """A member whose log-odds are the column ``signal``, and contributions those of that column."""

    name = "logistic"

    def fit(self, X: pd.DataFrame, y: np.ndarray) -> "FixedMember":
        return self

    def logit(self, X: pd.DataFrame) -> np.ndarray:
        return X["signal"].to_numpy()

    def contributions(self, X: pd.DataFrame) -> np.ndarray:
        result = np.zeros((len(X), X.shape[1] + 1))
        result[:, X.columns.get_loc("signal")] = X["signal"]
        return result


def make_fixed_model(anchor: str = "model", **summary: object) -> ChurnModel:
    """A model whose log-odds are the column ``signal`` and whose expected spend is 10."""
    spend = SpendModel().fit(pd.DataFrame({"signal": [0.0]}), np.array([10.0]))
    return ChurnModel(["signal"], [FixedMember()], spend, anchor, 0.5, 30, summary=TrainingSummary(**summary))
