"""Backups and restores that are killed leave nothing, or the whole."""

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_home import content, event

from inference.event_log.sqlite_log import SqliteEventLog
from inference.home_format import make_home

KILLS = int(os.environ.get("CHURN_KILLS", "10"))
COMMAND = "from inference.cli import main; import inference.maintenance.restore; print(flush=True); main()"


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("CHURN_HOME", str(tmp_path / "home"))
    make_home()
    for number in range(300):
        file = tmp_path / "home" / f"table{number % 7}" / f"{number}.parquet"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(os.urandom(1_000_000))
    log = SqliteEventLog()
    log.append_all([[event(number)] for number in range(50)])
    log.close()
    return tmp_path / "home"


def killed_after(share: float, seconds: float, *arguments: object, home: Path) -> float:
    """Run a command and kill it after a share of the seconds; return how long it ran."""
    env = {**os.environ, "CHURN_HOME": str(home)}
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, *map(str, arguments)], env=env, stdout=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()  # it has loaded what it needs
        begun = time.monotonic()
        try:
            process.wait(share * seconds)
        except subprocess.TimeoutExpired:
            process.kill()
        return time.monotonic() - begun


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_killed_at_any_moment_there_is_nothing_or_the_whole(home, tmp_path, command):
    seconds = killed_after(60, 1, "backup", tmp_path / "first", home=home)
    first, rng, n_made = content(tmp_path / "first" / "home"), random.Random(1), 0
    assert len(first) > 300
    for _ in range(KILLS):
        target, made = tmp_path / "target", tmp_path / "target"
        if command == "backup":
            killed_after(rng.random() * 1.3, seconds, "backup", target, home=home)
            made = target / "home"
        else:
            killed_after(rng.random() * 1.3, seconds, "restore", tmp_path / "first", home=target)
        if target.exists():
            n_made += 1
            assert {name: parts[2:] for name, parts in content(made).items()} == {
                name: parts[2:] for name, parts in first.items()
            }
            shutil.rmtree(target)
    assert n_made < KILLS
    killed_after(60, 1, "backup", tmp_path / "last", home=home)  # it goes on where others were killed
    assert not (tmp_path / "last.partial").exists()
    assert (tmp_path / "last" / "backup.json").exists()
