"""Probabilities of exploration."""

import numpy as np
import pytest

from inference.decisions.bandit import MIN_PROBABILITY, N_CELLS, N_DRAWS, Explorer, draw

BANDS = ["low", "high"]


def fitted() -> Explorer:
    """Ten contacts of each arm with customers of low risk and little value: only coupons bring a reward."""
    action = np.array(["coupon", "none"] * 10, dtype=object)
    reward = np.array([30.0, 10.0] * 10)
    return Explorer(["coupon", "call"]).fit(action, reward, ["low"] * 20, np.ones(20))


def test_without_contacts_all_allowed_arms_are_equally_likely():
    explorer = Explorer(["coupon", "call"]).fit(np.empty(0, object), np.empty(0), [], np.empty(0))
    allowed = np.array([[True, True], [False, True]])
    assert explorer.probabilities(allowed, BANDS, np.ones(2)).tolist() == [[1 / 3] * 3, [0.0, 0.5, 0.5]]


def test_posterior_by_hand():
    explorer = fitted()
    assert explorer.counts_[:, 0].tolist() == [10, 0, 10]
    # rewards of 3 and 1 in standard deviations, shrunk by 10 / (1 + 10)
    assert explorer.means_[:, 0].tolist() == pytest.approx([30 / 11, 0, 10 / 11])
    assert not explorer.counts_[:, 1:].any()


def test_probabilities_are_shares_of_posterior_draws():
    tried, untried = np.random.default_rng(0), np.random.default_rng(0)
    tried.standard_normal((N_DRAWS, N_CELLS))  # drawn for the other cell, high risk, which comes first
    for size in ((N_DRAWS,), (N_DRAWS, N_CELLS), (N_DRAWS,)):
        untried.standard_normal(size) if len(size) == 2 else untried.random(size)
    shared = tried.standard_normal((N_DRAWS, N_CELLS))[:, 0] / np.sqrt(11)
    call = untried.standard_normal((N_DRAWS, N_CELLS))[:, 0]
    share = np.mean(call > 30 / 11 + shared)  # the call has no contacts and so a wide posterior
    raw = np.maximum([1 - share, share, 0], MIN_PROBABILITY)
    probability = fitted().probabilities(np.ones((2, 2), bool), BANDS, np.ones(2))
    np.testing.assert_allclose(probability[0], raw / raw.sum())
    np.testing.assert_allclose(probability.sum(axis=1), 1)


def test_an_action_is_drawn_with_its_probability():
    n = 20_000
    probability = fitted().probabilities(np.ones((n, 2), bool), ["low"] * n, np.ones(n))
    drawn = draw(probability, np.linspace(0, 1, n, endpoint=False))
    shares = [(drawn == arm).mean() for arm in (0, 1, -1)]
    np.testing.assert_allclose(shares, probability[0], atol=1e-4)
