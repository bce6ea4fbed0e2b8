"""The project as a dbt package: integration_tests installs it and builds shops with other tables."""

import json
from dataclasses import replace

import duckdb
import pandas as pd
import pytest
import yaml
from arrivals import TABLES, TEXT_TABLES, differences, save
from shop import PROJECT, Shop

PACKAGE = PROJECT / "integration_tests"
WITHOUT_TESTS = ("build", "--exclude-resource-type", "test", "--exclude-resource-type", "unit_test")


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Shop:
    """A project with the package installed and the shops' tables in its warehouse."""
    shop = Shop(tmp_path_factory.mktemp("package") / "home", PACKAGE, {"DBT_PROFILES_DIR": str(PROJECT)})
    shop.run("dbt", "deps")
    shop.run("dbt", "run-operation", "make_shops")
    return shop


@pytest.fixture
def package(installed, tmp_path) -> Shop:
    """A separate warehouse with the shops' tables."""
    shop = replace(installed, home=tmp_path / "home")
    shop.home.mkdir()
    (shop.home / "churn_radar.duckdb").write_bytes((installed.home / "churn_radar.duckdb").read_bytes())
    return shop


def variables(name: str, **others: object) -> dict:
    return yaml.safe_load((PACKAGE / "shops" / f"{name}.yml").read_text()) | others


def build(shop: Shop, name: str, *arguments: str, **others: object) -> str:
    """Build a shop with its tests, and check that all pass without warnings."""
    done = shop.dbt("build", "--exclude-resource-type", "unit_test", *arguments, **variables(name, **others))
    assert done.stderr == ""
    assert "WARN=0 ERROR=0 SKIP=0" in done.stdout
    return done.stdout


def query(shop: Shop, text: str) -> list[tuple]:
    with duckdb.connect(shop.home / "churn_radar.duckdb", read_only=True) as connection:
        return connection.sql(text).fetchall()


def test_a_shop_without_orders_is_built_empty(package):
    build(package, "opening")
    for table in (
        "churn_scores",
        "newcomer_scores",
        "churn_model",
        "order_features",
        "churn_labels",
        "retention_actions",
        "retention_experiment_results",
        "retention_policy_values",
        "retention_recommendations",
        "metric_days",
    ):
        assert query(package, f"select count(*) from {table}") == [(0,)], table
    assert pd.read_parquet(package.published).empty
    noted = (package.home / "dbt_target.txt").read_text()
    assert noted == str(package.home / "target"), "where later processes find the manifest of the host project"
    # then its first orders arrive, here those of the bakery
    package.dbt(*WITHOUT_TESTS, **variables("bakery"))
    assert query(package, "select count(*) > 50 from churn_scores") == [(True,)]


def test_three_daily_builds_with_default_vars_equal_a_full_build(package, tmp_path):
    for day in ("2024-10-14", "2024-10-15"):
        package.dbt(*WITHOUT_TESTS, **variables("bakery", churn__as_of_date=day))
    build(package, "bakery", churn__as_of_date="2024-10-16")
    assert query(package, "select status, count(*) > 10 from stg_orders group by 1 order by 1") == [
        ("cancelled", True),
        ("completed", True),
        ("returned", True),
    ]
    tables = (*TABLES, *TEXT_TABLES)
    daily = save(package, tmp_path / "daily", tables)
    scores = package.scores()
    assert sorted(scores.as_of_date.astype(str).unique()) == ["2024-10-14", "2024-10-15", "2024-10-16"]
    package.dbt(*WITHOUT_TESTS, "--full-refresh", **variables("bakery", churn__as_of_date="2024-10-16"))
    assert differences(daily, save(package, tmp_path / "anew", tables), tables) == {}
    again = package.scores().drop(columns="scored_at")
    key = ["as_of_date", "customer_id"]
    pd.testing.assert_frame_equal(
        again.sort_values(key, ignore_index=True),
        scores.drop(columns="scored_at").sort_values(key, ignore_index=True),
    )


def test_a_shop_that_differs_in_every_var_is_built(package):
    defaults = yaml.safe_load((PROJECT / "dbt_project.yml").read_text())["vars"]
    flipped = variables("outfitter")
    same = {name for name, value in defaults.items() if flipped.get(name, value) == value}
    assert not same - {"churn__pseudonymise"}, "vars that are not flipped"
    build(package, "outfitter")
    ((customers, min_orders, words),) = query(
        package,
        "select count(*), min(orders_total), sum(reviews_total) from churn_scores join order_features "
        "using (customer_id, as_of_date) join review_features using (customer_id, as_of_date)",
    )
    assert customers > 50
    assert query(package, "select distinct attributes[1] from customer_features order by 1") == [
        ("tier=basic",),
        ("tier=gold",),
    ]
    (config,) = (package.home / "mlflow").rglob("model/config.json")
    assert {"attribute_tier=gold", "attribute_tier=basic", "attribute_age"} <= set(
        json.loads(config.read_text())["features"]
    )
    assert min_orders >= 2
    assert words > 20
    assert query(
        package,
        "select count(*) filter (action = 'service_call') <= 3, sum(contact_cost) <= 50, bool_or(action = 'holdout'), "
        "count(*) from retention_actions",
    ) == [(True, True, True, customers)]
    # without order_items the table is empty and has the contract's types
    assert query(package, "select count(*) from retention_recommendations") == [(0,)]


def test_unknown_tables_and_columns_stop_the_build_before_any_model(package):
    columns = variables("bakery")["churn__orders_columns"] | {"customer_id": "clint"}
    done = package.dbt("build", check=False, **variables("bakery", churn__orders_columns=columns, churn__trian="auto"))
    assert done.returncode != 0
    assert "churn__trian: no such var; did you mean churn__train?" in done.stdout
    done = package.dbt("build", check=False, **variables("bakery", churn__orders_columns=columns))
    assert "churn__orders_columns.customer_id: bakery.receipts has no column clint; it has nr, client" in done.stdout
    assert query(package, "select count(*) from information_schema.tables where table_schema = 'main'") == [(0,)]
