from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from inference.home import PROJECT_DIR, home, old_scores, published, raw_dir, sql_literal


def test_the_project_is_where_dbt_project_yml_lies() -> None:
    assert (PROJECT_DIR / "dbt_project.yml").exists()


def test_state_lies_in_the_project_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHURN_HOME")
    assert home() == PROJECT_DIR / ".churn"
    assert raw_dir() == PROJECT_DIR / ".churn" / "raw"


def test_state_lies_where_churn_home_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHURN_HOME", "/srv/churn")
    assert home() == Path("/srv/churn")
    assert raw_dir() == Path("/srv/churn/raw")
    assert published("churn_scores") == Path("/srv/churn/published/churn_scores.parquet")


def test_relative_folders_count_from_the_project_wherever_one_stands(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHURN_HOME", "var/state")
    monkeypatch.setenv("CHURN_RAW_DIR", "data")
    assert home() == PROJECT_DIR / "var" / "state"
    assert raw_dir() == PROJECT_DIR / "data"


def test_raw_tables_may_lie_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHURN_RAW_DIR", "/data/shop")
    assert raw_dir() == Path("/data/shop")


@pytest.mark.parametrize("text", ["it's", "a\\b", "a 'b' \\'c"])
def test_values_are_quoted_for_sql(text):
    assert duckdb.execute(f"select {sql_literal(text)}").fetchone() == (text,)


@pytest.mark.parametrize(("days", "said"), [(-1, None), (0, None), (7, None), (8, "8 days"), (517, "517 days")])
def test_scores_are_of_today_for_a_week(days, said):
    line = old_scores(datetime.now(UTC).date() - timedelta(days))
    assert line is None if said is None else f"The newest scores are {said} old" in line
