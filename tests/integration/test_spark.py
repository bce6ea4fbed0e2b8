"""One shop in DuckDB and Spark: features, labels, scores and values from Feast are the same."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
import sqlglot
from arrivals import arrived
from debian import debian_program
from test_dbt_project import unknown
from warehouses import (
    DAYS,
    TABLES,
    WITHOUT_TESTS,
    DuckDBShop,
    accept_order,
    check_accepted_and_erased,
    check_feast,
    check_feature_files,
    check_scores,
    check_table,
    erase_customer,
    n_different,
    raw_tables,
    rows_by_key,
)

from inference.pseudonyms import ERASED_CUSTOMERS

#: For a small shop most of the time is query planning, compilation and disk I/O.
SMALL = (
    "spark.sql.codegen.wholeStage=false spark.sql.codegen.factoryMode=NO_CODEGEN spark.sql.shuffle.partitions=1 "
    "spark.sql.adaptive.enabled=false spark.sql.constraintPropagation.enabled=false "
    "'spark.driver.extraJavaOptions=-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m "
    "-Dderby.system.durability=test -Dderby.stream.error.file=/dev/null'"
)
#: Java's log and exp differ from C's in the last bits, which changes these tables: one holds packed bytes of numbers,
#: the others depend on a bandit's draws and a comparison with the median value.
BY_THE_BIT = ("model_features", "retention_actions", "retention_recommendations")


@dataclass
class SparkShop(DuckDBShop):
    """A shop whose warehouse is Spark; its tables and views are read from their last Parquet export."""

    def write_tables(self, *names: str) -> None:
        """Write tables and views to Parquet, in one session for all of them."""
        script = Path(__file__).with_name("spark_tables.py")
        command = [sys.executable, str(script), str(self.home / "tables"), *names]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]

    def table(self, name: str) -> pd.DataFrame:
        with duckdb.connect() as connection:
            return connection.sql(f"from '{self.home}/tables/{name}.parquet'").df()


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    """Environment variables of a local Spark."""
    java = debian_program("java", "openjdk-17-jre-headless", "usr/lib/jvm/java-17*/bin")
    return {"JAVA_HOME": str(Path(java).resolve().parents[1]), "CHURN_SPARK_CONF": SMALL}


@pytest.fixture(scope="module")
def shops(settings, tmp_path_factory) -> tuple[DuckDBShop, SparkShop, list[str]]:
    """One shop in both warehouses, built on two days, and dbt's output in Spark."""
    folder, tables = tmp_path_factory.mktemp("spark"), raw_tables()
    ours, theirs = (
        DuckDBShop(folder / "duckdb"),
        SparkShop(folder / "spark", settings={**settings, "DBT_TARGET": "spark"}),
    )
    outputs = []
    for day in DAYS:
        known = arrived(tables, pd.Timestamp(day))
        variables = {"churn__as_of_date": day}
        ours.write(**known).dbt("build", *WITHOUT_TESTS, **variables)
        # both warehouses use the same model and text embeddings
        for name in ("mlflow", "embeddings"):
            shutil.copytree(ours.home / name, theirs.home / name, dirs_exist_ok=True)
        shutil.copy(ours.home / "salt", theirs.home / "salt")
        theirs.write(**known)
        if day == DAYS[0]:
            command = theirs.dbt("build", "--threads", "4", *WITHOUT_TESTS, **variables, churn__train="never")
            accept_order(ours.home)
            erase_customer(ours.home, "c2")
            shutil.copytree(ours.home / "events", theirs.home / "events")
            shutil.copy(ours.home / ERASED_CUSTOMERS, theirs.home)
        else:  # with all data tests
            command = replace(theirs, settings={**theirs.settings, "DBT_EXCLUDE_RESOURCE_TYPES": "unit_test"}).run(
                "churn-radar", "score", "--engine", "spark", "--vars", json.dumps(variables)
            )
        outputs.append(command.stdout)
    theirs.write_tables(*(name for name, _ in TABLES), "churn_scores")
    return ours, theirs, outputs


def test_a_build_passes_all_data_tests(shops):
    _, theirs, outputs = shops
    assert "WARN=0 ERROR=0 SKIP=0" in outputs[1]
    nodes = json.loads((theirs.home / "target" / "manifest.json").read_text())["nodes"].values()
    assert len(re.findall(r" PASS \w", outputs[1])) == sum(node["resource_type"] == "test" for node in nodes) > 100
    assert not any(word in text.lower() for text in outputs for word in ("warning", "deprecat"))


def test_models_are_parsed_in_the_dialect_of_databricks(shops):
    """Except for functions of Databricks that sqlglot does not know."""
    compiled = shops[1].home / "target" / "compiled" / "churn_radar" / "models"
    models = [file.read_text() for file in compiled.rglob("*.sql") if file.parent.suffix != ".yml"]
    assert len(models) > 40
    functions = set().union(*(unknown(sqlglot.parse_one(model, read="databricks")) for model in models))
    assert functions <= {"conv", "timestamp_micros", "weekday", "xxhash64"}


def test_labels_and_features_pass_their_unit_tests(shops):
    selected = "test_type:unit,path:models/labels", "test_type:unit,path:models/features"
    output = shops[1].dbt("test", "--select", *selected, churn__as_of_date=DAYS[1]).stdout
    assert "WARN=0 ERROR=0 SKIP=0" in output
    assert len(re.findall(r" PASS \w", output)) > 25


@pytest.mark.parametrize(("name", "key"), [table for table in TABLES if table[0] not in BY_THE_BIT])
def test_two_days_of_builds_make_the_same_table(shops, name, key):
    check_table(shops[:2], name, key)


def test_packed_features_hold_the_same_numbers(shops):
    key = ["customer_id", "as_of_date"]
    ours, theirs = (rows_by_key(shop.table("model_features"), key) for shop in shops[:2])
    assert ours[key].equals(theirs[key])
    assert ours.packed.map(len).equals(theirs.packed.map(len))
    # numbers come first and agree to 1e-9; the texts and vectors after them are byte-equal
    differing = [(a, b) for a, b in zip(ours.packed, theirs.packed, strict=True) if a != b]
    assert len(differing) < len(ours)
    for a, b in differing:
        end = max(i for i in range(len(a)) if a[i] != b[i]) // 8 * 8 + 8
        np.testing.assert_allclose(np.frombuffer(a[:end]), np.frombuffer(b[:end]), rtol=1e-9)


def test_decisions_without_exploration_are_the_same(shops):
    ours, theirs = (rows_by_key(shop.table("retention_actions"), ["customer_id", "as_of_date"]) for shop in shops[:2])
    for column in ("customer_id", "as_of_date", "is_holdout", "is_exploration"):
        assert ours[column].equals(theirs[column])
    decided = ~ours.is_exploration
    assert decided.sum() > 50
    assert {c: n for c in ours if (n := n_different(c, ours[c][decided], theirs[c][decided]))} == {}
    assert len(shops[1].table("retention_recommendations")) > 0


def test_scores_are_the_same_and_published_as_parquet(shops):
    check_scores(shops[:2])


def test_feature_files_have_the_same_columns_and_types(shops):
    check_feature_files(shops[:2])


def test_accepted_events_have_rows_and_erased_customers_do_not(shops):
    check_accepted_and_erased(shops[:2])


def test_no_temporary_tables_are_left_between_builds(shops):
    warehouse = shops[1].home / "spark" / "warehouse" / "churn_radar.db"
    assert len(list(warehouse.iterdir())) > 40
    assert not list(warehouse.glob("*__dbt*"))
    assert not list((shops[1].home / "spark" / "scratch").iterdir())


def test_the_salt_is_in_no_log_and_no_compiled_sql(shops):
    salt = shops[1].salt
    texts = [file for name in ("logs", "target") for file in (shops[1].home / name).rglob("*") if file.is_file()]
    assert len(texts) > 100
    assert not [file for file in texts if salt in file.read_text(errors="ignore")]


def test_an_unreadable_value_is_named(shops, tmp_path):
    rows = pd.DataFrame({"order_id": ["1"], "customer_id": ["a"], "ordered_at": ["yesterdays"], "amount": ["x"]})
    bad = replace(shops[1], home=tmp_path / "home").write(orders=rows)
    output = bad.dbt("build", "--select", "stg_orders", check=False).stdout
    assert "orders.ordered_at: 1 values cannot be read as timestamp, for example 'yesterdays'" in output
    assert "orders.amount: 1 values cannot be read as double, for example 'x'" in output
    assert "no such var" not in output


def test_spark_encodes_texts_and_scores_for_duckdb_as_well(shops, settings, tmp_path):
    ours = shops[0]
    shutil.copytree(ours.home, tmp_path / "home", ignore=shutil.ignore_patterns("embeddings"))
    shop = DuckDBShop(tmp_path / "home", settings={**settings, "CHURN_ENGINE": "spark"})
    with duckdb.connect(shop.home / "churn_radar.duckdb") as connection:
        connection.execute("delete from review_embeddings")
        connection.execute("delete from churn_predictions")
    variables = {"churn__as_of_date": DAYS[1], "churn__train": "never"}
    output = shop.run("churn-radar", "embed", "--engine", "spark", "--vars", json.dumps(variables)).stdout
    assert "review_embeddings: encoded" in output
    assert "encoded 0 texts" not in output
    shop.dbt("build", "--select", "churn_predictions", *WITHOUT_TESTS, **variables)
    vectors = [rows_by_key(s.table("review_embeddings"), ["text_id"]) for s in (ours, shop)]
    assert len(vectors[0]) > 100
    np.testing.assert_allclose(np.vstack(vectors[0].embedding), np.vstack(vectors[1].embedding), atol=1e-5)
    newest = f"select * from churn_predictions where as_of_date = '{DAYS[1]}'"
    scores = [rows_by_key(s.query(newest), ["customer_id"]) for s in (ours, shop)]
    assert len(scores[0]) > 50
    pd.testing.assert_frame_equal(*scores, rtol=0, atol=1e-6)


def test_feast_returns_the_same_values_offline_and_online(shops):
    check_feast(shops[:2], ["spark", "sqlite"])
