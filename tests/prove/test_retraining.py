"""Automatic retraining (make prove): changes are learned, noise is not promoted, and promotions can be rolled back."""

import numpy as np
import pandas as pd
from shop import Shop, orders

from inference.registry.registry import RegisteredModel
from inference.training.champion import compare
from inference.training.settings import TrainingSettings
from inference.training.train import train

TRIES = 20
START, TURN, END = pd.Timestamp("2023-01-02"), 260, 460


def changing_shop(n_customers: int = 900, seed: int = 0) -> pd.DataFrame:
    """Orders of a shop in which small spenders churn until a day, and big spenders from then on."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n_customers):
        big = rng.random() < 0.5
        gap, day = rng.uniform(6, 14), rng.uniform(0, END)
        while day < END:
            rows.append((f"c{i}", START + pd.Timedelta(days=int(day)), round(rng.gamma(9, 15.0 if big else 3.0), 2)))
            leaves_first = big if day >= TURN else not big
            if rng.random() < (0.25 if leaves_first else 0.02):
                break
            day += rng.exponential(gap)
    return orders(rows)


def test_a_change_is_learned_by_a_build_and_can_be_rolled_back(tmp_path, capsys):
    shop = Shop(tmp_path / "home").write(orders=changing_shop())
    turn, end = (f"{START + pd.Timedelta(days=day):%Y-%m-%d}" for day in (TURN, END))
    build = ("build", "--exclude-resource-type", "unit_test")
    shop.dbt(*build, churn__as_of_date=turn, churn__transformer=False)
    shop.dbt(*build, churn__as_of_date=end, churn__transformer=False, churn__train="never")
    by_the_old = shop.scores().query("as_of_date == @end").reset_index(drop=True)
    output = shop.dbt(*build, churn__as_of_date=end, churn__transformer=False, churn__train="auto").stdout
    assert "churn_model: training, because" in output
    decisions = shop.table("churn_model").sort_values("decided_at", ignore_index=True)
    assert decisions.decision.tolist() == ["promoted", "promoted"]
    assert decisions.is_champion.tolist() == [False, True]
    shop.run("churn-radar", "rollback", "--vars", f"{{churn__as_of_date: {end}, churn__transformer: false}}")
    decisions = shop.table("churn_model").sort_values("decided_at", ignore_index=True)
    assert decisions.decision.tolist() == ["promoted", "promoted", "rolled_back"]
    assert decisions.model_version.tolist() == ["1", "2", "1"]
    again = shop.scores().query("as_of_date == @end and model_version == '1'").reset_index(drop=True)
    pd.testing.assert_frame_equal(
        again.drop(columns="scored_at"), by_the_old.drop(columns="scored_at"), check_exact=True
    )
    with capsys.disabled():
        print("\n" + "\n".join(f"{d.decision} {d.model_version}: {d.reason}" for d in decisions.itertuples()))


def noise(seed: int) -> pd.DataFrame:
    """Ten snapshots of 400 customers with features that are independent of churn."""
    rng = np.random.default_rng(seed)
    dates = pd.date_range("2024-01-01", periods=10, freq="28D")
    n = 400 * len(dates)
    features = {f"x{i}": rng.normal(size=n) for i in range(6)}
    churned = (rng.random(n) < 0.3).astype(float)
    return pd.DataFrame(
        {
            "customer_id": np.tile([f"c{i}" for i in range(400)], len(dates)),
            "as_of_date": np.repeat(dates, 400),
            "churned": churned,
            "horizon_spend": np.where(churned == 1, 0.0, rng.gamma(2, 20, n)),
            "no_order_probability": rng.uniform(0.1, 0.5, n),
            "days_since_last_order": rng.integers(1, 90, n).astype(float),
            "days_since_first_order": rng.integers(90, 400, n).astype(float),
            **features,
        }
    )


def test_noise_is_not_promoted(capsys):
    settings, promoted = TrainingSettings(transformer=None), []
    for seed in range(TRIES):
        rows = noise(seed)
        champion = RegisteredModel("1", train(rows[rows.as_of_date <= "2024-05-20"], 28, settings))
        promote, reason = compare(champion, train(rows, 28, settings, champion.model), rows)
        promoted += [reason] if promote else []
    with capsys.disabled():
        print(f"\n{len(promoted)} of {TRIES} challengers that learned noise were promoted")
    assert promoted == []
