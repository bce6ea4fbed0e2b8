"""One command at a time writes to a home."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inference.errors import ChurnRadarError
from inference.lock import HOLDER, LOCK, WAIT, hold, writing

HOLDS = "import sys; from inference.lock import hold; hold('dbt build'); print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def builder(churn_home: Path) -> subprocess.Popen:
    """Another process that holds the lock until its input ends."""
    env = {name: value for name, value in os.environ.items() if name != HOLDER}
    process = subprocess.Popen([sys.executable, "-c", HOLDS], stdin=-1, stdout=-1, env=env, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_command_is_told_who_writes(builder: subprocess.Popen, churn_home: Path) -> None:
    with pytest.raises(ChurnRadarError) as refused, writing("churn-radar erase"):
        pass
    holder = f"dbt build (process {builder.pid} on {socket.gethostname()}, since 20"
    assert str(refused.value).startswith(f"{churn_home}: {holder}")
    assert "expected one command at a time: wait until it ends, or set CHURN_LOCK_WAIT" in str(refused.value)
    builder.communicate("")
    with writing("churn-radar erase"):
        assert '"command": "churn-radar erase"' in (churn_home / LOCK).read_text()
    assert (churn_home / LOCK).read_text() == ""


def test_a_killed_holder_leaves_no_lock(builder: subprocess.Popen) -> None:
    builder.send_signal(signal.SIGKILL)
    builder.wait()
    with writing("churn-radar erase"):
        pass


def test_the_second_command_waits_where_it_may(builder: subprocess.Popen, monkeypatch, caplog) -> None:
    monkeypatch.setenv(WAIT, "30")
    caplog.set_level("INFO")
    subprocess.Popen(["sh", "-c", f"sleep 0.5; kill {builder.pid}"])
    started = time.monotonic()
    with writing("churn-radar erase"):
        assert 0.4 < time.monotonic() - started < 5
    assert "waiting for dbt build (process" in caplog.text


def test_what_a_command_starts_shares_its_lock(churn_home: Path) -> None:
    with writing("churn-radar rollback"):
        with writing("the same process"):
            pass
        subprocess.run([sys.executable, "-c", HOLDS], stdin=subprocess.DEVNULL, check=True)
    assert HOLDER not in os.environ


def test_what_a_killed_command_started_keeps_its_lock(churn_home: Path, monkeypatch) -> None:
    """As the dbt of ``churn-radar rollback``, which goes on."""
    starts = (
        "import sys; from inference.lock import hold; from inference.warehouse import dbt; dbt.DBT = sys.executable; "
        f"hold('churn-radar rollback'); dbt.run('-c', {HOLDS!r})"
    )
    monkeypatch.delenv(HOLDER, raising=False)
    with subprocess.Popen([sys.executable, "-c", starts], stdin=-1, stdout=-1, text=True) as command:
        assert command.stdout.readline() == "held\n"
        command.kill()
        command.wait()
        with pytest.raises(ChurnRadarError, match=f"rollback .process {command.pid} on .*, or what it started, writes"):
            hold("dbt build")
        command.stdin.close()
        monkeypatch.setenv(WAIT, "30")
        with writing("dbt build"):
            pass


def test_homes_do_not_share_a_lock(builder: subprocess.Popen, churn_home: Path, monkeypatch) -> None:
    monkeypatch.setenv("CHURN_HOME", str(churn_home.with_name("other")))
    with writing("churn-radar erase"):
        pass


def test_a_home_that_cannot_be_made_is_one_line(churn_home: Path) -> None:
    churn_home.write_text("a file")
    for folder in (churn_home, churn_home / "below"):
        with pytest.raises(ChurnRadarError, match="expected a folder that can be made and written to: set CHURN_HOME"):
            hold("dbt build", folder)


def test_seconds_that_are_no_number_are_refused(monkeypatch) -> None:
    monkeypatch.setenv(WAIT, "long")
    with pytest.raises(ChurnRadarError, match="CHURN_LOCK_WAIT is long; expected a number of seconds"):
        hold("dbt build")
