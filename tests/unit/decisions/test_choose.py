"""Contacts, holdouts and exploration of one day."""

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from inference.decisions.bandit import Explorer
from inference.decisions.catalogue import DecisionSettings, check_catalogue, costs, eligible
from inference.decisions.choose import choose
from inference.decisions.effects import ActionEffect
from inference.errors import ChurnRadarError

CATALOGUE = pd.DataFrame(
    {
        "action": ["coupon", "call"],
        "channel": ["email", "phone"],
        "contact_cost": [1.0, 6.0],
        "incentive_cost": [0.0, 0.0],
        "eligible": [None, "churn_probability >= 0.5"],
        "prior_alpha": [6.0, 12.0],
        "prior_beta": [14.0, 8.0],
    }
)
NO_OUTCOMES = pd.DataFrame(
    {
        "customer_id": pd.Series(dtype=str),
        "campaign_id": pd.Series(dtype=str),
        "action": pd.Series(dtype=str),
        "touched_at": pd.Series(dtype="datetime64[us]"),
        "cost": pd.Series(dtype=float),
        "is_redeemed": pd.Series(dtype=bool),
    }
)
#: No holdout and no exploration.
PROFIT_ONLY = {"holdout_share": 0.0, "explore_share": 0.0, "margin": 1.0, "value_days": 30}


def effects(**known: tuple[float, float]) -> dict[str, ActionEffect]:
    made = {}
    for row in CATALOGUE.itertuples():
        effect = ActionEffect(row.action, (row.prior_alpha, row.prior_beta))
        effect.contacts_, effect.holdouts_, effect.model_ = 0, 0, None
        alpha, beta = effect.prior
        effect.overall_, effect.bands_ = (alpha / (alpha + beta), 0.1), {}
        if row.action in known:
            effect.contacts_, effect.holdouts_ = 5000, 5000
            effect.overall_ = known[row.action]
            effect.bands_ = dict.fromkeys(["low", "medium", "high", "critical"], known[row.action])
        made[row.action] = effect
    return made


def decide(probability, spend, as_of="2024-03-04", known=None, outcomes=NO_OUTCOMES, **settings) -> pd.DataFrame:
    probability = np.asarray(probability, dtype=float)
    customers = pd.DataFrame(
        {
            "customer_id": [f"c{i}" for i in range(len(probability))],
            "as_of_date": pd.Timestamp(as_of),
            "model_version": "1",
            "churn_probability": probability,
            "risk_band": np.select(
                [probability < 0.2, probability < 0.4, probability < 0.7], ["low", "medium", "high"], "critical"
            ),
            "expected_spend": np.asarray(spend, dtype=float),
        }
    )
    explorer = Explorer(CATALOGUE.action).fit(np.empty(0, object), np.empty(0), [], np.empty(0))
    X = pd.DataFrame({"x": np.zeros(len(customers))})
    return choose(
        customers,
        X,
        CATALOGUE,
        effects(**(known or {})),
        outcomes,
        explorer,
        DecisionSettings(**{**PROFIT_ONLY, **settings}),
    )


def test_the_most_profitable_action_is_chosen_and_none_where_no_action_is_profitable():
    # acceptance 0.3 and 0.6: worth 100, at 0.9 the coupon earns 27 - 1, the call 54 - 6; at 0.3 a call is not allowed
    chosen = decide([0.9, 0.3, 0.9], [100, 100, 1])
    assert chosen.action.tolist() == ["call", "coupon", "none"]
    assert chosen.expected_profit.round(6).tolist() == [48.0, 8.0, 0.0]
    assert chosen.effect.round(6).tolist() == [0.54, 0.09, 0.0]
    assert chosen.channel.tolist()[:2] == ["phone", "email"]
    assert chosen.channel.isna().tolist() == [False, False, True]
    assert chosen.assignment_probability.tolist() == [1.0, 1.0, 1.0]
    assert chosen.reason[2].startswith("no contact pays: coupon would earn -0.73; coupon is assumed to keep 30.0%")
    assert chosen.effect_source.tolist() == ["prior", "prior", "none"]


def test_value_is_the_margin_of_the_spend_in_the_value_days():
    chosen = decide([0.9], [60], margin=0.25, value_days=180)
    assert chosen.value.tolist() == [0.25 * 60 * 6]


def test_the_budget_goes_to_the_most_profitable_contacts():
    chosen = decide([0.9, 0.8, 0.7], [100, 100, 100], budget=8)
    assert chosen.action.tolist() == ["call", "coupon", "coupon"]
    assert chosen.contact_cost.sum() == 8
    chosen = decide([0.9, 0.8, 0.7], [100, 100, 100], budget=1)
    assert chosen.action.tolist() == ["coupon", "none", "none"]
    assert chosen.reason[2] == "the budget is spent where it earns more"


def test_without_a_budget_left_nobody_is_contacted():
    assert decide([0.9, 0.8], [100, 100], budget=0).action.tolist() == ["none", "none"]


def test_past_contacts_of_the_campaign_count_towards_budget_and_caps():
    done = pd.DataFrame(
        {
            "customer_id": ["x", "y"],
            "campaign_id": ["2024-02-19 call", "2024-01-22 call"],
            "action": "call",
            "touched_at": pd.Timestamp("2024-03-04"),
            "cost": [6.0, 6.0],
            "is_redeemed": False,
        }
    )
    assert decide([0.9, 0.8], [100, 100], "2024-03-05", outcomes=done, budget=13).contact_cost.sum() == 7
    assert decide([0.9, 0.8], [100, 100], "2024-03-05", outcomes=done, budget=18).contact_cost.sum() == 12
    chosen = decide([0.9, 0.8], [100, 100], "2024-03-05", outcomes=done, action_caps={"call": 2})
    assert chosen.action.tolist() == ["call", "coupon"]


def test_customers_contacted_recently_are_not_contacted():
    recent = NO_OUTCOMES.iloc[:0].copy()
    for customer, day, action in (
        ("c0", "2024-02-28", "coupon"),
        ("c1", "2024-02-19", "coupon"),
        ("c2", "2024-03-01", "holdout"),
    ):
        row = [customer, "w", action, pd.Timestamp(day), 1.0, False]
        recent.loc[len(recent)] = row
    chosen = decide([0.9, 0.9, 0.9], [100, 100, 100], outcomes=recent, contact_every_days=14)
    assert chosen.action.tolist() == ["none", "call", "call"]
    assert chosen.reason[0] == "contacted 5 days ago; expected a pause of 14"


def test_nobody_is_contacted_where_no_action_has_a_significant_effect():
    chosen = decide([0.9] * 4, [100] * 4, known={"coupon": (0.01, 0.02), "call": (-0.01, 0.02)})
    assert set(chosen.action) == {"none"}
    assert chosen.reason[0] == (
        "no action is known to keep customers: coupon keeps 1.0% of those about to leave (-2.9% to 4.9%), by 5,000 "
        "contacts and 5,000 held out; call keeps -1.0% of those about to leave (-4.9% to 2.9%), by 5,000 contacts and "
        "5,000 held out"
    )


def test_the_holdout_is_random_and_the_same_for_the_whole_campaign():
    rng = np.random.default_rng(0)
    probability, spend = rng.uniform(0, 1, 20_000), rng.gamma(2, 30, 20_000)
    first, later, next_campaign = (
        decide(probability, spend, day, holdout_share=0.2) for day in ("2024-02-19", "2024-03-17", "2024-03-18")
    )
    assert first.is_holdout.mean() == pytest.approx(0.2, abs=0.0085)  # three standard errors
    assert (first.action == "holdout").tolist() == first.is_holdout.tolist()
    assert first.is_holdout.equals(later.is_holdout)
    assert (first.is_holdout & next_campaign.is_holdout).mean() == pytest.approx(0.04, abs=0.006)
    for values in (probability, spend, first.value):
        held, others = values[first.is_holdout], values[~first.is_holdout]
        error = np.sqrt(np.var(held) / len(held) + np.var(others) / len(others))
        assert abs(held.mean() - others.mean()) < 3 * error
    # the share holds within each intended action
    called = first.intended_action == "call"
    assert first.is_holdout[called].mean() == pytest.approx(0.2, abs=0.02)


def test_assignment_probabilities_are_the_frequencies_of_assignments():
    counts, stated = {}, {}
    for campaign in range(40):
        as_of = pd.Timestamp("2024-03-04") + pd.Timedelta(days=28 * campaign)
        chosen = decide([0.9] * 500, [100] * 500, str(as_of.date()), holdout_share=0.2, explore_share=0.3)
        for action, rows in chosen.groupby("action"):
            counts[action] = counts.get(action, 0) + len(rows)
        contacts = chosen[chosen.action != "holdout"]
        for action, rows in contacts.groupby("action"):
            stated.setdefault(action, set()).update(rows.assignment_probability.round(9))
    n = sum(counts.values())
    assert counts["holdout"] / n == pytest.approx(0.2, abs=0.01)
    # exploration draws three arms alike; the call is also the most profitable
    assert stated == {"coupon": {0.08}, "none": {0.08}, "call": {0.64}}
    for action, (probability,) in stated.items():
        assert counts[action] / n == pytest.approx(probability, abs=0.01)


def test_exploration_keeps_to_its_share_of_the_budget():
    chosen = decide([0.9] * 2000, [100] * 2000, budget=300, explore_share=0.2)
    explored = chosen[chosen.is_exploration]
    assert 0 < explored.contact_cost.sum() <= 60
    assert chosen.contact_cost.sum() <= 300
    assert chosen.contact_cost.sum() > 290


def test_decisions_of_a_day_are_reproducible():
    first, second = (decide([0.9, 0.4] * 50, [100] * 100, holdout_share=0.2, explore_share=0.3) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)


def test_an_incentive_costs_its_redemption_rate():
    catalogue = CATALOGUE.assign(incentive_cost=[5.0, 0.0])
    assert costs(catalogue, NO_OUTCOMES).tolist() == [1 + 5 * 0.3, 6.0]
    taken = pd.DataFrame({"action": ["coupon"] * 80, "is_redeemed": [True] * 40 + [False] * 40})
    assert costs(catalogue, taken)[0] == pytest.approx(1 + 5 * 46 / 100)


@pytest.mark.parametrize(
    ("change", "caps", "line"),
    [
        ({"contact_cost": [-1.0, 6.0]}, {}, "contact_cost of coupon is -1.0; expected 0 or more"),
        ({"action": ["none", "call"]}, {}, "none is always there; expected other actions only"),
        ({"action": ["Call ", "coupon"]}, {}, "the action Call is never found in campaign_touches; expected call"),
        ({"action": ["call", "call"]}, {}, "call is there twice; expected each action once"),
        ({"prior_alpha": [0.0, 1.0]}, {}, "prior of coupon is 0.0, 14.0; expected above 0"),
        (
            {},
            {"cal": 3},
            "churn__action_caps names cal; expected actions of seed retention_actions_catalogue: coupon, call",
        ),
    ],
)
def test_wrong_catalogues_are_refused(change, caps, line):
    with pytest.raises(ChurnRadarError, match=line):
        check_catalogue(CATALOGUE.assign(**change), DecisionSettings(action_caps=caps))


@pytest.mark.parametrize("condition", ["churn_probability >>> 1", "no_such_column = 1", "1); drop table customers; --"])
def test_a_condition_that_is_not_valid_sql_is_refused_with_its_action(condition):
    catalogue = CATALOGUE.assign(eligible=[None, condition])
    with pytest.raises(ChurnRadarError, match="seed retention_actions_catalogue: eligible of call is"):
        eligible(catalogue, pd.DataFrame({"churn_probability": [0.5]}))


def test_campaigns_begin_on_mondays():
    settings = DecisionSettings(campaign_days=28)
    starts = {settings.campaign_start(date(2024, 2, 19) + timedelta(days=days)) for days in range(28)}
    assert starts == {date(2024, 2, 19)}
    assert settings.campaign_start(date(2024, 3, 18)) == date(2024, 3, 18)
