import subprocess
import sys

import pandas as pd
import pytest
from typer.testing import CliRunner

from inference import cli
from inference.home import raw_dir
from inference.warehouse import dbt


def refused(monkeypatch, capsys, *arguments: str) -> str:
    """Run a command that fails; return its one line."""
    monkeypatch.setattr(sys, "argv", ["churn-radar", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 1
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        "load-example",
        "simulate",
        "train",
        "score",
        "report",
        "explain",
        "similar",
        "backtest",
        "erase",
        "rollback",
        "serve",
        "notify",
        "desk",
        "api-key",
        "backup",
        "restore",
        "doctor",
    ],
)
def test_every_command_has_help_with_an_example(command):
    shown = CliRunner().invoke(cli.app, [command, "--help"])
    assert shown.exit_code == 0
    assert f"Example: churn-radar {command}" in shown.output


@pytest.mark.parametrize("command", ["report", "explain", "rollback", "similar", "serve", "notify", "desk", "erase"])
def test_a_mistyped_home_is_refused_and_not_made(monkeypatch, capsys, tmp_path, command):
    monkeypatch.setenv("CHURN_HOME", str(tmp_path / "churm"))
    needed = {"explain": ["c1"], "similar": ["late"], "erase": ["--customer", "c1"]}.get(command, [])
    line = refused(monkeypatch, capsys, command, *needed)
    expected = "no such folder; expected the CHURN_HOME of a shop that dbt build made"
    assert line == f"churn-radar: {tmp_path}/churm: {expected}\n"
    assert not (tmp_path / "churm").exists()


def test_an_unknown_example_is_refused_with_the_known_ones(monkeypatch, capsys):
    line = refused(monkeypatch, capsys, "load-example", "amazon")
    assert line == "churn-radar: no example is named amazon; expected one of complete-journey\n"


def test_raw_tables_are_not_overwritten_by_an_example(monkeypatch, capsys):
    raw_dir().mkdir(parents=True)
    pd.DataFrame({"mine": [1]}).to_parquet(raw_dir() / "orders.parquet")
    line = refused(monkeypatch, capsys, "load-example", "complete-journey")
    assert line.endswith("orders.parquet: there already; use --force to overwrite it\n")
    assert list(pd.read_parquet(raw_dir() / "orders.parquet")) == ["mine"]


def test_vars_that_are_no_mapping_are_refused(monkeypatch, capsys):
    line = refused(monkeypatch, capsys, "backtest", "--as-of", "2017-12-01", "--vars", "sixty")
    assert line == "churn-radar: --vars is sixty; expected a YAML mapping such as {churn__horizon_days: 60}\n"


def test_a_date_among_the_vars_reaches_dbt(monkeypatch):
    asked = []

    def refuse(command: list[str], **_: object) -> subprocess.CompletedProcess:
        asked.append(command)
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(dbt.subprocess, "run", refuse)
    done = CliRunner().invoke(cli.app, ["score", "--vars", "{churn__as_of_date: 2024-03-01}"])
    assert "dbt build failed" in str(done.exception)
    assert asked[0][-2:] == ["--vars", '{"churn__as_of_date": "2024-03-01", "churn__train": "never"}']


def test_a_report_without_a_champion_says_what_to_do(monkeypatch, capsys, churn_home):
    churn_home.mkdir()
    assert "no champion in the model registry; expected one: run dbt build first" in refused(
        monkeypatch, capsys, "report"
    )


def test_a_backtest_without_raw_orders_names_the_file(monkeypatch, capsys):
    line = refused(monkeypatch, capsys, "backtest", "--as-of", "2017-12-01")
    assert "orders.parquet: no such file; a backtest needs the raw orders there" in line
