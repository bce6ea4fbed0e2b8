import json
import sys
from pathlib import Path

import pytest

from inference.home import PROJECT_DIR

sys.path.append(str(PROJECT_DIR / "benchmarks"))

import suite

FIGURES = [suite.Figure("texts", 740.0, 176.0, "texts/s", 4.2, "at least 4"), suite.Figure("memory", 2.0, 1.0, "MB", 2)]


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(suite, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def test_figures_are_appended_and_the_newest_are_drawn(results, capsys):
    for runs in (1, 5):
        suite.report("encoding", "Encoding reviews", "the peer", FIGURES, runs)
    lines = (results / "encoding.jsonl").read_text().splitlines()
    assert [json.loads(line)["runs"] for line in lines] == [1, 5]
    page = suite.draw(suite.newest())
    assert "Medians of 5 runs" in page
    assert "| texts | 740 texts/s | 176 texts/s | **4.2** | at least 4 |" in page
    assert "bar [1.05]" in page
    assert all(len(line) <= 100 for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize(("target", "reached"), [("at least 4", 0.5), ("at most 12", 6.0), ("", None)])
def test_targets_are_reached_from_one_on(target, reached):
    assert suite.Figure("", 1.0, 1.0, "", 2.0, target).reached == reached


def test_what_shall_be_forgotten_is_printed_only(results, capsys):
    suite.report("encoding", "Encoding reviews", "the peer", FIGURES, forget=True)
    assert "Encoding reviews" in capsys.readouterr().out
    assert not results.exists()


def test_a_command_is_measured_with_what_it_starts(tmp_path):
    child = "import time; held = bytearray(60_000_000); time.sleep(0.6)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    measured = suite.measure([sys.executable, "-c", parent], {}, tmp_path / "log")
    assert measured.peak_mb > 60
    assert measured.seconds > 0.6


def test_a_command_that_fails_says_why(tmp_path):
    with pytest.raises(SystemExit, match="no such thing"):
        suite.measure([sys.executable, "-c", "raise SystemExit('no such thing')"], {}, tmp_path / "log")
