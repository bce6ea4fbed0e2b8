import numpy as np
import pytest

from inference.evaluation.off_policy import policy_value


def test_decisions_that_were_unlikely_count_for_more():
    action = np.array(["a", "a", "b", "b"], dtype=object)
    estimate = policy_value(
        action,
        propensity=np.array([0.5, 0.25, 0.5, 0.5]),
        reward=np.array([1.0, 4.0, 0.0, 10.0]),
        chosen=np.full(4, "a", object),
        reference=np.full(4, "b", object),
    )
    assert estimate.value == pytest.approx((2 * 1 + 4 * 4) / 6)
    assert estimate.gain == pytest.approx(3 - 5)
    assert (estimate.matches, estimate.effective) == (2, pytest.approx(36 / 20))


def test_a_policy_that_nobody_followed_has_no_value():
    action = np.array(["a", "b"], dtype=object)
    estimate = policy_value(action, np.full(2, 0.5), np.ones(2), np.full(2, "c", object), action)
    assert np.isnan(estimate.value)
    assert estimate.matches == 0


def test_intervals_hold_the_truth():
    """Worth 2 more to do a where x is above zero and b elsewhere than always b, from logs that preferred b."""
    held = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=800)
        does_a = rng.random(800) < np.where(x > 0, 0.2, 0.4)
        action = np.where(does_a, "a", "b").astype(object)
        propensity = np.where(does_a, np.where(x > 0, 0.2, 0.4), np.where(x > 0, 0.8, 0.6))
        reward = rng.normal(size=800) + np.where(does_a & (x > 0), 4.0, 0.0)
        estimate = policy_value(
            action, propensity, reward, np.where(x > 0, "a", "b").astype(object), np.full(800, "b", object)
        )
        held += estimate.gain_low <= 2 <= estimate.gain_high
    assert held >= 180
