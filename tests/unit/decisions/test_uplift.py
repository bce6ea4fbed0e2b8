"""What actions change is learned from random contacts."""

from dataclasses import replace

import lightgbm
import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from inference.decisions.uplift import ActionEffect, Contacts, fit_effects, foretell, groups

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
        customer=np.array([f"c{i // 2}" for i in range(n)], dtype=object),
        action=np.where(treated, "coupon", "holdout").astype(object),
        campaign=np.array([f"w{c}" for c in campaign], dtype=object),
        propensity=np.where(treated, contacted_share, 1 - contacted_share),
        churned=(rng.random(n) < probability * np.where(treated, 1 - accepts, 1)).astype(float),
        probability=probability,
        segment=np.where(probability < 0.5, "low", "high").astype(object),
        X=pd.DataFrame(x, columns=["a", "b", "c"]),
        day=np.datetime64("2024-01-01") + 28 * campaign,
    )


def learn(rows: Contacts) -> ActionEffect:
    """Learn what coupons do, with all that fit_effects knows to do."""
    return fit_effects(pd.DataFrame({"action": ["coupon"], "prior_alpha": [6], "prior_beta": [14]}), rows)["coupon"]


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
    effect = learn(rows)
    assert effect.source == "model"
    told = effect.acceptance(rows.X, rows.segment)
    likely, unlikely = told.mean[rows.X.a > 1].mean(), told.mean[rows.X.a < -1].mean()
    assert likely > 0.35
    assert unlikely < 0.05


def test_what_only_two_features_together_tell_is_learned():
    """Who is high in both of two features accepts: more than a sum of what each says would give."""
    rows = contacts(30_000, 0, 0.0)
    a, b = rows.X.a.to_numpy() > 0, rows.X.b.to_numpy() > 0
    kept = a & b & (rows.action == "coupon") & (np.random.default_rng(1).random(30_000) < 0.6)
    effect = learn(replace(rows, churned=np.where(kept, 0.0, rows.churned)))
    assert effect.source == "model"
    mean = effect.acceptance(rows.X, rows.segment).mean
    assert mean[a & b].mean() + mean[~a & ~b].mean() > mean[a & ~b].mean() + mean[~a & b].mean() + 0.1


def test_the_average_of_uncertain_trees_is_about_as_far_off_as_it_says():
    rows = contacts(20_000, 3, lambda _, x: np.where(x > 0, 0.5, -0.1))
    effect = learn(rows)
    told = effect.acceptance(rows.X, rows.segment)
    truth = np.where(rows.X.a > 0, 0.5, -0.1)
    clear = (rows.X.a.abs() > 0.3).to_numpy()  # trees round the step off
    assert (np.abs(told.mean - truth)[clear] <= 1.96 * told.deviation[clear]).mean() > 0.5
    assert told.deviation.mean() < 0.15


def test_a_churn_probability_is_foretold_by_what_did_not_see_the_customer():
    rng = np.random.default_rng(0)
    customer = np.repeat(np.arange(500), 4)
    X = pd.DataFrame({"who": customer.astype(float), "useful": rng.normal(size=2000)})
    of_customer = rng.random(500) < 0.5  # known of a customer only by who it is
    told = foretell(X, of_customer[customer].astype(float), customer)
    assert abs(roc_auc_score(of_customer[customer], told) - 0.5) < 0.1
    told = foretell(X, (rng.random(2000) < expit(3 * X.useful)).astype(float), customer)
    assert roc_auc_score(X.useful > 0, told) > 0.95


def test_what_was_learned_of_the_same_rows_is_not_learned_again(monkeypatch, tmp_path):
    monkeypatch.setenv("CHURN_HOME", str(tmp_path))
    rng = np.random.default_rng(0)
    X, churned = pd.DataFrame({"useful": rng.normal(size=500)}), (rng.random(500) < 0.4).astype(float)
    customer = np.array([f"c{i}" for i in range(500)], dtype=object)
    first = foretell(X, churned, customer)
    monkeypatch.setattr(lightgbm, "train", None)  # not called again
    np.testing.assert_array_equal(foretell(X, churned, customer), first)
    with pytest.raises(TypeError):
        foretell(X, 1 - churned, customer)


def test_groups_keep_a_customer_together_whatever_the_order_of_rows():
    customer = np.array(["b", "a", "c", "a", "d", "e", "f"], dtype=object)
    order = np.random.default_rng(0).permutation(7)
    assert groups(customer[order]).tolist() == groups(customer)[order].tolist()
    assert groups(customer)[1] == groups(customer)[3]
    assert len(set(groups(customer))) == 5


def test_who_responds_to_one_action_tells_who_responds_to_a_rarer_one():
    """2,100 calls alone teach little; 20,000 coupons, that work on the same customers, tell who they are."""
    rows = contacts(42_000, 0, lambda _, x: np.where(x > 0, 0.4, 0.0))
    coupons = np.flatnonzero(rows.action == "coupon")
    rows.action[coupons[::10]] = "call"
    catalogue = pd.DataFrame({"action": ["coupon", "call"], "prior_alpha": 6, "prior_beta": 14})
    both = fit_effects(catalogue, rows)["call"]
    alone = fit_effects(catalogue[1:], rows)["call"]
    truth = np.where(rows.X.a > 0, 0.4, 0.0)
    errors = [np.mean((effect.acceptance(rows.X, rows.segment).mean - truth) ** 2) for effect in (both, alone)]
    assert both.source == "model"
    assert errors[0] < 0.5 * errors[1]


def test_an_action_that_others_respond_to_has_a_response_of_its_own():
    rows = contacts(40_000, 0, lambda _, x: np.where(x > 0, 0.5, 0.0))
    other = contacts(40_000, 1, lambda _, x: np.where(x > 0, 0.0, 0.5))
    other.action[other.action == "coupon"] = "call"
    together = Contacts(
        **{name: np.concatenate([getattr(rows, name), getattr(other, name)]) for name in vars(rows) if name != "X"},
        X=pd.concat([rows.X, other.X], ignore_index=True),
    )
    effects = fit_effects(pd.DataFrame({"action": ["coupon", "call"], "prior_alpha": 6, "prior_beta": 14}), together)
    likes_coupons = (rows.X.a > 0.3).to_numpy()
    coupon, call = (effects[action].acceptance(rows.X, rows.segment).mean for action in ("coupon", "call"))
    assert coupon[likes_coupons].mean() > 0.3
    assert call[likes_coupons].mean() < 0.15


def test_features_that_say_nothing_earn_no_model():
    earned = [learn(contacts(6000, seed, 0.2)).source == "model" for seed in range(20)]
    assert sum(earned) <= 3


def test_an_action_that_drives_customers_away_has_a_negative_acceptance():
    mean, deviation = ActionEffect("coupon", PRIOR).fit(contacts(40_000, 0, -0.3)).overall_
    assert mean + 1.96 * deviation < -0.2
