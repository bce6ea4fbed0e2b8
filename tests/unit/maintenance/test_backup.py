import asyncio
import errno
import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from feast import Entity, ValueType
from small_home import AS_OF, content, event
from typer.testing import CliRunner

from inference import cli
from inference.errors import ChurnRadarError
from inference.event_log.opening import NOTE
from inference.event_log.sqlite_log import SqliteEventLog
from inference.feature_store.client import open_store
from inference.home_format import FORMAT
from inference.lock import HOLDER
from inference.maintenance import backup as module
from inference.maintenance.backup import back_up
from inference.maintenance.restore import read_manifest, restore
from inference.registry import registry
from inference.serving.lookup import ScoreLookup

CHURN_RADAR = Path(sys.executable).with_name("churn-radar")
#: A program that opens the warehouse until its input ends, and a build.
DUCKDB = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(flush=True); sys.stdin.read()"
BUILD = "from inference.lock import hold; hold('dbt build')"


@pytest.fixture
def backup(kept_home: Path, tmp_path: Path) -> Path:
    back_up(tmp_path / "backup")
    return tmp_path / "backup"


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """Makes ``CHURN_HOME`` another folder, which does not exist yet."""

    def change() -> Path:
        monkeypatch.setenv("CHURN_HOME", str(tmp_path / "other's home"))
        registry._load_files.cache_clear()
        return tmp_path / "other's home"

    return change


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli.app, arguments)
    if done.exception:
        raise done.exception
    return done.output


def rows(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        return list(connection.iterdump())


def test_a_backup_is_restored_and_tried(kept_home, tmp_path, other):
    before = content(kept_home)
    said = run("backup", str(tmp_path / "backup"))
    found = f"120 customers scored as of {AS_OF:%Y-%m-%d}, champion 2"
    assert found in said
    assert content(kept_home) == before
    home = other()
    said = run("restore", str(tmp_path / "backup")).splitlines()[-1]
    assert said.startswith(f"{home} is restored as of 20")
    assert said.endswith(f": {found}; customer c0000 looked up online: 0.2500")
    assert not home.with_name(f"{home.name}.partial").exists()
    names = {name for name, parts in before.items() if len(parts) > 1}
    for name in names:
        same = rows if name.endswith(("log.db", "mlflow.db", "online.db")) else Path.read_bytes
        assert same(home / name) == same(kept_home / name), name
    assert names == {name for name, parts in content(home).items() if len(parts) > 1}


def test_a_backup_and_a_restored_home_are_closed_to_others(backup, other):
    home = other()
    restore(backup)
    for folder in (backup, home):
        modes = {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in [folder, *folder.rglob("*")]}
        assert modes == {(True, 0o700), (False, 0o600)}


@pytest.mark.parametrize("way", ["copied", "moved", "renamed", "restored"])
def test_a_home_works_in_another_place_and_leaves_the_one_before_alone(kept_home, tmp_path, other, way):
    if way == "restored":
        back_up(tmp_path / "backup")
        home = other()
        restore(tmp_path / "backup")
    else:
        home = other()
        shutil.copytree(kept_home, home)
    if way in ("moved", "renamed"):
        shutil.rmtree(kept_home)
    if way == "renamed":  # and another shop's home took its name
        shutil.copytree(home, kept_home)
        shutil.rmtree(kept_home / "mlflow" / "artifacts")
        (kept_home / "feast" / "online.db").write_bytes(b"")
    before = content(kept_home)
    assert "last order 3 days ago" in run("explain", "c0001")
    assert asyncio.run(served("c0001")).churn_probability == 0.25
    open_store().apply([Entity(name="shop", join_keys=["shop_id"], value_type=ValueType.STRING)])
    assert registry.rollback() == "1"
    assert registry.champion().version == "1"
    assert asyncio.run(served("c0001")).churn_probability == 0.25
    assert content(kept_home) == before


async def served(customer: str) -> object:
    lookup = ScoreLookup()
    await lookup.open()
    (score,) = await lookup.read([customer])
    lookup.close()
    return score


def test_a_backup_of_a_home_in_use_is_of_one_moment(kept_home, tmp_path):
    acknowledged, is_done = [2], threading.Event()

    def accept() -> None:
        log = SqliteEventLog()
        while not is_done.is_set():
            log.append_all([[event(acknowledged[-1] + 1)]])
            acknowledged.append(acknowledged[-1] + 1)
        log.close()

    def load() -> None:
        with closing(sqlite3.connect(kept_home / "feast" / "online.db", timeout=30)) as connection:
            connection.executescript(
                "create table a (n); create table b (n); insert into a select 0; insert into b select 0"
            )
            while not is_done.is_set():
                connection.executescript("begin; update a set n = n + 1; update b set n = n + 1; commit")

    threads = [threading.Thread(target=accept), threading.Thread(target=load)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    before = acknowledged[-1]
    back_up(tmp_path / "backup")
    is_done.set()
    for thread in threads:
        thread.join()
    assert before > 10
    copied = tmp_path / "backup" / "home"
    with closing(sqlite3.connect(copied / "events" / "log.db")) as log:
        assert log.execute("select count(*), max(sequence) from events").fetchone() >= (before, before)
        assert log.execute("pragma integrity_check").fetchone() == ("ok",)
    with closing(sqlite3.connect(copied / "feast" / "online.db")) as online:
        ((ours, theirs),) = online.execute("select a.n, b.n from a, b").fetchall()
        assert ours == theirs > 0


def test_a_program_that_writes_to_the_warehouse_is_named(kept_home, tmp_path):
    with duckdb_writer(kept_home) as program:
        with pytest.raises(ChurnRadarError, match=r"churn_radar\.duckdb: a program has it open for writing"):
            back_up(tmp_path / "backup")
        program.stdin.close()
    assert list(tmp_path.glob("backup*")) == []
    back_up(tmp_path / "backup")


def duckdb_writer(home: Path) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", DUCKDB, home / "churn_radar.duckdb"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    process.stdout.readline()
    return process


def test_nobody_writes_before_the_last_file_is_copied(kept_home, tmp_path, monkeypatch):
    tried = []

    def copy_and_try(source: Path, target: Path) -> dict:
        tried.append(source.name)
        if source.name == "log.db":
            env = {name: value for name, value in os.environ.items() if name != HOLDER}
            for code, expected in ((DUCKDB, b"Could not set lock"), (BUILD, b"churn-radar backup (process ")):
                command = [sys.executable, "-c", code, kept_home / "churn_radar.duckdb"]
                assert expected in subprocess.run(command, env=env, capture_output=True, check=False).stderr
        return copy_database(source, target)

    copy_database = module._copy_database
    monkeypatch.setattr(module, "_copy_database", copy_and_try)
    back_up(tmp_path / "backup")
    assert tried == ["online.db", "mlflow.db", "log.db"]


def test_a_killed_backup_looks_like_none(kept_home, tmp_path):
    with (kept_home / "features" / "large.parquet").open("wb") as opened:
        opened.truncate(2_000_000_000)
    folder, partial = tmp_path / "backup", tmp_path / "backup.partial"
    process = subprocess.Popen([CHURN_RADAR, "backup", folder])
    while not list(partial.rglob("large.parquet")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not folder.exists()
    with pytest.raises(ChurnRadarError, match=r"backup\.json: no such file; expected a folder that churn-radar backup"):
        read_manifest(partial)
    (kept_home / "features" / "large.parquet").unlink()
    back_up(folder)
    assert not partial.exists()
    assert not list(folder.rglob("large.parquet"))


def test_two_backups_to_one_folder_do_not_mix(kept_home, tmp_path):
    with module.made_whole(tmp_path / "backup") as beside:
        (beside / "mine").touch()
        with pytest.raises(
            ChurnRadarError, match=r"backup\.partial: another process writes it; expected one at a time"
        ):
            back_up(tmp_path / "backup")
    assert [path.name for path in (tmp_path / "backup").iterdir()] == ["mine"]


SCORES = "home/published/churn_scores.parquet"


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (
            lambda f: (f / SCORES).write_bytes(b"PAR1" + (f / SCORES).read_bytes()[4:-1] + b"2"),
            "churn_scores.parquet is damaged",
        ),
        (
            lambda f: (f / SCORES).write_bytes((f / SCORES).read_bytes()[:-9]),
            "published/churn_scores.parquet is damaged",
        ),
        (lambda f: (f / "home/salt").unlink(), "salt is missing"),
        (lambda f: shutil.rmtree(f / "home/mlflow/artifacts"), r"mlflow/artifacts/.* and \d+ more"),
        (lambda f: (f / "backup.json").write_text("{"), r"backup\.json: is damaged"),
        (lambda f: (f / "backup.json").unlink(), r"backup\.json: no such file"),
        (lambda f: change(f, format=FORMAT + 1), f"in format {FORMAT + 1}; expected that version or a later one"),
        (lambda f: change(f, files={"../salt": {}}), r"names \.\./salt; expected files inside the home alone"),
    ],
)
def test_a_damaged_backup_is_refused_and_the_file_named(backup, other, damage, expected):
    damage(backup)
    home = other()
    with pytest.raises(ChurnRadarError, match=expected):
        restore(backup)
    assert list(home.parent.glob(f"{home.name}*")) == []


def change(folder: Path, **values: object) -> None:
    manifest = json.loads((folder / "backup.json").read_text())
    (folder / "backup.json").write_text(json.dumps(manifest | values))


def test_a_home_is_restored_into_an_empty_folder_alone(backup, kept_home, other):
    before = content(kept_home)
    with pytest.raises(
        ChurnRadarError, match="home is not empty; expected a CHURN_HOME that is empty or does not exist"
    ):
        restore(backup)
    assert content(kept_home) == before
    home = other()
    home.mkdir()
    restore(backup)
    assert (home / "salt").read_bytes() == (kept_home / "salt").read_bytes()


def test_where_a_backup_cannot_be_made_nothing_is(kept_home, tmp_path, monkeypatch):
    with pytest.raises(ChurnRadarError, match="lies in the home folder; expected a folder outside of"):
        back_up(kept_home / "backup")
    (tmp_path / "taken").mkdir()
    with pytest.raises(ChurnRadarError, match="taken: there already; expected the name of a new folder"):
        back_up(tmp_path / "taken")
    (tmp_path / "file").touch()
    with pytest.raises(ChurnRadarError, match="Not a directory; nothing was made"):
        back_up(tmp_path / "file" / "backup")
    disk = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: disk)
    with pytest.raises(ChurnRadarError, match=r"0 MB are free; expected \d+ MB for the backup"):
        back_up(tmp_path / "backup")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "home", "taken"]


def test_a_full_disk_leaves_nothing(kept_home, tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", fail)
    with pytest.raises(ChurnRadarError, match="backup: No space left on device; nothing was made"):
        back_up(tmp_path / "backup")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_what_lies_elsewhere_is_named_and_links_are_followed(kept_home, tmp_path, monkeypatch, other):
    (kept_home / "raw").rename(tmp_path / "raw")
    (kept_home / "raw").symlink_to(tmp_path / "raw")
    (tmp_path / "raw" / "circle").symlink_to(tmp_path / "raw")
    (kept_home / "features" / "orders.parquet.1234.partial").touch()
    (kept_home / "effects").mkdir()
    (kept_home / "effects" / "cache").touch()
    monkeypatch.setenv("CHURN_RAW_DIR", str(tmp_path / "raw"))
    monkeypatch.setenv("CHURN_SALT", "a salt for this test")
    said = run("backup", str(tmp_path / "backup"))
    assert f"Not in the backup: the raw tables in {tmp_path / 'raw'}" in said
    assert "Not in the backup: the salt" in said
    home = other()
    restore(tmp_path / "backup")
    assert [path.name for path in (home / "raw").iterdir()] == ["orders.parquet"]
    assert not (home / "effects").exists()
    assert list(home.rglob("*.partial")) == []


@pytest.mark.parametrize(("kind", "named"), [("sqlite", False), ("redis", True)])
def test_a_log_on_a_server_is_named_whatever_the_environment_says(kept_home, tmp_path, kind, named):
    (kept_home / NOTE).write_text(json.dumps({"kind": kind, "log": "x"}))
    assert ("Not in the backup: the log of accepted events" in run("backup", str(tmp_path / "backup"))) is named


def test_without_an_online_store_a_restored_home_says_what_to_run(kept_home, tmp_path, other):
    shutil.rmtree(kept_home / "feast")
    back_up(tmp_path / "backup")
    other()
    assert "not looked up, as there is no feature store yet: run feast apply" in run(
        "restore", str(tmp_path / "backup")
    )


def test_a_lookup_that_fails_is_said_and_the_home_stays(kept_home, tmp_path, other):
    (kept_home / "feast" / "registry.db").write_bytes(b"damaged")
    back_up(tmp_path / "backup")
    home = other()
    with pytest.raises(ChurnRadarError, match="is restored, but looking customer c0000 up online failed"):
        run("restore", str(tmp_path / "backup"))
    assert (home / "salt").exists()
