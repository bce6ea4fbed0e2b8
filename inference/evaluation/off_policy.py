"""What a policy would have earned on contacts that another one chose, before it runs."""

from dataclasses import dataclass

import numpy as np

Z = 1.96


@dataclass(frozen=True)
class PolicyValue:
    """Estimated value of a policy.

    Parameters
    ----------
    value : float
        Reward per customer, in the shop's currency.
    gain, gain_low, gain_high : float
        Difference to the policy that it is compared with, and its 95 % interval.
    matches : int
        Logged decisions that the policy would have taken as well.
    effective : float
        Size of the sample that the weights leave (Kish 1965).
    """

    value: float
    gain: float
    gain_low: float
    gain_high: float
    matches: int
    effective: float


def policy_value(
    action: np.ndarray, propensity: np.ndarray, reward: np.ndarray, chosen: np.ndarray, instead_of: np.ndarray
) -> PolicyValue:
    """Estimate what a policy earns, by self-normalised inverse propensity weights (Swaminathan and Joachims 2015).

    Parameters
    ----------
    action : ndarray of shape (n_decisions,), object
        What was done.
    propensity : ndarray of shape (n_decisions,)
        With which probability, above 0.
    reward : ndarray of shape (n_decisions,)
        What came of it, in the shop's currency.
    chosen, instead_of : ndarray of shape (n_decisions,), object
        What the policy would have done, and what the one that it is compared with.

    Returns
    -------
    PolicyValue
        NaN where no logged decision is the policy's.
    """
    value, influence, weights = _weighted(action, propensity, reward, chosen)
    other, other_influence, _ = _weighted(action, propensity, reward, instead_of)
    gain = value - other
    margin = (
        Z * float(np.std(influence - other_influence, ddof=1)) / np.sqrt(len(action)) if len(action) > 1 else np.nan
    )
    effective = weights.sum() ** 2 / (weights**2).sum() if weights.any() else 0.0
    return PolicyValue(value, gain, gain - margin, gain + margin, int((weights > 0).sum()), float(effective))


def _weighted(
    action: np.ndarray, propensity: np.ndarray, reward: np.ndarray, chosen: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Weighted mean, what each decision adds to its error, and the weights."""
    weights = (action == chosen) / propensity
    if not weights.any():
        return np.nan, np.full(len(action), np.nan), weights
    value = float(np.average(reward, weights=weights))
    return value, weights * (reward - value) / weights.mean(), weights
