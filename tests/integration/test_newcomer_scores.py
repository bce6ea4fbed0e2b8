"""Newcomer scores at a past date compared with the outcomes."""

import numpy as np
import pandas as pd
from shop import small_shop_orders

NO_TESTS = ("--exclude-resource-type", "test", "--exclude-resource-type", "unit_test")


def test_newcomer_scores_of_a_simulated_shop_are_calibrated(shop):
    shop.run("churn-radar", "simulate", "--customers", "3000", "--days", "400", "--seed", "5")
    orders = pd.read_parquet(shop.raw / "orders.parquet")
    as_of_date = orders.ordered_at.max().normalize() - pd.Timedelta(days=30)
    shop.dbt("build", *NO_TESTS, "--select", "+newcomer_scores", churn__as_of_date=str(as_of_date.date()))
    scores = pd.read_parquet(shop.published.with_name("newcomer_scores.parquet"))
    completed = orders[orders.status.fillna("completed") == "completed"]
    stayed = completed[completed.ordered_at.between(as_of_date, as_of_date + pd.Timedelta(days=30), inclusive="left")]
    scores["churned"] = ~scores.customer_id.isin(stayed.customer_id)

    kinds = scores.groupby("kind").agg(
        n=("churned", "size"), predicted=("churn_probability", "mean"), churned=("churned", "mean")
    )
    groups = scores.groupby(["kind", "churn_probability", "probability_low", "probability_high"], as_index=False).agg(
        n=("churned", "size"), churned=("churned", "mean")
    )
    groups["holds"] = groups.churned.between(groups.probability_low, groups.probability_high)
    print(as_of_date.date(), kinds.round(3), groups.round(3).to_string(), sep="\n")
    assert set(kinds.index) == {"one_order", "sign_up_only"}
    error = np.sqrt(kinds.predicted * (1 - kinds.predicted) / kinds.n)
    assert ((kinds.predicted - kinds.churned).abs() < 3 * error).all()
    # only groups with enough newcomers, allowing for sampling error
    many = groups[groups.n >= 10]
    spread = 2 * np.sqrt(many.churn_probability * (1 - many.churn_probability) / many.n)
    near = many.churned.between(many.probability_low - spread, many.probability_high + spread)
    print(f"intervals that hold: {groups.holds.mean():.2f} of {len(groups)}; with sampling error: {near.mean():.2f}")
    assert near.mean() >= 0.8
    assert scores.reason.str.contains("similar newcomer").all()


def test_a_shop_with_only_orders_has_newcomers_with_one_order(shop):
    shop.write(orders=small_shop_orders(400, 260))
    shop.dbt("build", *NO_TESTS, "--select", "+newcomer_scores", churn__as_of_date="2023-03-01")
    scores = pd.read_parquet(shop.published.with_name("newcomer_scores.parquet"))
    assert len(scores) > 20
    assert set(scores.kind) == {"one_order"}
    # no snapshot has a complete activity window yet
    assert (scores.similar_newcomers == 0).all()
    assert (scores.probability_high - scores.probability_low > 0.9).all()


def test_a_shop_without_newcomers_publishes_an_empty_table(shop):
    old = small_shop_orders(60, 260)
    shop.write(orders=old[old.groupby("customer_id").customer_id.transform("size") > 8])
    shop.dbt("build", *NO_TESTS, "--select", "+newcomer_scores", churn__as_of_date="2023-09-01")
    assert pd.read_parquet(shop.published.with_name("newcomer_scores.parquet")).empty
