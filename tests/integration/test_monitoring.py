"""Drift and performance in SQL equal the same figures in Python, and can warn or fail a build."""

import json
import os
from unittest.mock import patch

import duckdb
import numpy as np
import pandas as pd
import parsing
import pyarrow.parquet as pq
import pytest
from arrivals import build
from receivers import web_server
from shop import PROJECT, Shop, small_shop_orders
from test_notifications import SCHEMA

from inference.evaluation.drift import population_stability
from inference.evaluation.metrics import evaluate
from inference.features.packing import TABLES
from inference.training.drift_reference import SCORE

MONITORING = ("churn_feature_drift", "churn_score_drift", "churn_model_performance")
BUILT = (*MONITORING, "churn_alerts")
#: Two days with closed label windows at the third, then a day before which no orders arrived for five weeks.
DAYS = ("2023-08-07", "2023-08-08", "2023-09-14")
BROKEN = "2023-10-20"
FEATURES = ("order_features", "engagement_features", "campaign_features", "forecast_features", "text_features")


def table(shop: Shop, name: str) -> pd.DataFrame:
    """A table, read in the process that built it and has the file open."""
    with duckdb.connect(shop.home / "churn_radar.duckdb") as connection:
        return connection.sql(f"select * from {name} order by all").df()


def at(day: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of a day."""
    return rows[rows.as_of_date == pd.Timestamp(day)]


def failed_tests(shop: Shop, **variables: object) -> dict[str, str]:
    """Status of the failed tests of monitoring tables, by table."""
    from dbt.cli.main import dbtRunner

    command = ["--quiet", "test", "--exclude-resource-type", "unit_test", "--vars", json.dumps(variables)]
    places = ["--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT), "--select", *MONITORING]
    with patch.dict(os.environ, shop.env), parsing.shared(shop.home, PROJECT, os.environ, ("dbt", *command)):
        done = dbtRunner().invoke([*command, *places])
    tests = [r for r in done.result if r.node.resource_type == "test"]
    assert len(tests) >= 10
    return {r.node.attached_node.split(".")[-1]: str(r.status) for r in tests if r.status != "pass"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Shop:
    """A shop scored on three days by the model of the first."""
    shop, placed = Shop(tmp_path_factory.mktemp("monitored") / "home"), small_shop_orders()
    for day in DAYS:
        shop.write(orders=placed[placed.ordered_at < day])
        build(shop, day, tables=BUILT, churn__transformer=False)
        table(shop, "churn_feature_drift").to_parquet(shop.home / f"{day}.parquet")
    return shop


def outcomes(shop: Shop, as_of_date: pd.Timestamp) -> pd.DataFrame:
    """Scores of a date by customer, with outcomes from raw orders."""
    scores, placed = table(shop, "churn_scores"), small_shop_orders()
    scores = scores[scores.as_of_date == as_of_date].sort_values("customer_id")
    after = placed[placed.ordered_at.between(as_of_date, as_of_date + pd.Timedelta(days=30), inclusive="left")]
    return scores.assign(churned=(~scores.customer_id.isin(after.customer_id)).astype(int))


def test_performance_appears_with_a_closed_window_and_equals_the_evaluation(shop):
    performance = table(shop, "churn_model_performance").set_index("as_of_date")
    assert [str(day.date()) for day in performance.index] == list(DAYS[:2])
    promised = table(shop, "churn_model").iloc[0]
    for as_of_date, row in performance.iterrows():
        known = outcomes(shop, as_of_date)
        figures = evaluate(known.churned.to_numpy(), known.churn_probability.to_numpy(), 0.5)
        assert row.customers == figures.n_customers > 50
        for name in ("churn_rate", "mean_probability", "auroc", "auroc_low", "auroc_high", "log_loss", "ece"):
            assert row[name] == pytest.approx(getattr(figures, name), abs=1e-9), name
        assert row.top_decile_lift == pytest.approx(figures.top_decile_lift, abs=1e-9)
        assert row.promised_auroc == promised.validation_auroc
        assert row.promised_log_loss == promised.validation_log_loss
        assert row.promised_ece == promised.validation_ece
        assert row.auroc_below_promise == pytest.approx(promised.validation_auroc - figures.auroc, abs=1e-9)


def test_performance_in_sql_equals_the_evaluation_for_any_scores(shop):
    sql = (shop.home / "target" / "compiled" / "churn_radar" / "models" / "marts" / f"{MONITORING[2]}.sql").read_text()
    rng = np.random.default_rng(0)
    scored = []
    for number, n in enumerate([2, 3, 5, 9, 14, 15, 25, 35, 45, 95, 100, 1000, *rng.integers(2, 300, 60)]):
        # few decimals, so that there are ties, and some probabilities of 0 and 1
        probability = np.clip(rng.normal(0.5, 0.4, n).round(rng.integers(1, 4)), 0, 1)
        churned = (rng.random(n) < 0.5 * rng.random() + 0.5 * probability).astype(int)
        churned[0], churned[-1] = 0, 1
        customers = [f"c{i:05}" for i in range(n)]
        date = pd.Timestamp("2020-01-01") + pd.Timedelta(days=int(number))
        columns = {"customer_id": customers, "churn_probability": probability, "churned": churned}
        scored.append(pd.DataFrame(columns).assign(as_of_date=date, model_version="1", horizon_days=1))
    every = pd.concat(scored)
    with duckdb.connect() as connection:
        connection.sql("attach ':memory:' as churn_radar; use churn_radar")
        connection.sql(
            "create table churn_scores as "
            "select * replace (as_of_date::date as as_of_date, horizon_days::integer as horizon_days) from every"
        )
        columns = "as_of_date as activity_date, as_of_date as arrived_date, null::date as superseded_date"
        connection.sql(
            f"create table int_customer_orders as select customer_id, 'completed' as status, {columns} "
            "from churn_scores where churned = 0 union all "
            "select distinct customer_id, 'completed', date '2019-01-01', date '2019-01-01', null::date from every"
        )
        connection.sql(
            "create table int_snapshot_dates as select date '2021-01-01' as observed_until, true as is_newest"
        )
        connection.sql("create table churn_model (model_version varchar, validation_auroc double)")
        connection.sql("alter table churn_model add validation_log_loss double")
        connection.sql("alter table churn_model add validation_ece double")
        computed = connection.sql(sql).df().set_index("as_of_date").sort_index()
    assert len(computed) == len(scored)
    names = ["auroc", "auroc_low", "auroc_high", "log_loss", "ece", "top_decile_lift", "churn_rate", "mean_probability"]
    for date, row in computed.iterrows():
        one = every[every.as_of_date == date]
        figures = vars(evaluate(one.churned.to_numpy(), one.churn_probability.to_numpy(), 0.5))
        np.testing.assert_allclose(row[names].astype(float), [figures[name] for name in names], rtol=0, atol=1e-9)


def test_feature_drift_equals_the_psi_in_python(shop):
    drift, reference = table(shop, "churn_feature_drift"), table(shop, "churn_drift_reference")
    newest = at(DAYS[-1], drift).set_index("feature")
    scored = at(DAYS[-1], table(shop, "churn_scores"))[["customer_id"]]
    seen = 0
    for name in (*FEATURES, "review_features", "support_features"):
        rows = at(DAYS[-1], table(shop, name)).merge(scored, on="customer_id")
        for feature in rows.select_dtypes("number"):
            values = rows[feature].to_numpy(dtype=float)
            bins = reference[reference.feature == feature].sort_values("bin")
            row = newest.loc[feature]
            assert row.psi == pytest.approx(population_stability(bins, values), abs=1e-9), feature
            assert row.missing_rate == np.isnan(values).mean()
            assert row.reference_missing_rate == bins.share.iloc[0]
            assert row.customers == len(scored)
            seen += 1
    assert seen == len(newest) > 100
    assert newest.is_read.sum() > 20


def test_a_feature_that_is_always_null_is_stable_and_not_read(shop):
    drift = table(shop, "churn_feature_drift").query("feature == 'reviews_total'")
    assert len(drift) == len(DAYS)
    assert not drift.is_read.any()
    assert (drift.psi == 0).all()
    assert (drift.missing_rate == 1).all()


def test_score_drift_equals_the_psi_in_python(shop):
    drift, reference = table(shop, "churn_score_drift"), table(shop, "churn_drift_reference")
    bins = reference[reference.feature == SCORE].sort_values("bin")
    scores = table(shop, "churn_scores")
    assert [str(day.date()) for day in drift.as_of_date] == list(DAYS)
    for row in drift.itertuples():
        scored_rows = scores[scores.as_of_date == row.as_of_date]
        assert row.psi == pytest.approx(population_stability(bins, scored_rows.churn_probability.to_numpy()), abs=1e-9)
        assert row.mean_probability == pytest.approx(scored_rows.churn_probability.mean())
        assert row.median_probability == pytest.approx(scored_rows.churn_probability.median())
        shares = [getattr(row, f"{band}_share") for band in ("low", "medium", "high", "critical")]
        bands = scored_rows.risk_band.value_counts(normalize=True)
        assert shares == pytest.approx([bands.get(band, 0) for band in ("low", "medium", "high", "critical")])


def test_drift_of_past_dates_does_not_change(shop):
    now = table(shop, "churn_feature_drift")
    for day in DAYS[:2]:
        was = at(day, pd.read_parquet(shop.home / f"{day}.parquet"))
        kept = at(day, now)
        assert len(was) == len(kept) > 100
        pd.testing.assert_frame_equal(was.reset_index(drop=True), kept.reset_index(drop=True))


def crossed(shop: Shop, band: float) -> pd.DataFrame:
    """Customers whose probability reached a band between the last two days, computed in Python."""
    scores = table(shop, "churn_scores")
    before, now = (at(day, scores).set_index("customer_id") for day in DAYS[-2:])
    both = now.join(before.churn_probability, rsuffix="_before", how="inner")
    return both[(both.churn_probability >= band) & (both.churn_probability_before < band)].sort_index()


def test_customers_who_crossed_the_band_are_alerts_and_are_sent(shop):
    alerts = pq.read_table(shop.home / "published" / "churn_alerts.parquet")
    assert alerts.schema.remove_metadata() == SCHEMA
    alerts = alerts.to_pandas().set_index("customer_id").sort_index()
    risks = alerts[alerts.kind == "customer_risk"]
    expected = crossed(shop, 0.7)
    assert len(expected) > 3
    assert list(risks.index) == list(expected.index)
    for name, column in (
        ("current_value", "churn_probability"),
        ("previous_value", "churn_probability_before"),
        ("value_at_risk", "value_at_risk"),
    ):
        assert (risks[name] == expected[column]).all()
    assert set(alerts.kind) == {"customer_risk", "stale_scores"}, "a usual day has no drift"
    with web_server() as receiver:
        done = shop.run("churn-radar", "notify", "--url", receiver.url)
    assert f"{len(alerts)} alerts sent" in done.stdout
    assert receiver.messages[0].title == (
        f"Churn Radar, {DAYS[-1]}: scores too old, {len(expected)} customers at higher risk"
    )


def test_a_usual_day_passes_and_missing_orders_warn_or_fail(shop):
    assert failed_tests(shop, churn__as_of_date=DAYS[-1]) == {}
    build(shop, BROKEN, tables=BUILT, churn__transformer=False)
    drift = at(BROKEN, table(shop, "churn_feature_drift")).query("is_unusual")
    alerts = table(shop, "churn_alerts").query("kind == 'feature_drift'")
    known = set(at(DAYS[-1], table(shop, "churn_feature_drift")).query("is_unusual").feature)
    assert sorted(alerts.subject) == sorted(set(drift[drift.is_read].feature) - known)
    assert len(alerts) > 2
    assert {"orders_30d", "days_since_last_order"} <= set(drift.feature)
    assert failed_tests(shop, churn__as_of_date=BROKEN)["churn_feature_drift"] == "warn"
    failed = failed_tests(shop, churn__as_of_date=BROKEN, churn__monitoring_severity="error")
    assert failed["churn_feature_drift"] == "fail"


def test_every_feature_table_of_the_model_is_packed_and_monitored():
    sql = (PROJECT / "models" / "intermediate" / "int_scored_values.sql").read_text()
    python = (PROJECT / "python_models" / "packed_features.py").read_text()
    for table in (PROJECT / "models" / "features").glob("*.sql"):
        contract = table.with_suffix(".yml").read_text()
        if "churn_features_v1" in contract:
            assert f'dbt.ref("{table.stem}")' in python
            # attributes are strings: there is no number to monitor
            has_numbers = any(f"data_type: {kind}" in contract for kind in ("bigint", "integer", "double"))
            assert (f"ref('{table.stem}')" in sql) == has_numbers == (table.stem in TABLES)
