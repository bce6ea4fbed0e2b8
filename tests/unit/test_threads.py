"""How many threads libraries use, and calls side by side."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from joblib import cpu_count

from inference.errors import ChurnRadarError
from inference.threads import n_threads, prepare_threads, side_by_side

VARIABLES = ("CHURN_THREADS", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that what a test sets is undone
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("given", "n"),
    [
        ({}, cpu_count()),
        ({"CHURN_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "5,1"}, 5),
        ({"CHURN_THREADS": "3", "OMP_NUM_THREADS": "5"}, 3),
    ],
)
def test_threads_are_those_of_the_variables_else_of_the_machine(monkeypatch, given, n):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert n_threads() == n


@pytest.mark.parametrize("wrong", ["0", "-1", "two", "1.5"])
def test_a_wrong_number_is_refused_in_one_line(monkeypatch, wrong):
    monkeypatch.setenv("CHURN_THREADS", wrong)
    with pytest.raises(ChurnRadarError, match=f"CHURN_THREADS is {wrong}; expected a whole number, 1 or more"):
        n_threads()


def test_openmp_gets_its_threads_and_a_bounded_spin(monkeypatch):
    monkeypatch.setenv("CHURN_THREADS", "3")
    prepare_threads()
    assert {name: os.environ.get(name) for name in VARIABLES[1:]} == {
        "OMP_NUM_THREADS": "3",
        "OMP_WAIT_POLICY": None,
        "GOMP_SPINCOUNT": "20000",
    }


def test_what_the_user_set_is_kept(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    prepare_threads()
    assert (os.environ["OMP_NUM_THREADS"], os.environ.get("GOMP_SPINCOUNT")) == ("2", None)


def who(number: int) -> tuple[int, int, str]:
    return number, os.getpid(), os.environ.get("OMP_NUM_THREADS", "")


def test_calls_run_in_processes_of_one_thread_and_results_come_in_order():
    numbers, processes, threads = zip(*side_by_side(who, [(n,) for n in range(4)], 2), strict=True)
    assert numbers == (0, 1, 2, 3)
    assert os.getpid() not in processes
    assert set(threads) == {"1"}


@pytest.mark.parametrize(("tasks", "n_processes"), [([(1,), (2,)], 1), ([(1,)], 2)])
def test_one_process_or_one_call_needs_no_other(tasks, n_processes):
    assert {process for _, process, _ in side_by_side(who, tasks, n_processes)} == {os.getpid()}


def fail(number: int) -> None:
    raise ChurnRadarError(f"number {number}")


def test_an_error_comes_out():
    with pytest.raises(ChurnRadarError, match=r"^number [12]$"):
        list(side_by_side(fail, [(1,), (2,)], 2))


def test_processes_end_with_a_parent_that_is_killed(tmp_path):
    code = (
        "import os, sys, time, pathlib\nfrom inference.threads import side_by_side\n"
        "def work(folder, number):\n"
        "    (pathlib.Path(folder) / str(os.getpid())).touch()\n"
        "    time.sleep(60)\n"
        "list(side_by_side(work, [(sys.argv[1], 0), (sys.argv[1], 1)], 2))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    while len(list(tmp_path.iterdir())) < 2:
        assert parent.poll() is None
        time.sleep(0.05)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 30
    while left := [p for p in tmp_path.iterdir() if Path("/proc", p.name).exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
