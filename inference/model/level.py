"""Level of the scores: a forecast of the overall churn rate, and the shift of the log-odds that gives it.

A model's ranking is stable over time, its level is not. Each anchor below is a forecast of a snapshot's churn rate
from earlier data; a rolling backtest chooses one.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit

#: Level forecasts: the model's own mean, the newest known churn rate, the mean of the purchase forecast, the churn
#: rate of the same season a year ago, shifted by the difference between this year and last.
ANCHORS = ("model", "latest_rate", "forecast", "last_year")

#: Maximal distance of a snapshot of last year from 365 days before.
SEASON_TOLERANCE_DAYS = 21

#: This year is compared with last year over this many days.
CHANGE_DAYS = 182

#: Estimates nearer than this to an observed rate are not used: half the distance of training snapshots.
ESTIMATE_DISTANCE_DAYS = 14

#: With forecasts for fewer snapshots than this, an anchor's error at the others is assumed, as a churn rate. The error
#: of ``last_year`` was 0.011 to 0.015 on average in four shops (benchmarks/level.py).
MIN_SNAPSHOTS, ASSUMED_ERROR = 3, 0.02


@dataclass(frozen=True)
class LevelHistory:
    """Churn rates by snapshot; both series are indexed by as-of date."""

    rates: pd.Series  # observed churn rates of labelled snapshots
    horizon_days: int  # length of the label window
    #: Share of customers without an order in the horizon before the snapshot, among those who had ordered before that
    #: horizon began. An estimate of the churn rate one horizon earlier, see ``known_rates``.
    silent_shares: pd.Series = field(default_factory=lambda: pd.Series(dtype=float, index=pd.DatetimeIndex([])))

    def latest_rate(self, as_of_date: pd.Timestamp) -> float | None:
        """Churn rate of the newest snapshot whose label window had closed at a date."""
        closed = self._closed(as_of_date)
        return float(closed.iloc[-1]) if len(closed) else None

    def last_year(self, as_of_date: pd.Timestamp) -> float | None:
        """Churn rate of the same season a year before, shifted by the difference between this year and last.

        The difference is the mean, in log-odds, over the churn rates of the last half year that have one of a
        year before; zero where there is none yet.
        """
        known = self.known_rates(as_of_date)
        year_ago = _a_year_before(known, as_of_date)
        if year_ago is None:
            return None
        recent = known[known.index >= as_of_date - pd.Timedelta(days=CHANGE_DAYS)]
        before = {date: _a_year_before(known, date) for date in recent.index}
        changes = [_log_odds(recent[date]) - _log_odds(rate) for date, rate in before.items() if rate is not None]
        return float(expit(_log_odds(year_ago) + np.mean(changes))) if changes else year_ago

    def known_rates(self, as_of_date: pd.Timestamp) -> pd.Series:
        """Churn rates known at a date: observed ones, and estimates before the first and after the last of them.

        A customer without an order in the horizon before a snapshot did not order in the label window of one horizon
        earlier. The share of these customers is below the churn rate of that day by nearly constant log-odds, as it
        misses customers who stopped long before the snapshot; the mean difference where both are known corrects it.
        So the history starts a horizon before the first label, and ends close to today. Indexed by date, sorted.
        """
        closed = self._closed(as_of_date)
        shares = self.silent_shares[self.silent_shares.between(0, 1, inclusive="neither")]
        shares = shares[shares.index <= as_of_date].sort_index()
        days = (shares.index - pd.Timedelta(days=self.horizon_days) - as_of_date).days.to_numpy()
        observed_days = (closed.index - as_of_date).days.to_numpy()
        if not len(closed) or not len(days):
            return closed
        both = (days >= observed_days[0]) & (days <= observed_days[-1])
        if not both.any():
            return closed
        observed = _log_odds(np.interp(days[both], observed_days, closed.to_numpy()))
        estimates = expit(_log_odds(shares) + np.mean(observed - _log_odds(shares[both])))
        estimates.index = as_of_date + pd.to_timedelta(days, unit="D")
        apart = (days <= observed_days[0] - ESTIMATE_DISTANCE_DAYS) | (
            days >= observed_days[-1] + ESTIMATE_DISTANCE_DAYS
        )
        return pd.concat([closed, estimates[apart]]).sort_index()

    def _closed(self, as_of_date: pd.Timestamp) -> pd.Series:
        return self.rates[self.rates.index <= as_of_date - pd.Timedelta(days=self.horizon_days)].sort_index()


def level_history(labels: pd.DataFrame, horizon_days: int) -> LevelHistory:
    """Churn rates of labelled snapshots; with ``days_since_last_order`` in the labels, also ``silent_shares``."""
    known = labels[labels.churned.notna()]
    rates = known.churned.astype(float).groupby(pd.to_datetime(known.as_of_date)).mean()
    if "days_since_last_order" not in labels:
        return LevelHistory(rates, horizon_days)
    earlier = labels[labels.days_since_first_order > horizon_days]
    silent = (earlier.days_since_last_order > horizon_days).groupby(pd.to_datetime(earlier.as_of_date)).mean()
    return LevelHistory(rates, horizon_days, silent)


def _a_year_before(rates: pd.Series, date: pd.Timestamp) -> float | None:
    """Rate of 365 days before a date, interpolated between snapshots; None where there is no snapshot nearby."""
    days = (rates.index - (date - pd.Timedelta(days=365))).days.to_numpy()
    if not len(days) or np.abs(days).min() > SEASON_TOLERANCE_DAYS:
        return None
    return float(np.interp(0, days, rates.to_numpy()))


def _log_odds(rate: Any) -> Any:
    kept = np.clip(rate, 0.001, 0.999)
    return np.log(kept / (1 - kept))


def anchored_level(
    anchor: str, as_of_date: pd.Timestamp, history: LevelHistory, model_level: float, forecast_level: float
) -> float | None:
    """Churn rate that an anchor forecasts for a snapshot; None where it has no forecast."""
    if anchor == "latest_rate":
        return history.latest_rate(as_of_date)
    if anchor == "last_year":
        return history.last_year(as_of_date)
    level = {"model": model_level, "forecast": forecast_level}[anchor]
    return None if np.isnan(level) else level


def anchored_shift(
    anchor: str, as_of_date: pd.Timestamp, history: LevelHistory, logit: np.ndarray, forecast: pd.Series
) -> float:
    """Shift that gives a snapshot's log-odds the level of its anchor; 0 where that has no forecast.

    Parameters
    ----------
    anchor, as_of_date, history
        As in ``anchored_level``.
    logit : ndarray of shape (n_customers,)
        The model's log-odds.
    forecast : Series of shape (n_customers,)
        ``no_order_probability`` of the same customers.
    """
    model_level, forecast_level = float(expit(logit).mean()), float(forecast.mean())
    level = anchored_level(anchor, as_of_date, history, model_level, forecast_level)
    return 0.0 if level is None else level_shift(logit, level)


def anchored_probabilities(anchor: str, history: LevelHistory, table: pd.DataFrame, logit: np.ndarray) -> np.ndarray:
    """Churn probabilities at the level that an anchor expected at the snapshot of each row, shape (n_rows,).

    ``table`` has the columns ``as_of_date`` and ``no_order_probability``.
    """
    result = np.empty(len(table))
    for as_of_date, rows in table.groupby("as_of_date").indices.items():
        forecast = table.no_order_probability.iloc[rows]
        shift = anchored_shift(anchor, pd.Timestamp(as_of_date), history, logit[rows], forecast)
        result[rows] = expit(logit[rows] + shift)
    return result


def choose_anchor(backtest: pd.DataFrame, available: Collection[str]) -> tuple[str, float | None]:
    """Choose the anchor with the smallest mean absolute error over past snapshots.

    An anchor with forecasts for fewer than ``MIN_SNAPSHOTS`` snapshots is assumed to be off by ``ASSUMED_ERROR`` at
    the others.

    Parameters
    ----------
    backtest : DataFrame
        One row per past snapshot: ``churn_rate`` and a column per anchor, null where it had no forecast.
    available : collection of str
        Anchors that have a forecast for the scoring date.

    Returns
    -------
    tuple of str and float or None
        The anchor and its mean absolute error; None where it had no forecast.
    """
    errors = backtest[[anchor for anchor in ANCHORS if anchor in available]].sub(backtest["churn_rate"], axis=0).abs()
    rare = errors.columns[errors.notna().sum() < MIN_SNAPSHOTS]
    # compare on the same snapshots: those for which every anchor with enough forecasts has one
    means = errors.fillna(dict.fromkeys(rare, ASSUMED_ERROR)).dropna().mean()
    best = str(means.idxmin())
    error = errors[best].mean()
    return best, None if np.isnan(error) else float(error)


def level_shift(logit: np.ndarray, level: float) -> float:
    """Return what to add to every logit to give them the mean probability ``level``, clipped to 0.001 and 0.999."""
    target = min(max(level, 0.001), 0.999)
    farthest = 30 + float(np.abs(logit).max())
    return float(brentq(lambda shift: expit(logit + shift).mean() - target, -farthest, farthest, xtol=1e-12))
