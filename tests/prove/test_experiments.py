"""Coverage of the uplift's confidence intervals (make prove): a hundred simulated experiments through the SQL."""

import duckdb
import numpy as np
import pandas as pd
from shop import Shop

from inference.simulation.lives import ACTIONS, PROPENSITIES, Lives, live

SEEDS, CUSTOMERS, DAYS, MIN_COVERED = 100, 600, 300, 90
START = pd.Timestamp("2024-01-01")
#: Customers and repetitions of the large sample that gives the true effects.
MANY, BLOCKS = 20_000, 15


def lives(seed: int, customers: int) -> Lives:
    return live(customers, DAYS, START.day_of_year, "mild", np.random.default_rng([2026, seed]), "strong")


def true_effects() -> dict[str, float]:
    """Reduction of the churn rate in the 30 days after a contact, computed independently with numpy."""
    contacts, churned = np.zeros(len(ACTIONS)), np.zeros(len(ACTIONS))
    for block in range(BLOCKS):
        people = lives(1000 + block, MANY)
        orders = np.sort(people.orders.customer * 10_000 + np.floor(people.orders.day).astype(int))
        touches = people.touches.customer * 10_000 + people.touches.day.astype(int)

        def between(since, until, orders=orders, touches=touches):
            return np.searchsorted(orders, touches + until) - np.searchsorted(orders, touches + since)

        counted = (between(-90, 0) > 0) & (people.touches.day + 31 <= DAYS)
        stays = between(1, 31) > 0
        contacts += np.bincount(people.touches.action[counted], minlength=len(ACTIONS))
        churned += np.bincount(people.touches.action[counted & ~stays], minlength=len(ACTIONS))
    rate = dict(zip(ACTIONS, churned / contacts, strict=True))
    return {action: rate["holdout"] - rate[action] for action in ACTIONS if action != "holdout"}


def raw_tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Orders and contacts of all shops; the contacts of each shop are one campaign."""
    orders, touches = [], []
    for seed in range(SEEDS):
        people = lives(seed, CUSTOMERS)
        orders.append(people.orders[["customer", "day"]].rename(columns={"customer": "customer_id"}).assign(seed=seed))
        touches.append(people.touches.rename(columns={"customer": "customer_id"}).assign(seed=seed))
    orders, touches = (
        table.assign(
            customer_id=table.seed.astype(str) + "-" + table.customer_id.astype(str),
            moment=START + pd.to_timedelta((table.day * 86400).astype("int64"), "s"),
        )
        for table in (pd.concat(orders, ignore_index=True), pd.concat(touches, ignore_index=True))
    )
    return (
        pd.DataFrame(
            {
                "order_id": orders.index.astype(str),
                "customer_id": orders.customer_id,
                "ordered_at": orders.moment,
                "amount": 20.0,
            }
        ),
        pd.DataFrame(
            {
                "touch_id": touches.index.astype(str),
                "customer_id": touches.customer_id,
                "campaign_id": "seed " + touches.seed.astype(str),
                "action": np.array(ACTIONS, object)[touches.action],
                "touched_at": touches.moment,
                "propensity": np.array(PROPENSITIES)[touches.action],
                "cost": 1.0,
            }
        ),
    )


def test_at_least_ninety_of_a_hundred_intervals_contain_the_true_uplift(tmp_path, capsys):
    orders, touches = raw_tables()
    shop = Shop(tmp_path / "home").write(orders=orders, campaign_touches=touches)
    day = {"churn__as_of_date": f"{START + pd.Timedelta(days=DAYS):%Y-%m-%d}"}
    shop.dbt("run", "--select", "+int_contact_outcomes", **day)
    with duckdb.connect(shop.home / "churn_radar.duckdb") as connection:
        # an empty table, as results by risk band are not tested here
        connection.sql(
            "create table churn_scores (customer_id varchar, as_of_date date, scored_at timestamp, risk_band varchar)"
        )
    shop.dbt("run", "--select", "retention_experiment_results", **day)
    results = shop.table("retention_experiment_results")
    results = results[(results.segment == "all") & results.campaign_id.str.startswith("seed")]
    lines, truth = [], true_effects()
    for action, rows in results.groupby("action"):
        assert len(rows) == SEEDS
        covered = int(((rows.effect_low <= truth[action]) & (truth[action] <= rows.effect_high)).sum())
        width = (rows.effect_high - rows.effect_low).mean()
        lines.append(
            f"{action}: true effect {truth[action]:.4f}; {covered} of {SEEDS} intervals hold it, mean width {width:.4f}"
        )
        assert covered >= MIN_COVERED, lines
    with capsys.disabled():
        print("\n" + "\n".join(lines))
