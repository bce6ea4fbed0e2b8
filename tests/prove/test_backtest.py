"""The backtest of real purchases has the ranking and calibration that the documents name (make prove)."""

import json

from shop import Shop


def test_the_backtest_has_the_documented_ranking_and_calibration(tmp_path):
    shop = Shop(tmp_path / "home")
    shop.run("churn-radar", "load-example", "complete-journey")
    without = ("--exclude-resource-type", "test", "--exclude-resource-type", "unit_test")
    # without the transformer, which is not selected here (benchmarks/members.py)
    shop.dbt("build", *without, churn__transformer=False)
    options = ("--json", "--vars", "{churn__transformer: false}")
    done = shop.run("churn-radar", "backtest", "--as-of", "2017-12-01", *options)
    (result,) = json.loads(done.stdout)
    assert result["model"]["n_customers"] == 2323
    assert result["model"]["auroc"] >= 0.87
    assert result["model"]["ece"] <= 0.02
    assert abs(result["model"]["level_error"]) <= 0.02
    assert 0.79 <= result["recency"]["auroc"] <= 0.81
