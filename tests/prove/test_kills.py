"""Builds killed at random moments (make prove): readers never notice, and the next build completes."""

import random
import signal
import subprocess
import time

import pandas as pd
from shop import BIN, Shop

KILLS = 20


def test_builds_killed_at_random_moments(tmp_path, capsys):
    shop = Shop(tmp_path / "home")
    shop.run("churn-radar", "load-example", "complete-journey")
    started = time.monotonic()
    shop.run("dbt", "build", "--exclude-resource-type", "unit_test")
    seconds = time.monotonic() - started
    undisturbed = shop.scores()
    moments = [random.Random(seed).uniform(0.5, seconds) for seed in range(KILLS)]
    for moment in moments:
        build = subprocess.Popen(
            # training anew each time, so that the registry is written to as well
            [BIN / "dbt", "build", "--exclude-resource-type", "unit_test", "--vars", "churn__train: always"],
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
    shop.run("dbt", "build", "--exclude-resource-type", "unit_test")
    final = shop.scores()
    by_first = final[final.model_version == undisturbed.model_version.iloc[0]].reset_index(drop=True)
    pd.testing.assert_frame_equal(undisturbed.drop(columns="scored_at"), by_first.drop(columns="scored_at"))
    with capsys.disabled():
        print(f"\n{KILLS} builds killed between {min(moments):.1f} and {max(moments):.1f} s of {seconds:.1f} s")
