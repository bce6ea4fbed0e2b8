"""What actions change is learned from random contacts."""

import numpy as np
import pandas as pd
import pytest

from inference.uplift import ActionEffect, Contacts

PRIOR = (6, 14)


def contacts(n: int, seed: int, acceptance, share=0.5, campaigns: int = 12) -> Contacts:
    """Random contacts with one action; ``acceptance`` and ``share`` contacted by churn probability and feature."""
    rng = np.random.default_rng(seed)
    probability, x = rng.uniform(0.1, 0.9, n), rng.normal(size=(n, 3))
    accepts = acceptance(probability, x[:, 0]) if callable(acceptance) else np.full(n, acceptance)
    contacted_share = share(probability) if callable(share) else np.full(n, share)
    treated = rng.random(n) < contacted_share
    campaign = np.sort(rng.integers(0, campaigns, n))
    return Contacts(
        action=np.where(treated, "coupon", "holdout").astype(object),
        campaign=np.array([f"w{c}" for c in campaign], dtype=object),
        propensity=np.where(treated, contacted_share, 1 - contacted_share),
        churned=(rng.random(n) < probability * np.where(treated, 1 - accepts, 1)).astype(float),
        probability=probability,
        segment=np.where(probability < 0.5, "low", "high").astype(object),
        X=pd.DataFrame(x, columns=["a", "b", "c"]),
        day=np.datetime64("2024-01-01") + 28 * campaign,
    )


def test_nothing_tried_leaves_the_prior():
    effect = ActionEffect("coupon", PRIOR).fit(contacts(150, 0, 0.5))
    told = effect.acceptance(pd.DataFrame({"a": [0.0], "b": [0.0], "c": [0.0]}), ["high"])
    assert told.source == effect.source == "prior"
    assert told.mean[0] == pytest.approx(0.3)
    assert told.deviation[0] == pytest.approx(0.1)  # sqrt(6 * 14 / 21) / 20
    assert effect.tell().startswith("coupon is assumed to keep 30.0% of those about to leave (10.4% to 49.6%)")


def test_holdouts_of_other_campaigns_are_not_compared_with():
    mine, other = contacts(1000, 0, 0.5), contacts(1000, 1, 0.5)
    other = Contacts(
        **{**vars(other), "action": np.full(1000, "holdout", object), "campaign": np.full(1000, "x", object)}
    )
    both = Contacts(
        **{name: np.concatenate([getattr(mine, name), getattr(other, name)]) for name in vars(mine) if name != "X"},
        X=pd.concat([mine.X, other.X]),
    )
    alone, together = (ActionEffect("coupon", PRIOR).fit(c) for c in (mine, both))
    assert (alone.holdouts_, alone.overall_) == (together.holdouts_, together.overall_)


def test_acceptance_is_measured_by_risk_band():
    rows = contacts(40_000, 0, lambda p, _: np.where(p < 0.5, 0.0, 0.4))
    effect = ActionEffect("coupon", PRIOR).fit(rows)
    effect.model_ = None
    told = effect.acceptance(rows.X.iloc[:2], ["high", "low"])
    assert told.source == "segment"
    assert told.mean[0] == pytest.approx(0.4, abs=3 * told.deviation[0])
    assert told.mean[1] == pytest.approx(0.0, abs=3 * told.deviation[1] + 0.01)
    assert told.deviation.max() < 0.04


def test_contacts_that_went_rather_to_those_at_risk_are_weighed():
    """Contacting the risky more often would make a useless action look harmful, and the other way round."""
    rows = contacts(40_000, 0, 0.3, share=lambda p: np.where(p > 0.5, 0.8, 0.1))
    mean, deviation = ActionEffect("coupon", (1, 1)).fit(rows).overall_
    assert mean == pytest.approx(0.3, abs=3 * deviation)
    assert deviation < 0.03


def test_intervals_hold_the_truth():
    held = 0
    for seed in range(100):
        mean, deviation = ActionEffect("coupon", (1, 1)).fit(contacts(2000, seed, 0.2)).overall_
        held += abs(mean - 0.2) <= 1.96 * deviation
    assert held >= 90


def test_who_accepts_is_learned_from_features():
    rows = contacts(30_000, 0, lambda _, x: np.where(x > 0, 0.5, -0.1))
    effect = ActionEffect("coupon", PRIOR).fit(rows)
    assert effect.source == "model"
    told = effect.acceptance(rows.X, rows.segment)
    likely, unlikely = told.mean[rows.X.a > 1].mean(), told.mean[rows.X.a < -1].mean()
    assert likely > 0.35
    assert unlikely < 0.05


def test_features_that_say_nothing_earn_no_model():
    earned = [ActionEffect("coupon", PRIOR).fit(contacts(6000, seed, 0.2)).source == "model" for seed in range(20)]
    assert sum(earned) <= 3


def test_an_action_that_drives_customers_away_has_a_negative_acceptance():
    mean, deviation = ActionEffect("coupon", PRIOR).fit(contacts(40_000, 0, -0.3)).overall_
    assert mean + 1.96 * deviation < -0.2
