"""Effects of actions are learned from randomised contacts."""

import os
import pickle
from dataclasses import replace
from pathlib import Path

import lightgbm
import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from inference.decisions.contacts import Contacts
from inference.decisions.effects import ActionEffect, fit_effects
from inference.decisions.r_learner import customer_folds, predict_churn

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
        band=np.where(probability < 0.5, "low", "high").astype(object),
        X=pd.DataFrame(x, columns=["a", "b", "c"]),
        day=np.datetime64("2024-01-01") + 28 * campaign,
    )


def learn(rows: Contacts) -> ActionEffect:
    """Effect of coupons."""
    return fit_effects(pd.DataFrame({"action": ["coupon"], "prior_alpha": [6], "prior_beta": [14]}), rows)["coupon"]


def test_without_enough_contacts_the_prior_is_used():
    effect = ActionEffect("coupon", PRIOR).fit(contacts(150, 0, 0.5))
    mean, deviation = effect.acceptance(pd.DataFrame({"a": [0.0], "b": [0.0], "c": [0.0]}), ["high"])
    assert effect.source == "prior"
    assert mean[0] == pytest.approx(0.3)
    assert deviation[0] == pytest.approx(0.1)  # sqrt(6 * 14 / 21) / 20
    assert effect.describe().startswith("coupon is assumed to keep 30.0% of those about to leave (10.4% to 49.6%)")


def test_holdouts_of_other_campaigns_are_not_compared():
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
    mean, deviation = effect.acceptance(rows.X.iloc[:2], ["high", "low"])
    assert effect.source == "segment"
    assert mean[0] == pytest.approx(0.4, abs=3 * deviation[0])
    assert mean[1] == pytest.approx(0.0, abs=3 * deviation[1] + 0.01)
    assert deviation.max() < 0.04


def test_contacts_are_weighted_by_inverse_propensity():
    """Contacting the risky more often would make a useless action look harmful, and the other way round."""
    rows = contacts(40_000, 0, 0.3, share=lambda p: np.where(p > 0.5, 0.8, 0.1))
    mean, deviation = ActionEffect("coupon", (1, 1)).fit(rows).overall_
    assert mean == pytest.approx(0.3, abs=3 * deviation)
    assert deviation < 0.03


def test_intervals_cover_the_true_acceptance():
    held = 0
    for seed in range(100):
        mean, deviation = ActionEffect("coupon", (1, 1)).fit(contacts(2000, seed, 0.2)).overall_
        held += abs(mean - 0.2) <= 1.96 * deviation
    assert held >= 90


def test_acceptance_by_features_is_learned():
    rows = contacts(30_000, 0, lambda _, x: np.where(x > 0, 0.5, -0.1))
    effect = learn(rows)
    assert effect.source == "model"
    mean, _ = effect.acceptance(rows.X, rows.band)
    likely, unlikely = mean[rows.X.a > 1].mean(), mean[rows.X.a < -1].mean()
    assert likely > 0.35
    assert unlikely < 0.05


def test_interactions_of_two_features_are_learned():
    """Only customers who are high in both features accept, which no sum of effects of single features gives."""
    rows = contacts(30_000, 0, 0.0)
    a, b = rows.X.a.to_numpy() > 0, rows.X.b.to_numpy() > 0
    kept = a & b & (rows.action == "coupon") & (np.random.default_rng(1).random(30_000) < 0.6)
    effect = learn(replace(rows, churned=np.where(kept, 0.0, rows.churned)))
    assert effect.source == "model"
    mean = effect.acceptance(rows.X, rows.band)[0]
    assert mean[a & b].mean() + mean[~a & ~b].mean() > mean[a & ~b].mean() + mean[~a & b].mean() + 0.1


def test_errors_of_the_averaged_trees_are_about_as_large_as_their_deviation():
    rows = contacts(20_000, 3, lambda _, x: np.where(x > 0, 0.5, -0.1))
    effect = learn(rows)
    mean, deviation = effect.acceptance(rows.X, rows.band)
    truth = np.where(rows.X.a > 0, 0.5, -0.1)
    clear = (rows.X.a.abs() > 0.3).to_numpy()  # trees round the step off
    assert (np.abs(mean - truth)[clear] <= 1.96 * deviation[clear]).mean() > 0.5
    assert deviation.mean() < 0.15


def test_churn_probabilities_are_out_of_fold_by_customer():
    rng = np.random.default_rng(0)
    customer = np.repeat(np.arange(500), 4)
    X = pd.DataFrame({"who": customer.astype(float), "useful": rng.normal(size=2000)})
    of_customer = rng.random(500) < 0.5  # depends on the customer only
    predicted = predict_churn(X, of_customer[customer].astype(float), customer)
    assert abs(roc_auc_score(of_customer[customer], predicted) - 0.5) < 0.1
    predicted = predict_churn(X, (rng.random(2000) < expit(3 * X.useful)).astype(float), customer)
    assert roc_auc_score(X.useful > 0, predicted) > 0.95


def test_a_fit_of_the_same_rows_comes_from_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("CHURN_HOME", str(tmp_path))
    rng = np.random.default_rng(0)
    X, churned = pd.DataFrame({"useful": rng.normal(size=500)}), (rng.random(500) < 0.4).astype(float)
    customer = np.array([f"c{i}" for i in range(500)], dtype=object)
    first = predict_churn(X, churned, customer)
    monkeypatch.setattr(lightgbm, "train", None)  # not called again
    np.testing.assert_array_equal(predict_churn(X, churned, customer), first)
    with pytest.raises(TypeError):
        predict_churn(X, 1 - churned, customer)


def test_folds_keep_a_customer_together_in_any_order_of_rows():
    customer = np.array(["b", "a", "c", "a", "d", "e", "f"], dtype=object)
    order = np.random.default_rng(0).permutation(7)
    assert customer_folds(customer[order]).tolist() == customer_folds(customer)[order].tolist()
    assert customer_folds(customer)[1] == customer_folds(customer)[3]
    assert len(set(customer_folds(customer))) == 5


def test_responses_to_one_action_help_to_predict_those_to_a_rarer_one():
    """20,000 coupons that work on the same customers as 2,100 calls show who these are."""
    rows = contacts(42_000, 0, lambda _, x: np.where(x > 0, 0.4, 0.0))
    coupons = np.flatnonzero(rows.action == "coupon")
    rows.action[coupons[::10]] = "call"
    catalogue = pd.DataFrame({"action": ["coupon", "call"], "prior_alpha": 6, "prior_beta": 14})
    both = fit_effects(catalogue, rows)["call"]
    alone = fit_effects(catalogue[1:], rows)["call"]
    truth = np.where(rows.X.a > 0, 0.4, 0.0)
    errors = [np.mean((effect.acceptance(rows.X, rows.band)[0] - truth) ** 2) for effect in (both, alone)]
    assert both.source == "model"
    assert errors[0] < 0.5 * errors[1]


def test_an_action_with_other_responders_has_a_model_of_its_own():
    rows = contacts(40_000, 0, lambda _, x: np.where(x > 0, 0.5, 0.0))
    other = contacts(40_000, 1, lambda _, x: np.where(x > 0, 0.0, 0.5))
    other.action[other.action == "coupon"] = "call"
    together = Contacts(
        **{name: np.concatenate([getattr(rows, name), getattr(other, name)]) for name in vars(rows) if name != "X"},
        X=pd.concat([rows.X, other.X], ignore_index=True),
    )
    effects = fit_effects(pd.DataFrame({"action": ["coupon", "call"], "prior_alpha": 6, "prior_beta": 14}), together)
    likes_coupons = (rows.X.a > 0.3).to_numpy()
    coupon, call = (effects[action].acceptance(rows.X, rows.band)[0] for action in ("coupon", "call"))
    assert coupon[likes_coupons].mean() > 0.3
    assert call[likes_coupons].mean() < 0.15


def test_uninformative_features_give_no_model():
    has_model = [learn(contacts(6000, seed, 0.2)).source == "model" for seed in range(20)]
    assert sum(has_model) <= 3


def test_an_action_that_drives_customers_away_has_a_negative_acceptance():
    mean, deviation = ActionEffect("coupon", PRIOR).fit(contacts(40_000, 0, -0.3)).overall_
    assert mean + 1.96 * deviation < -0.2


@pytest.mark.parametrize("damage", [lambda old: pickle.dumps(Planted()), lambda old: old[:-100]])
def test_a_damaged_cache_is_fitted_again_and_runs_no_code(monkeypatch, tmp_path, damage):
    monkeypatch.setenv("CHURN_HOME", str(tmp_path))
    rng = np.random.default_rng(0)
    X, churned = pd.DataFrame({"useful": rng.normal(size=300)}), (rng.random(300) < 0.4).astype(float)
    first = predict_churn(X, churned, np.arange(300))
    for file in tmp_path.rglob("*.*"):
        file.write_bytes(damage(file.read_bytes()))
    np.testing.assert_array_equal(predict_churn(X, churned, np.arange(300)), first)
    assert not (tmp_path / "planted").exists()


class Planted:
    """A pickle that writes a file where it is read."""

    def __reduce__(self):
        return Path(os.environ["CHURN_HOME"], "planted").write_text, ("run",)
