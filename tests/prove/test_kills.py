"""Builds killed at random times (make prove): readers always see complete scores, and the next build completes."""

import os
import random
import signal
import subprocess
import time

import pandas as pd
from arrivals import TABLES, TEXT_TABLES, arrived, differences, save
from shop import BIN, Shop
from test_incremental import shop_with_corrections

KILLS = int(os.environ.get("CHURN_KILLS", "20"))
#: What a killed build started has the lock until it ends.
WAITS = {"CHURN_LOCK_WAIT": "60"}


def test_builds_killed_at_random_times(tmp_path, capsys):
    shop = Shop(tmp_path / "home", settings=WAITS)
    shop.run("churn-radar", "load-example", "complete-journey")
    # without the transformer, whose training would take most kills; test_fine_tuning_kills.py covers it
    build_once = ("build", "--exclude-resource-type", "unit_test")
    started = time.monotonic()
    shop.dbt(*build_once, churn__transformer=False)
    seconds = time.monotonic() - started
    undisturbed = shop.scores()
    moments = [random.Random(seed).uniform(0.5, seconds) for seed in range(KILLS)]
    for moment in moments:
        build = subprocess.Popen(
            # retrains each time, so that the registry is written as well
            [BIN / "dbt", *build_once, "--vars", "{churn__train: always, churn__transformer: false}"],
            cwd=shop.project,
            env=shop.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + moment
        while time.monotonic() < deadline and build.poll() is None:
            assert set(shop.scores().customer_id) == set(undisturbed.customer_id)
            time.sleep(0.05)
        build.send_signal(signal.SIGKILL)
        build.wait()
        assert set(shop.scores().customer_id) == set(undisturbed.customer_id)
    shop.dbt(*build_once, churn__transformer=False)
    final = shop.scores()
    by_first = final[final.model_version == undisturbed.model_version.iloc[0]].reset_index(drop=True)
    pd.testing.assert_frame_equal(undisturbed.drop(columns="scored_at"), by_first.drop(columns="scored_at"))
    with capsys.disabled():
        print(f"\n{KILLS} builds killed between {min(moments):.1f} and {max(moments):.1f} s of {seconds:.1f} s")


def test_builds_of_a_new_day_killed_at_random_times(tmp_path, capsys):
    """After twenty killed builds of a day its tables equal those of an uninterrupted build."""
    tables, scores = shop_with_corrections(), (*TABLES, *TEXT_TABLES, "stg_rejected_rows")
    days = ("2023-09-05", "2023-09-06")
    shops = [Shop(tmp_path / name, settings=WAITS) for name in ("undisturbed", "killed")]
    arguments = ["build", "--exclude-resource-type", "unit_test"]
    for shop in shops:
        shop.write(**arrived(tables, pd.Timestamp(days[0])))
        shop.dbt(*arguments, churn__as_of_date=days[0], churn__transformer=False)
        shop.write(**arrived(tables, pd.Timestamp(days[1])))
    undisturbed, killed = shops
    started = time.monotonic()
    undisturbed.dbt(*arguments, churn__as_of_date=days[1], churn__transformer=False)
    seconds = time.monotonic() - started
    rng, moments = random.Random(1), []
    for _ in range(KILLS):
        build = subprocess.Popen(
            [BIN / "dbt", *arguments, "--vars", f"{{churn__as_of_date: {days[1]}, churn__transformer: false}}"],
            cwd=killed.project,
            env=killed.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        moments.append(rng.uniform(0.5, seconds))
        try:
            build.wait(moments[-1])
        except subprocess.TimeoutExpired:
            build.send_signal(signal.SIGKILL)
        build.wait()
    killed.dbt(*arguments, churn__as_of_date=days[1], churn__transformer=False)
    saved = [save(shop, tmp_path / f"tables of {shop.home.name}", scores) for shop in shops]
    assert differences(*saved, scores) == {}
    scores_of_shops = [
        shop.scores().drop(columns="scored_at").sort_values(["as_of_date", "customer_id"]) for shop in shops
    ]
    pd.testing.assert_frame_equal(scores_of_shops[0].reset_index(drop=True), scores_of_shops[1].reset_index(drop=True))
    with capsys.disabled():
        print(
            f"\n{KILLS} builds of a new day killed between {min(moments):.1f} and {max(moments):.1f} of {seconds:.1f} s"
        )
