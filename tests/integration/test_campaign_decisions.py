"""Effects and decisions in a simulated shop with randomised campaigns."""

import numpy as np
import pandas as pd
import pytest
from shop import Shop

TABLES = ("retention_policy_values", "retention_experiment_results", "retention_actions")
BUDGET = 40


@pytest.fixture(scope="module")
def decided(tmp_path_factory) -> Shop:
    shop = Shop(tmp_path_factory.mktemp("decisions") / "home")
    shop.run("churn-radar", "simulate", "--customers", "1200", "--days", "300", "--campaigns", "strong", "--seed", "4")
    decide(shop)
    return shop


def decide(shop: Shop) -> None:
    selected = (word for table in TABLES for word in ("--select", f"+{table}"))
    without_tests = ("--exclude-resource-type", "test", "--exclude-resource-type", "unit_test")
    shop.dbt("build", *selected, *without_tests, churn__transformer=False, churn__budget=BUDGET)


def outcomes_of_touches(shop: Shop) -> pd.DataFrame:
    """Contacts with active customers and their orders in the next 30 days, computed independently with pandas."""
    touches, orders = (pd.read_parquet(shop.raw / f"{name}.parquet") for name in ("campaign_touches", "orders"))
    orders = orders[orders.status == "completed"]
    ordered = orders.ordered_at.dt.normalize().groupby(orders.customer_id).agg(list)
    day = touches.touched_at.dt.normalize()
    end = orders.ordered_at.max().normalize() + pd.Timedelta(days=1)
    ago = [
        np.array([(d - t).days for d in ordered.get(customer, [])], dtype=int)
        for customer, t in zip(touches.customer_id, day, strict=True)
    ]
    rows = touches.assign(
        is_active=[((a < 0) & (a >= -90)).any() for a in ago],
        churned=[not ((a >= 1) & (a <= 30)).any() for a in ago],
    )
    return rows[rows.is_active & (day + pd.Timedelta(days=31) <= end)]


def test_experiment_results_equal_those_computed_from_raw_tables(decided):
    rows, results = outcomes_of_touches(decided), decided.table("retention_experiment_results")
    overall = results[(results.campaign_id == "all") & (results.segment == "all")].set_index("action")
    assert sorted(overall.index) == ["coupon", "recommendation", "service_call"]
    held = rows[rows.action == "holdout"]
    for action, row in overall.iterrows():
        contacted = rows[rows.action == action]
        assert (row.contacts, row.holdouts) == (len(contacted), len(held))
        # propensities are the same for all within an action, so weights cancel
        assert row.churn_rate_contacted == pytest.approx(contacted.churned.mean())
        assert row.effect == pytest.approx(held.churned.mean() - contacted.churned.mean())
        error = np.sqrt(contacted.churned.var(ddof=0) / len(contacted) + held.churned.var(ddof=0) / len(held))
        assert row.effect_high - row.effect_low == pytest.approx(2 * 1.96 * error)
    one = results[(results.campaign_id == "w112") & (results.action == "coupon") & (results.segment == "all")].iloc[0]
    assert one.contacts == ((rows.campaign_id == "w112") & (rows.action == "coupon")).sum()


def test_actions_are_within_the_budget_and_have_reasons(decided):
    actions = decided.table("retention_actions")
    assert len(actions) == len(decided.table("churn_scores"))
    assert 0 < actions.contact_cost.sum() <= BUDGET
    assert abs(actions.is_holdout.mean() - 0.1) < 3 * np.sqrt(0.09 / len(actions))
    assert set(actions.effect_source) <= {"segment", "model", "none"}  # every action has enough contacts to be measured
    measured = actions[(actions.action != "none") & ~actions.is_holdout]
    assert measured.reason.str.contains(r"keeps -?[0-9.]+% of those about to leave .*, by [0-9,]+ contacts").all()
    assert actions.campaign_id.str.match(r"20\d\d-\d\d-\d\d (coupon|recommendation|service_call|none)$").all()


def test_policies_are_evaluated_on_contacts_not_used_for_training(decided):
    values = decided.table("retention_policy_values").set_index("policy")
    assert set(values.index) == {"chosen", "coupon", "none", "recommendation", "service_call"}
    assert values.loc["none", "gain"] == 0
    contacts = decided.table("int_contact_outcomes")
    known = contacts[contacts.is_active & contacts.churned.notna() & contacts.as_of_date.notna()]
    # the newest campaigns, whole, with at most three tenths of the contacts
    newest = known.touched_at.value_counts().sort_index(ascending=False).cumsum()
    assert values.customers.tolist() == [newest[newest <= 0.3 * len(known)].max()] * 5
    assert (values.gain_low <= values.gain).all()
    assert values.loc["coupon", "qini"] == pytest.approx(0, abs=0.1)


def test_deciding_the_same_day_again_gives_the_same_actions(decided):
    before = decided.table("retention_actions")
    decide(decided)
    pd.testing.assert_frame_equal(decided.table("retention_actions"), before)
