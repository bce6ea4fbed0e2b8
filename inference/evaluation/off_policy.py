"""Off-policy evaluation: the value of a contact policy, estimated from decisions that another policy logged."""

from dataclasses import dataclass

import numpy as np

#: Half width of a 95 % interval, in standard errors.
Z = 1.96


@dataclass(frozen=True)
class PolicyValue:
    """Estimated value of a policy; all NaN where no logged decision agrees with it."""

    value: float  # reward per customer, in the shop's currency
    gain: float  # difference to the reference policy
    gain_low: float  # end of its 95 % interval
    gain_high: float
    matches: int  # logged decisions that agree with the policy
    effective: float  # effective sample size of the weights (Kish 1965)


def policy_value(
    action: np.ndarray, propensity: np.ndarray, reward: np.ndarray, chosen: np.ndarray, reference: np.ndarray
) -> PolicyValue:
    """Estimate a policy's reward by self-normalised inverse propensity weights (Swaminathan and Joachims 2015).

    Parameters
    ----------
    action : ndarray of shape (n_decisions,), object
        Logged action.
    propensity : ndarray of shape (n_decisions,)
        Probability of that action when it was logged, above 0.
    reward : ndarray of shape (n_decisions,)
        Reward, in the shop's currency.
    chosen, reference : ndarray of shape (n_decisions,), object
        Action of the policy, and of the reference policy.
    """
    value, influence, weights = _weighted(action, propensity, reward, chosen)
    other, other_influence, _ = _weighted(action, propensity, reward, reference)
    gain = value - other
    margin = (
        Z * float(np.std(influence - other_influence, ddof=1)) / np.sqrt(len(action)) if len(action) > 1 else np.nan
    )
    effective = weights.sum() ** 2 / (weights**2).sum() if weights.any() else 0.0
    return PolicyValue(value, gain, gain - margin, gain + margin, int((weights > 0).sum()), float(effective))


def _weighted(
    action: np.ndarray, propensity: np.ndarray, reward: np.ndarray, chosen: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Weighted mean, influence of each decision on it, and the weights."""
    weights = (action == chosen) / propensity
    if not weights.any():
        return np.nan, np.full(len(action), np.nan), weights
    value = float(np.average(reward, weights=weights))
    return value, weights * (reward - value) / weights.mean(), weights
