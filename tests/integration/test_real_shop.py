"""One end-to-end run on real purchases."""

import json
import re
import signal
import subprocess
import time

import duckdb
import numpy as np
import pandas as pd
import pytest
from shop import BIN, PROJECT, Shop


def feature_files(shop: Shop) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (shop.home / "features").glob("*.parquet")}


def test_every_eligible_household_is_scored_with_a_reason(real_shop):
    shop, _ = real_shop
    scores = shop.scores()
    orders = pd.read_parquet(shop.raw / "orders.parquet")
    newest = orders.ordered_at.max().normalize() + pd.Timedelta(days=1)
    active = orders[orders.ordered_at >= newest - pd.Timedelta(days=90)].customer_id.nunique()
    assert len(scores) == active
    assert scores.churn_probability.between(0, 1).all()
    assert scores.reason_1.notna().all()
    assert set(scores.risk_band) <= {"low", "medium", "high", "critical"}
    np.testing.assert_allclose(scores.value_at_risk, scores.churn_probability * scores.expected_spend)


def test_first_reasons_contain_the_customers_own_values(real_shop):
    shop, _ = real_shop
    features = shop.table("order_features").set_index(["customer_id", "as_of_date"])
    scores = shop.scores().sort_values("churn_probability", ascending=False).head(20)
    matched = 0
    for row in scores.itertuples():
        match = re.match(r"last order (\d+) days? ago", row.reason_1)
        if match:
            own = features.loc[(row.customer_id, pd.Timestamp(row.as_of_date)), "days_since_last_order"]
            assert int(match.group(1)) == own
            matched += 1
    assert matched >= 10


def test_dbt_and_feast_print_no_warnings(real_shop):
    _, runs = real_shop
    for done in runs:
        assert done.stderr == ""
        assert not re.search("deprecat|warning", done.stdout, re.IGNORECASE)
    assert "WARN=0 ERROR=0" in runs[0].stdout


def test_a_second_build_changes_nothing_but_scored_at(real_shop):
    shop, _ = real_shop
    before, features = shop.scores(), feature_files(shop)
    shop.run("dbt", "build", "--exclude-resource-type", "unit_test", "--exclude-resource-type", "test")
    after = shop.scores()
    assert len(features) == 14
    assert feature_files(shop) == features
    assert (after.scored_at > before.scored_at.max()).all()
    pd.testing.assert_frame_equal(before.drop(columns="scored_at"), after.drop(columns="scored_at"))


def test_online_values_equal_offline_values_in_every_feature_view(real_shop):
    shop, _ = real_shop
    # in its own process, because the feature store reads the environment
    done = subprocess.run(
        [BIN / "python", PROJECT / "tests" / "integration" / "compare_online_offline.py", "1000"],
        cwd=PROJECT,
        env=shop.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["customers"] == 1000
    assert figures["feature_views"] == 2
    assert figures["features"] > 100
    assert figures["different"] == []


def test_every_published_file_has_an_exposure(real_shop):
    shop, _ = real_shop
    manifest = json.loads((shop.home / "target" / "manifest.json").read_text())
    exposed = set()
    for exposure in manifest["exposures"].values():
        assert exposure["owner"]["name"]
        exposed.update(exposure["config"]["meta"].get("files", []))
        exposed.update(
            manifest["nodes"][node]["alias"] + ".parquet"
            for node in exposure["depends_on"]["nodes"]
            if node.startswith("model.")
        )
    published = {file.name for file in (shop.home / "published").iterdir()}
    assert {"churn_scores.parquet", "newcomer_scores.parquet", "churn_feature_drift.parquet"} <= published
    assert published <= exposed


def test_metrics_equal_aggregates_of_the_scores(real_shop):
    shop, _ = real_shop
    manifest = json.loads((shop.home / "target" / "semantic_manifest.json").read_text())
    measured = {}
    with duckdb.connect(shop.home / "churn_radar.duckdb", read_only=True) as connection:
        for model in manifest["semantic_models"]:
            for measure in model["measures"]:
                newest = measure["non_additive_dimension"]
                assert newest["window_choice"] == "max"
                how = {"average": "avg"}.get(measure["agg"], measure["agg"])
                relation, column = model["node_relation"]["relation_name"], measure["expr"] or measure["name"]
                measured[measure["name"]] = connection.sql(
                    f"select {how}({column}) from {relation} "
                    f"where {newest['name']} = (select max({newest['name']}) from {relation})"
                ).fetchone()[0]
    values = {metric["name"]: measured[metric["type_params"]["measure"]["name"]] for metric in manifest["metrics"]}
    scores, actions = shop.scores(), pd.read_parquet(shop.published.with_name("retention_actions.parquet"))
    scores = scores[scores.as_of_date == scores.as_of_date.max()]
    assert values == {
        "churn_at_risk_customers": scores.risk_band.isin(["high", "critical"]).sum(),
        "churn_mean_risk": pytest.approx(scores.churn_probability.mean()),
        "churn_value_at_risk": pytest.approx(scores.value_at_risk.sum()),
        "churn_retained_value": pytest.approx(actions.expected_profit.sum()),
    }


def test_every_scored_customer_has_a_decision(real_shop):
    shop, _ = real_shop
    scores, actions = shop.scores(), pd.read_parquet(shop.published.with_name("retention_actions.parquet"))
    newest = scores[scores.as_of_date == scores.as_of_date.max()]
    assert sorted(actions.customer_id) == sorted(newest.customer_id)
    contacts = actions[~actions.action.isin(["none", "holdout"])]
    assert {"coupon", "recommendation", "service_call", "none", "holdout"} == set(actions.action)
    # its campaigns have no propensities, so no effects are learned from them
    assert set(contacts.effect_source) == {"prior"}
    sure = contacts[~contacts.is_exploration]
    assert (sure.expected_profit > 0).all()
    assert (sure.expected_profit - (sure.effect * sure.value - sure.contact_cost)).abs().max() < 1e-9
    assert abs(actions.is_holdout.mean() - 0.1) < 3 * (0.09 / len(actions)) ** 0.5
    assert actions.reason.str.len().min() > 10


def test_recommended_products_were_not_bought_recently(real_shop):
    shop, _ = real_shop
    offered = pd.read_parquet(shop.published.with_name("retention_recommendations.parquet"))
    newest = shop.scores().as_of_date.max()
    actions = pd.read_parquet(shop.published.with_name("retention_actions.parquet"))
    assert set(offered.customer_id) == set(actions[actions.action == "recommendation"].customer_id) != set()
    assert set(offered.as_of_date) == {newest}
    assert (offered.groupby("customer_id")["rank"].apply(list).map(len) == 5).mean() > 0.95
    lines = pd.read_parquet(shop.raw / "order_items.parquet").merge(pd.read_parquet(shop.raw / "orders.parquet"))
    lines["days_ago"] = (pd.Timestamp(newest) - lines.ordered_at.dt.normalize()).dt.days
    key = ["customer_id", "product_id"]
    assert offered.merge(lines[lines.days_ago <= 14], on=key).empty
    own = offered[offered.source == "bought_before"].set_index(key).reason
    days = lines.groupby(key).days_ago.agg(["nunique", "min"]).loc[own.index]
    parts = own.str.extract(r"bought (?:(\d+) times|once),.* (\d+) days? ago")
    assert len(own) > 100
    assert (parts[0].fillna(1).astype(int) == days["nunique"]).all()
    assert (parts[1].astype(int) == days["min"]).all()


def test_labels_agree_with_their_audit(real_shop):
    shop, _ = real_shop
    with duckdb.connect(shop.home / "churn_radar.duckdb", read_only=True) as connection:
        rows = connection.sql(
            """
            select labels.churned, audit.status, count(*) as n
            from churn_labels as labels
            join churn_label_audit as audit using (customer_id, as_of_date)
            group by all
            """
        ).fetchall()
        labelled = connection.sql("select count(*) from churn_labels").fetchall()[0][0]
    agreed = {(1, "churned"), (0, "retained"), (None, "censored")}
    assert {(churned, status) for churned, status, _ in rows} == agreed
    assert sum(n for *_, n in rows) == labelled


def test_a_killed_build_leaves_the_published_scores_readable_and_complete(real_shop):
    shop, _ = real_shop
    n_customers = len(shop.scores())
    for seconds in (4, 14):
        build = subprocess.Popen(
            [BIN / "dbt", "build", "--exclude-resource-type", "unit_test"],
            cwd=shop.project,
            env=shop.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(seconds)
        build.send_signal(signal.SIGKILL)
        build.wait()
        assert len(shop.scores()) == n_customers


def test_the_champion_ranks_and_is_calibrated_on_later_snapshots(real_shop):
    (champion,) = real_shop[0].table("churn_model").to_dict("records")
    assert champion["validation_auroc"] >= 0.86
    assert champion["validation_ece"] <= 0.02
    assert abs(champion["level_error"]) <= 0.02


def test_searching_a_shop_without_texts_is_an_error(real_shop):
    done = real_shop[0].run("churn-radar", "similar", "parcel came late", check=False)
    assert done.returncode == 1
    assert done.stderr == "churn-radar: the shop has no review or ticket with words; expected at least one\n"


def test_a_stored_score_is_recomputed_from_its_lineage(real_shop):
    shop, _ = real_shop
    riskiest = shop.scores().nlargest(1, "churn_probability").iloc[0]
    output = shop.run(
        "churn-radar", "explain", riskiest.customer_id, "--as-of", f"{riskiest.as_of_date:%Y-%m-%d}"
    ).stdout
    stored, again, difference = re.search(r"churn_probability\W+([\d.]+)\W+([\d.]+)\W+([\d.e+-]+)", output).groups()
    assert stored == again == f"{riskiest.churn_probability:.6f}"
    assert float(difference) < 1e-9
    assert riskiest.reason_1.split(",")[0] in output
    assert "days_since_last_order" in output
    never = shop.run("churn-radar", "explain", riskiest.customer_id, "--as-of", "2016-01-01", check=False)
    assert never.returncode == 1
    assert "has no score as of 2016-01-01; the newest are of 20" in never.stderr


def test_a_restored_home_serves_and_explains_and_leaves_the_first_one_alone(real_shop, tmp_path):
    shop, _ = real_shop
    shop.run("churn-radar", "backup", str(tmp_path / "backup"))
    before = {file: file.read_bytes() for file in shop.home.rglob("*") if file.is_file()}
    restored = Shop(tmp_path / "restored")
    said = restored.run("churn-radar", "restore", str(tmp_path / "backup")).stdout
    customer, probability = re.search(r"customer (\w+) looked up online: ([\d.]+)$", said.strip()).groups()
    scores = shop.scores().set_index("customer_id")
    assert probability == f"{scores.churn_probability[customer]:.4f}"
    as_of = f"{scores.as_of_date[customer]:%Y-%m-%d}"
    explained = restored.run("churn-radar", "explain", customer, "--as-of", as_of).stdout
    assert explained.count(f"{scores.churn_probability[customer]:.6f}") == 2
    doctor = restored.run("churn-radar", "doctor").stdout
    assert "problem" not in doctor
    assert f"{len(scores):,} customers as of {as_of}" in doctor
    assert {file: file.read_bytes() for file in shop.home.rglob("*") if file.is_file()} == before


def test_an_unknown_customer_is_named(real_shop):
    shop: Shop = real_shop[0]
    done = shop.run("churn-radar", "explain", "nobody", check=False)
    assert done.returncode == 1
    assert done.stderr == "churn-radar: customer nobody has no score in the online store; run feast materialize first\n"


def test_online_values_from_redis_equal_offline_values(real_shop, redis):
    shop, _ = real_shop
    env = {**shop.env, "CHURN_REDIS": redis}
    as_of = f"{shop.scores().as_of_date.max():%Y-%m-%dT%H:%M:%S}"
    for command in (
        [BIN / "feast", "-c", "feature_repo", "apply"],
        [BIN / "feast", "-c", "feature_repo", "materialize", as_of, as_of],
        [BIN / "python", "tests/integration/compare_online_offline.py", "200"],
    ):
        done = subprocess.run(command, cwd=PROJECT, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["customers"] == 200
    assert figures["different"] == []
