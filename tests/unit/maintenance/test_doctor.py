import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from feast.protos.feast.core.Registry_pb2 import Registry
from small_home import AS_OF, content
from typer.testing import CliRunner

from inference import cli
from inference.errors import ChurnRadarError
from inference.event_log.sqlite_log import SqliteEventLog
from inference.home_format import FORMAT
from inference.maintenance.doctor import CHECKS, OK, PROBLEM, WARNING, Check, examine

FUTURE = datetime.now(UTC) + timedelta(days=40)


def doctor(name: str) -> Check:
    """The result of one check, which changes nothing."""
    (check,) = [check for check in examine() if check.name == name]
    return check


def test_a_healthy_home_is_left_as_it_is(kept_home):
    before = content(kept_home)
    done = CliRunner().invoke(cli.app, ["doctor"])
    assert done.exit_code == 0
    assert content(kept_home) == before
    assert [check for check in examine() if check.status != OK] == []
    assert all(len(line) <= 100 for line in done.output.splitlines())
    for name in CHECKS:
        assert name in done.output


def test_a_problem_is_an_exit_status(kept_home):
    (kept_home / "salt").write_text("short")
    done = CliRunner().invoke(cli.app, ["doctor"])
    assert str(done.exception) == "problems: salt; the last column of the table says what to do"
    assert isinstance(done.exception, ChurnRadarError)


def test_a_home_that_does_not_exist_is_not_made(churn_home):
    (check,) = examine()
    assert (check.name, check.status) == ("home", PROBLEM)
    assert not churn_home.exists()


def damaged(name: str) -> Callable[[Path], object]:
    return lambda home: next(home.glob(name)).write_bytes(next(home.glob(name)).read_bytes()[:100] + b"\xff" * 4000)


def empty_registry(home: Path) -> None:
    """The definitions are those of no view: readable, and not what the service asks for."""
    file = home / "feast" / "registry.db"
    registry = Registry.FromString(file.read_bytes())
    registry.ClearField("feature_views")
    file.write_bytes(registry.SerializeToString())


def removed(name: str) -> Callable[[Path], object]:
    return lambda home: next(home.glob(name)).unlink()


def republish(home: Path) -> None:
    """Scores of another day and customer are published, and not loaded."""
    for name, time in (("churn_scores", "as_of_date"), ("online_scores", "feature_snapshot_at")):
        file = home / "published" / f"{name}.parquet"
        scores = pd.read_parquet(file)
        scores.loc[0, "customer_id"] = "new"
        scores[time] = pd.Timestamp(AS_OF) + pd.Timedelta(days=1)
        scores.assign(as_of_date=(AS_OF + timedelta(days=1)).date()).to_parquet(file, index=False)


def age(home: Path) -> None:
    file = home / "published" / "churn_scores.parquet"
    pd.read_parquet(file).assign(as_of_date=pd.Timestamp("2024-03-01").date()).to_parquet(file, index=False)


def accept_in_future(home: Path) -> None:
    with closing(sqlite3.connect(home / "events" / "log.db")) as log:
        log.execute("update events set received_at = ?", [FUTURE.isoformat()])
        log.commit()


def lose_log(home: Path) -> None:
    (home / "events" / "log.db").unlink()
    SqliteEventLog().close()


def drop_newest(home: Path) -> None:
    with closing(SqliteEventLog()) as log:
        log.drop("e2", "sent by a test")


def move_log(home: Path) -> None:
    (home / "events" / "log.json").write_text('{"kind": "redis", "log": "5"}')


def kill_writer(home: Path) -> None:
    """A process is killed in a transaction that SQLite has begun to write to the file."""
    code = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('pragma cache_size = 1');"
        "c.execute('create table t (x)'); c.executemany('insert into t values (?)', [['x' * 3000]] * 500);"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, home / "feast" / "online.db"], check=False)
    assert (home / "feast" / "online.db-journal").exists()


PLANTED = {
    "open": ("home", WARNING, lambda home: home.chmod(0o755), "chmod o-rwx"),
    "newer": (
        "version",
        PROBLEM,
        lambda home: (home / "version.json").write_text(f'{{"format": {FORMAT + 1}, "churn_radar": "9.0"}}'),
        "written by Churn Radar 9.0 in format",
    ),
    "no version": ("version", OK, removed("version.json"), "a version before it was noted"),
    "damaged version": ("version", PROBLEM, damaged("version.json"), "cannot be read"),
    "file of the future": (
        "clock",
        PROBLEM,
        lambda home: os.utime(home / "salt", (FUTURE.timestamp(),) * 2),
        "salt written in the future",
    ),
    "no salt": ("salt", WARNING, removed("salt"), "no such file"),
    "open salt": ("salt", WARNING, lambda home: (home / "salt").chmod(0o644), "chmod 600"),
    "no orders": ("raw tables", WARNING, removed("raw/orders.parquet"), "no orders.parquet"),
    "no manifest": ("dbt manifest", WARNING, removed("target/manifest.json"), "run dbt parse"),
    "no warehouse": ("warehouse", WARNING, removed("churn_radar.duckdb"), "no such file"),
    "damaged warehouse": ("warehouse", PROBLEM, damaged("churn_radar.duckdb"), "restore it from a backup"),
    "not published": ("warehouse", WARNING, age, "published are 2024-03-01"),
    "old scores": ("scores", WARNING, age, "120 customers as of 2024-03-01"),
    "no scores": ("scores", WARNING, removed("published/churn_scores.parquet"), "none published yet"),
    "damaged log": ("SQLite", PROBLEM, damaged("events/log.db"), "events/log.db: "),
    "damaged registry": ("SQLite", WARNING, damaged("mlflow/mlflow.db"), "mlflow/mlflow.db: "),
    "no champion known": (
        "model",
        WARNING,
        damaged("mlflow/mlflow.db"),
        "the next command that needs it makes it again",
    ),
    "killed writer": ("SQLite", WARNING, kill_writer, "feast/online.db: a killed process left a write unfinished"),
    "damaged table": (
        "Parquet",
        PROBLEM,
        damaged("published/online_scores.parquet"),
        "published/online_scores.parquet cannot be read",
    ),
    "no model files": (
        "model",
        PROBLEM,
        lambda home: [shutil.rmtree(run) for run in (home / "mlflow" / "artifacts").iterdir()],
        "champion 2 in mlflow/artifacts/",
    ),
    "no champion": ("model", WARNING, lambda home: shutil.rmtree(home / "mlflow"), "no champion"),
    "not applied": ("online store", WARNING, removed("feast/registry.db"), "feast/registry.db is missing or damaged"),
    "damaged definitions": ("online store", WARNING, damaged("feast/registry.db"), "is missing or damaged"),
    "other definitions": ("online store", PROBLEM, empty_registry, "the online store does not answer"),
    "not loaded": ("online store", WARNING, removed("feast/online.db"), "feast/online.db is missing or damaged"),
    "loading": ("online store", WARNING, kill_writer, "is being written, or its writer was killed"),
    "loaded before": (
        "online store",
        WARNING,
        republish,
        "of 120 customers looked up, 1 are missing and 119 older than published",
    ),
    "damaged store": ("online store", WARNING, damaged("feast/online.db"), "is missing or damaged"),
    "lost log": ("event log", PROBLEM, removed("events/log.db"), "is gone, builds have read 2 events of it"),
    "older log": ("event log", PROBLEM, lose_log, "ends at event 0, and builds have read 2"),
    "newest event dropped": ("event log", OK, drop_newest, "1 events, 0 of them since the last build"),
    "log elsewhere": ("event log", PROBLEM, move_log, "expected CHURN_EVENTS=redis, or churn-radar events copy"),
    "event of the future": ("event log", PROBLEM, accept_in_future, "which is to come"),
    "unfinished": ("unfinished", WARNING, lambda home: (home / "salt.1234.partial").touch(), "salt.1234.partial"),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_what_is_wrong_is_found_and_nothing_is_changed(kept_home, planted):
    name, status, plant, expected = PLANTED[planted]
    plant(kept_home)
    before = content(kept_home)
    check = doctor(name)
    assert check.status == status
    assert expected in f"{check.found} {check.todo}"
    assert content(kept_home) == before


def test_a_log_server_that_is_down_is_to_be_started(kept_home, monkeypatch):
    move_log(kept_home)
    monkeypatch.setenv("CHURN_EVENTS", "redis")
    monkeypatch.setenv("CHURN_REDIS", "127.0.0.1:1")
    check = doctor("event log")
    assert (check.status, check.todo) == (PROBLEM, "start it, or correct its address")
    assert "127.0.0.1:1" in check.found


def test_little_space_is_found(kept_home, monkeypatch):
    disk = shutil.disk_usage(kept_home)
    for free, status in ((1000, PROBLEM), (10**15, OK)):
        usage = disk._replace(free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda _, usage=usage: usage)
        assert doctor("free disk").status == status


def test_files_of_another_owner_are_found(kept_home, monkeypatch):
    own = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "log.db" and own(path, mode))
    check = doctor("access")
    assert check.status == PROBLEM
    assert check.found == "events/log.db cannot be read and written"


def test_a_build_is_not_taken_for_damage(kept_home):
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, kept_home / "churn_radar.duckdb"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as build:
        build.stdout.readline()
        check = doctor("warehouse")
        build.stdin.close()
    assert (check.status, check.found) == (OK, "churn_radar.duckdb is held by a build")
