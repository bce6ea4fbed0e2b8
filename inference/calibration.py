"""The level of the scores: which overall churn rate to expect, and the shift that gives it.

The ranking holds over time, the level does not (see ``shared/RECIPE.md``). Each anchor below is one
way to guess the churn rate of a snapshot from what is known at it; a rolling backtest chooses.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit

#: Ways to set the level: leave the model's own, the newest known churn rate, the mean of the purchase
#: forecast, the churn rate of the same season a year ago.
ANCHORS = ("model", "latest_rate", "forecast", "last_year")

#: A snapshot of last year's season lies at most this far from 365 days before.
SEASON_TOLERANCE_DAYS = 21


@dataclass(frozen=True)
class LevelHistory:
    """What is known about churn rates: one row per labelled snapshot.

    Parameters
    ----------
    rates : Series of float, indexed by as-of date
        Observed churn rates.
    horizon_days : int
        Length of the label window.
    """

    rates: pd.Series
    horizon_days: int

    def latest_rate(self, as_of_date: pd.Timestamp) -> float | None:
        """Churn rate of the newest snapshot whose label window had closed at a date."""
        closed = self._closed(as_of_date)
        return float(closed.iloc[-1]) if len(closed) else None

    def last_year(self, as_of_date: pd.Timestamp) -> float | None:
        """Churn rate of the same season a year before, interpolated between the snapshots around it."""
        closed = self._closed(as_of_date)
        target = as_of_date - pd.Timedelta(days=365)
        distance = np.abs((closed.index - target).days)
        if not len(closed) or distance.min() > SEASON_TOLERANCE_DAYS:
            return None
        days = (closed.index - target).days.to_numpy()
        return float(np.interp(0, days, closed.to_numpy()))

    def _closed(self, as_of_date: pd.Timestamp) -> pd.Series:
        return self.rates[self.rates.index <= as_of_date - pd.Timedelta(days=self.horizon_days)].sort_index()


def anchored_level(
    anchor: str, as_of_date: pd.Timestamp, history: LevelHistory, model_level: float, forecast_level: float
) -> float | None:
    """Churn rate that an anchor expects of a snapshot; None where the anchor has nothing to say."""
    if anchor == "latest_rate":
        return history.latest_rate(as_of_date)
    if anchor == "last_year":
        return history.last_year(as_of_date)
    level = {"model": model_level, "forecast": forecast_level}[anchor]
    return None if np.isnan(level) else level


def anchored_shift(
    anchor: str, as_of_date: pd.Timestamp, history: LevelHistory, logit: np.ndarray, forecast: pd.Series
) -> float:
    """Shift that gives a snapshot's log-odds the level of its anchor; 0 where the anchor has nothing to say.

    Parameters
    ----------
    anchor : str
        One of ``ANCHORS``.
    as_of_date : Timestamp
        Snapshot.
    history : LevelHistory
        Observed churn rates.
    logit : ndarray of shape (n_customers,)
        The model's log-odds.
    forecast : Series of shape (n_customers,)
        ``no_order_probability`` of the same customers.

    Returns
    -------
    float
        What to add to every logit.
    """
    model_level, forecast_level = float(expit(logit).mean()), float(forecast.mean())
    level = anchored_level(anchor, as_of_date, history, model_level, forecast_level)
    return 0.0 if level is None else level_shift(logit, level)


def choose_anchor(backtest: pd.DataFrame) -> tuple[str, float]:
    """Choose the anchor with the smallest mean absolute error over past snapshots.

    Parameters
    ----------
    backtest : DataFrame
        One row per past snapshot: ``churn_rate`` and a column per anchor, null where it had nothing to say.

    Returns
    -------
    tuple of str and float
        The anchor and its mean absolute error. An anchor counts only if it spoke at every snapshot
        that the best of the others is judged on, or at least at three.
    """
    errors = backtest[list(ANCHORS)].sub(backtest["churn_rate"], axis=0).abs()
    spoke = errors.notna().sum()
    usable = errors.loc[:, spoke >= min(3, len(backtest))]
    # compare on the same snapshots: those at which every usable anchor spoke
    means = usable.dropna().mean()
    best = str(means.idxmin())
    return best, float(errors[best].mean())


def level_shift(logit: np.ndarray, level: float) -> float:
    """Shift of the intercept that gives logits a mean probability.

    Parameters
    ----------
    logit : ndarray of shape (n_customers,)
        Log-odds of churn.
    level : float
        Mean probability wanted; kept between 0.001 and 0.999.

    Returns
    -------
    float
        What to add to every logit.
    """
    target = min(max(level, 0.001), 0.999)
    farthest = 30 + float(np.abs(logit).max())
    return float(brentq(lambda shift: expit(logit + shift).mean() - target, -farthest, farthest, xtol=1e-12))
