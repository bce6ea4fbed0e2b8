"""The project as a dbt package: integration_tests is a shop's own project, with models, names and a profile."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import pandas as pd
import pytest
import yaml
from arrivals import TABLES, TEXT_TABLES, differences, save
from shop import PROJECT, Shop

PACKAGE = PROJECT / "integration_tests"
WITHOUT_TESTS = ("build", "--exclude-resource-type", "test")


@dataclass
class Host(Shop):
    """The shop's own project, with churn_radar as a package in the schema analytics_churn."""

    project: Path = PACKAGE

    @property
    def warehouse(self) -> Path:
        return self.home / "warehouse.duckdb"

    @property
    def schema(self) -> str:
        return "analytics_churn"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Host:
    """A project with the package installed and the shops' tables in its warehouse."""
    shop = Host(tmp_path_factory.mktemp("package") / "home")
    shop.home.mkdir()
    shop.run("dbt", "deps")
    shop.run("dbt", "run-operation", "make_shops")
    return shop


@pytest.fixture
def package(installed, tmp_path) -> Host:
    """A separate warehouse with the shops' tables."""
    shop = replace(installed, home=tmp_path / "home")
    shop.home.mkdir()
    shop.warehouse.write_bytes(installed.warehouse.read_bytes())
    return shop


def variables(name: str, **others: object) -> dict:
    return yaml.safe_load((PACKAGE / "shops" / f"{name}.yml").read_text()) | others


def build(shop: Shop, name: str, *arguments: str, **others: object) -> str:
    """Build a shop with its tests, and check that all pass without warnings."""
    done = shop.dbt("build", *arguments, **variables(name, **others))
    assert done.stderr == ""
    assert "WARN=0 ERROR=0 SKIP=0" in done.stdout
    return done.stdout


def query(shop: Shop, text: str) -> list[tuple]:
    with duckdb.connect(shop.warehouse, read_only=True) as connection:
        connection.execute("set search_path = 'analytics_churn,analytics'")
        return connection.sql(text).fetchall()


def test_a_shop_without_orders_is_built_empty_and_then_its_daily_builds_equal_a_full_build(package, tmp_path):
    build(package, "opening", "--target-path", str(package.home / "elsewhere"))
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
    ):
        assert query(package, f"select count(*) from {table}") == [(0,)], table
    assert pd.read_parquet(package.published).empty
    noted = (package.home / "dbt_target.txt").read_text()
    assert noted == str(package.home / "elsewhere"), "where later processes find the manifest of the host project"
    # then its first orders arrive, here those of the bakery, with default vars
    package.dbt(*WITHOUT_TESTS, **variables("bakery", churn__as_of_date="2024-10-15"))
    build(package, "bakery", churn__as_of_date="2024-10-16")
    assert query(package, "select status, count(*) > 10 from analytics_churn.stg_orders group by 1 order by 1") == [
        ("cancelled", True),
        ("completed", True),
        ("returned", True),
    ]
    parents = json.loads((package.home / "target" / "manifest.json").read_text())["parent_map"]
    assert "model.shop.fct_orders" in parents["model.churn_radar.stg_orders"]
    tables = (*TABLES, *TEXT_TABLES)
    daily = save(package, tmp_path / "daily", tables)
    scores = package.scores()
    assert sorted(scores.as_of_date.astype(str).unique()) == ["2024-10-15", "2024-10-16"]
    assert scores.as_of_date.value_counts().min() > 50
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


def built(shop: Host, schema: str) -> set[str]:
    """Names of the tables and views in a schema."""
    return {
        name
        for (name,) in query(shop, f"select table_name from information_schema.tables where table_schema = '{schema}'")
    }


OWN = {"paid_states", "stg_orders", "fct_orders", "revenue", "all_days"}
SEEDS = {"aspect_descriptions", "retention_actions_catalogue"}


def test_the_shops_own_commands_need_neither_raw_tables_nor_the_plugin(package):
    own = ("--target", "unchanged")
    # a raw table that is a model of the shop's, not built yet
    package.dbt("build", "--select", "package:shop", *own, churn__orders_source="analytics.fct_orders")
    for command in (("run", "--select", "finance"), ("test", "--select", "finance"), ("seed",), ("docs", "generate")):
        package.run("dbt", *command, *own)
    assert (built(package, "analytics"), built(package, "analytics_churn")) == (OWN, SEEDS)
    done = package.run("dbt", "run", *own, check=False)
    assert done.returncode != 0
    assert done.stdout.count("Cannot open file") == 0
    assert "target unchanged of profile shop lacks the plugin; add to it: plugins: [{module: inference" in done.stdout


def test_names_that_dbt_would_confuse_are_refused(package, tmp_path):
    """Without the flag, dbt lets our tests of stg_orders read the shop's model of that name."""
    project = shutil.copytree(PACKAGE, tmp_path / "shop", symlinks=True)
    text = (project / "dbt_project.yml").read_text()
    (project / "dbt_project.yml").write_text(text.replace("before_root: true", "before_root: false"))
    shop = replace(package, project=project)
    shop.run("dbt", *WITHOUT_TESTS, "--select", "package:shop")
    done = shop.run("dbt", "build", check=False)
    assert done.returncode != 0
    assert "model.shop.stg_orders has the name of a node of churn_radar, and " in done.stdout
    assert "flags: {require_ref_searches_node_package_before_root: true}" in done.stdout
    assert built(package, "analytics_churn") == set()


def test_unknown_vars_stop_everything_and_a_broken_raw_table_only_what_reads_it(package):
    columns = variables("bakery")["churn__orders_columns"] | {"customer_id": "clint"}
    done = package.dbt("build", check=False, **variables("bakery", churn__trian="auto"))
    assert done.returncode != 0
    assert "churn__trian: no such var; did you mean churn__train?" in done.stdout
    assert built(package, "analytics") == set()
    done = package.dbt("build", check=False, **variables("bakery", churn__orders_columns=columns))
    assert 'churn__orders_columns.customer_id: "warehouse"."analytics"."fct_orders" has no column clint' in done.stdout
    assert "ERROR=1" in done.stdout
    assert (built(package, "analytics"), built(package, "analytics_churn")) == (OWN, SEEDS)


def test_commands_of_dbt_other_than_build(package):
    shop = variables("bakery", churn__transformer=False)
    package.dbt(*WITHOUT_TESTS, "--empty", **shop)
    assert query(package, "select count(*) from churn_scores") == [(0,)]
    missing = shop | {"churn__orders_source": "bakery.later", "churn__enabled": []}
    done = package.dbt(*WITHOUT_TESTS, "--full-refresh", check=False, **missing)
    assert "orders: no such table; expected the table bakery.later" in done.stdout
    with duckdb.connect(package.warehouse) as connection:
        connection.execute("create table bakery.later as from analytics.fct_orders")
    package.run("dbt", "retry")
    assert query(package, "select count(*) > 100 from churn_labels") == [(True,)]
    done = package.dbt("source", "freshness", **missing)
    assert "WARN freshness of churn_raw.orders" in done.stdout
