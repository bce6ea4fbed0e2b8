"""One shop in DuckDB and PostgreSQL: features, labels, scores and values from Feast are the same."""

import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Thread

import duckdb
import pandas as pd
import psycopg
import pytest
from arrivals import arrived
from psycopg.conninfo import make_conninfo
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
    raw_tables,
)

from inference.pseudonyms import ERASED_CUSTOMERS
from inference.warehouse import postgres
from inference.warehouse.extensions import extension_settings


@dataclass
class PostgresShop(DuckDBShop):
    """A shop whose warehouse is PostgreSQL."""

    @property
    def place(self) -> dict[str, str]:
        keys = ("host", "port", "user")
        return {"dbname": self.settings["PGDATABASE"], **{key: self.settings[f"PG{key.upper()}"] for key in keys}}

    def query(self, text: str) -> pd.DataFrame:
        with postgres.connect(self.place) as connection:
            return duckdb.from_arrow(postgres.query(connection, text)).df()

    def load(self, schema: str, **files: Path) -> None:
        """Make tables of a schema from Parquet files."""
        with duckdb.connect(config=extension_settings(self.home)) as connection:
            connection.execute(f"attach '{make_conninfo(**self.place)}' as server (type postgres)")
            connection.execute(f"create schema if not exists server.{schema}")
            for table, file in files.items():
                connection.execute(f"drop table if exists server.{schema}.{table}")
                connection.execute(f"create table server.{schema}.{table} as from '{file}'")


class Report(Thread):
    """Reads the newest scores again and again, as a BI tool would while a build runs."""

    def __init__(self, place: dict[str, str]) -> None:
        super().__init__(daemon=True)
        self.place, self.counts, self.longest, self.stopped = place, [], 0.0, Event()

    def run(self) -> None:
        with psycopg.connect(**self.place, autocommit=True) as connection:
            while not self.stopped.wait(0.02):
                begun = time.monotonic()
                self.counts += connection.execute("select count(*) from churn_radar.latest_scores").fetchone()
                self.longest = max(self.longest, time.monotonic() - begun)

    def stop(self) -> None:
        self.stopped.set()
        self.join()


@pytest.fixture(scope="module")
def shops(postgres_server, tmp_path_factory) -> tuple[DuckDBShop, PostgresShop, list[str], Report]:
    """One shop in both warehouses, built on two days; dbt's output, and a report that read during the second build."""
    folder, tables = tmp_path_factory.mktemp("postgres"), raw_tables()
    ours, theirs = DuckDBShop(folder / "duckdb"), PostgresShop(folder / "postgres", settings=postgres_server)
    outputs = []
    report = Report(theirs.place)
    for day in DAYS:
        known = arrived(tables, pd.Timestamp(day))
        variables = {"churn__as_of_date": day, "churn__explore_share": 0.5}  # so that some get a recommendation
        ours.write(**known).dbt("build", *WITHOUT_TESTS, **variables)
        if day == DAYS[0]:  # both warehouses use the same model and text embeddings
            for name in ("mlflow", "embeddings"):
                shutil.copytree(ours.home / name, theirs.home / name)
            shutil.copy(ours.home / "salt", theirs.home / "salt")
        theirs.write(**known).load("raw", **{name: theirs.raw / f"{name}.parquet" for name in known})
        shutil.rmtree(theirs.raw)
        tests = () if day == DAYS[0] else WITHOUT_TESTS
        if day == DAYS[1]:
            report.start()
        outputs.append(theirs.dbt("build", *tests, **variables, churn__train="never").stdout)
        if day == DAYS[0]:
            accept_order(ours.home)
            erase_customer(ours.home, "c2")
            shutil.copytree(ours.home / "events", theirs.home / "events")
            shutil.copy(ours.home / ERASED_CUSTOMERS, theirs.home)
    report.stop()
    return ours, theirs, outputs, report


def test_a_build_passes_all_tests_of_the_project(shops):
    outputs = shops[2]
    assert "WARN=0 ERROR=0 SKIP=0" in outputs[0]
    assert not any(word in text.lower() for text in outputs for word in ("warning", "deprecat"))


def test_a_report_reads_complete_tables_while_a_build_runs(shops):
    scores = shops[1].query("select as_of_date from latest_scores")
    report = shops[3]
    assert set(report.counts) == {int((scores.as_of_date < DAYS[1]).sum()), len(scores)}
    assert report.longest < 5


@pytest.mark.parametrize(("name", "key"), TABLES)
def test_two_days_of_builds_make_the_same_table(shops, name, key):
    check_table(shops[:2], name, key)


def test_scores_are_the_same_and_published_as_parquet(shops):
    check_scores(shops[:2])


def test_feature_files_have_the_same_columns_and_types(shops):
    check_feature_files(shops[:2])


def test_accepted_events_have_rows_and_erased_customers_do_not(shops):
    check_accepted_and_erased(shops[:2])


def test_no_temporary_tables_are_left_between_builds(shops):
    assert shops[1].query("select tablename from pg_tables where tablename like '%\\_\\_dbt%'").empty


def test_an_unreadable_value_is_named(shops, tmp_path):
    rows = pd.DataFrame({"order_id": ["1"], "customer_id": ["a"], "ordered_at": ["yesterday"], "amount": ["x"]})
    settings = {**shops[1].settings, "CHURN_POSTGRES_SCHEMA": "bad"}
    bad = replace(shops[1], home=tmp_path / "home", settings=settings).write(orders=rows)
    bad.load("bad", orders=bad.raw / "orders.parquet")
    output = bad.dbt("build", "--select", "stg_orders", check=False, churn__orders_source="bad.orders").stdout
    assert "orders.ordered_at: 1 values cannot be read as timestamp, for example 'yesterday'" in output
    assert "orders.amount: 1 values cannot be read as double, for example 'x'" in output
    assert "no such var" not in output


def test_feast_returns_the_same_values_offline_and_online(shops):
    served = replace(shops[1], settings={**shops[1].settings, "CHURN_ONLINE_SCHEMA": "churn_online"})
    check_feast((shops[0], served), ["postgres", "postgres"])
