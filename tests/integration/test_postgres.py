"""The same shop in DuckDB and in PostgreSQL: the same features, labels and scores, the same answers of Feast."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from arrivals import arrived
from debian import debian_program
from warehouses import (
    DAYS,
    TABLES,
    WITHOUT_TESTS,
    DuckDBShop,
    accept_order,
    alike,
    erase_customer,
    raw_tables,
    rows_by_key,
    unlike,
)

from inference import postgres
from inference.salt import ERASED_CUSTOMERS, set_postgres_salt


@dataclass
class PostgresShop(DuckDBShop):
    """A shop whose warehouse is PostgreSQL."""

    @property
    def dsn(self) -> str:
        place = {key: self.settings[f"PG{key.upper()}"] for key in ("host", "port", "user")}
        return postgres.session_dsn(dbname=self.settings["PGDATABASE"], **place)

    def query(self, text: str) -> pd.DataFrame:
        start = (set_postgres_salt(self.salt), "set search_path to churn_radar")
        with (
            postgres.connect(self.dsn, *start) as connection,
            postgres.read(connection, text) as rows,
            duckdb.connect() as memory,
        ):
            return memory.from_arrow(rows.read_all()).df()


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    """A server of Debian's package that sorts texts as English does; what connects to it, as environment variables."""
    programs = "usr/lib/postgresql/*/bin"
    initdb = debian_program("initdb", "postgresql", programs)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    # root may not run it, and the folder of pytest is root's alone
    folder = Path(tempfile.mkdtemp(prefix="churn-postgres-"))
    user = {"user": "postgres", "cwd": folder} if os.geteuid() == 0 else {"cwd": folder}
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    sorting = ("--encoding", "UTF8", "--locale", "C", "--locale-provider", "icu", "--icu-locale", "en-US")
    made = [initdb, "-D", folder / "data", "-U", "churn", "--auth", "trust", "--no-sync", *sorting]
    subprocess.run(made, check=True, capture_output=True, **user)
    command = [Path(initdb).with_name("postgres"), "-D", folder / "data", "-p", port, "-h", "127.0.0.1", "-k", folder]
    running = subprocess.Popen([*command, "-c", "fsync=off"], stderr=subprocess.DEVNULL, **user)
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", int(port))) == 0:
                break
        time.sleep(0.1)
    yield {"PGHOST": "127.0.0.1", "PGPORT": port, "PGUSER": "churn", "PGDATABASE": "postgres", "DBT_TARGET": "postgres"}
    running.terminate()
    running.wait()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def shops(server, tmp_path_factory) -> tuple[DuckDBShop, PostgresShop, list[str]]:
    """One shop in both warehouses, built on two days, and what dbt said of it in PostgreSQL."""
    folder, tables = tmp_path_factory.mktemp("postgres"), raw_tables()
    ours, theirs = DuckDBShop(folder / "duckdb"), PostgresShop(folder / "postgres", settings=server)
    said = []
    for day in DAYS:
        known = arrived(tables, pd.Timestamp(day))
        variables = {"churn__as_of_date": day, "churn__transformer": False}
        ours.write(**known).dbt("build", *WITHOUT_TESTS, **variables)
        if day == DAYS[0]:  # one model and one reading of texts for both
            for name in ("mlflow", "embeddings"):
                shutil.copytree(ours.home / name, theirs.home / name)
            shutil.copy(ours.home / "salt", theirs.home / "salt")
        theirs.write(**known).run("dbt", "run-operation", "load_raw_tables")
        tests = () if day == DAYS[0] else WITHOUT_TESTS
        said.append(theirs.dbt("build", *tests, **variables, churn__train="never").stdout)
        if day == DAYS[0]:
            accept_order(ours.home)
            erase_customer(ours.home, "c2")
            shutil.copytree(ours.home / "events", theirs.home / "events")
            shutil.copy(ours.home / ERASED_CUSTOMERS, theirs.home)
    return ours, theirs, said


def test_a_build_passes_every_test_of_the_project(shops):
    _, _, said = shops
    assert "WARN=0 ERROR=0 SKIP=0" in said[0]
    assert not any(word in text.lower() for text in said for word in ("warning", "deprecat"))


@pytest.mark.parametrize(("name", "key"), TABLES)
def test_two_days_of_builds_make_the_same_table(shops, name, key):
    ours, theirs = (rows_by_key(shop.table(name), key) for shop in shops[:2])
    assert len(ours) > 0
    assert list(ours) == list(theirs)
    assert len(ours) == len(theirs)
    assert {c: n for c in ours if (n := unlike(c, ours[c], theirs[c]))} == {}


def test_scores_are_the_same_and_published_as_parquet(shops):
    ours, theirs = (rows_by_key(shop.table("churn_scores"), ["customer_id", "as_of_date"]) for shop in shops[:2])
    assert len(ours) > 50
    pd.testing.assert_frame_equal(ours, theirs, rtol=0, atol=1e-6, check_dtype=False)
    published = [pd.read_parquet(shop.published) for shop in shops[:2]]
    assert published[0].dtypes.to_dict() == published[1].dtypes.to_dict()
    assert len(published[0]) == len(published[1]) == len(ours)


def test_files_of_features_have_the_same_columns_and_types(shops):
    ours, theirs = shops[:2]
    files = sorted(file.name for file in (ours.home / "features").glob("*.parquet"))
    assert files == sorted(file.name for file in (theirs.home / "features").glob("*.parquet"))
    with duckdb.connect() as connection:
        for file in files:
            columns = [connection.read_parquet(str(s.home / "features" / file)) for s in (ours, theirs)]
            assert columns[0].columns == columns[1].columns
            assert columns[0].types == columns[1].types


def test_accepted_events_are_rows_and_erased_customers_none(shops):
    for shop in shops[:2]:
        staged = shop.table("stg_orders")
        assert (staged.order_id == "new").sum() == 1
        assert "c1" in set(staged.customer_id)
        assert "c2" not in set(staged.customer_id)


def test_nothing_is_left_between_builds(shops):
    assert shops[1].query("select tablename from pg_tables where tablename like '%\\_\\_dbt%'").empty


def test_a_value_that_cannot_be_read_is_named(shops, tmp_path):
    rows = pd.DataFrame({"order_id": ["1"], "customer_id": ["a"], "ordered_at": ["yesterday"], "amount": ["x"]})
    settings = {**shops[1].settings, "CHURN_POSTGRES_SCHEMA": "bad"}
    bad = replace(shops[1], home=tmp_path / "home", settings=settings).write(orders=rows)
    with postgres.connect(shops[1].dsn) as connection:
        postgres.execute(connection, "create schema bad")
        postgres.load(connection, "bad", "orders", bad.raw / "orders.parquet")
    said = bad.dbt("build", "--select", "stg_orders", check=False, churn__orders_source="bad.orders").stdout
    assert "orders.ordered_at: 1 values cannot be read as timestamp, for example 'yesterday'" in said
    assert "orders.amount: 1 values cannot be read as double, for example 'x'" in said
    assert "no such var" not in said


def test_feast_answers_alike_offline_and_online(shops):
    asked = f"{DAYS[-1]}T00:00:00"
    answers = []
    for shop, settings in ((shops[0], {}), (shops[1], {"CHURN_ONLINE_SCHEMA": "churn_online"})):
        shop = type(shop)(shop.home, settings={**shop.settings, **settings})
        shop.run("feast", "-c", "feature_repo", "apply", "--skip-source-validation")
        shop.run("feast", "-c", "feature_repo", "materialize", asked, asked)
        done = subprocess.run(
            [sys.executable, Path(__file__).with_name("ask_feast.py")],
            env=shop.env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        answers.append(json.loads(done.stdout.splitlines()[-1]))
    ours, theirs = answers
    assert theirs.pop("stores") == ["postgres", "postgres"]
    assert ours.pop("stores") == ["duckdb", "sqlite"]
    assert len(ours["online"]) > 50
    assert alike(ours, theirs)
