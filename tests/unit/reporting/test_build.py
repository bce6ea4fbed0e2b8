"""``churn-radar build``: what it makes of dbt's log, and of what a build published."""

import json
import time
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from inference.errors import ChurnRadarError
from inference.home import home, published
from inference.reporting import build
from inference.warehouse import dbt

TODAY = datetime.now(UTC).date()


def event(name: str, message: str = "", level: str = "info", node: str = "", status: str = "success") -> str:
    """A line of dbt's log."""
    data = {"node_info": {"node_name": node, "node_status": status}, "index": 7, "total": 227} if node else {}
    return json.dumps({"info": {"name": name, "level": level, "msg": message}, "data": data})


def retold(*lines: str | None) -> list[str]:
    return [line[8:] if line[3:4] == ":" else line for line in build.retell(lines, time.monotonic())]


def test_a_line_when_a_stage_is_done():
    assert retold(
        event("LogStartLine", node="int_raw_tables"),
        event("LogTestResult", node="unique_orders", status="pass"),
        event("LogTestResult", node="not_null_orders", status="fail"),
        event("LogModelResult", node="int_raw_tables"),
        event("LogModelResult", node="int_products"),
        event("LogModelResult", node="churn_scores", status="error"),
    ) == ["raw tables are checked (7 of 227 steps, 1 checks passed)"]


def test_what_python_models_write_and_what_is_wrong_are_shown_as_text():
    assert retold(
        "churn_model: version 2 is \x1b[31m champion\n",
        event("JinjaLogWarning", "orders: 12 of 100 rows are set aside", "warn"),
        event("LogModelResult", "9 of 227 ERROR creating churn_labels", "error", "churn_labels", "error"),
        '{"no": "event"}',
        '{"info": {"name": "a", "level": "info", "msg": "b"}}',
        event("Formatting", "", "warn"),
    ) == [
        "        churn_model: version 2 is \\x1b[31m champion",
        "WARN: orders: 12 of 100 rows are set aside",
        "ERROR: 9 of 227 ERROR creating churn_labels",
        '        {"no": "event"}',
        '        {"info": {"name": "a", "level": "info", "msg": "b"}}',
    ]


def test_in_silence_the_model_that_runs_longest_is_named():
    assert retold(
        None,
        event("LogStartLine", node="churn_model"),
        event("LogStartLine", node="text_pools"),
        None,
        event("LogModelResult", node="churn_model"),
        None,
    ) == [
        "… dbt is still running",
        "… churn_model is still running",
        "the model is trained, or kept (7 of 227 steps, 0 checks passed)",
        "… text_pools is still running",
    ]


def test_a_process_that_is_silent_and_one_that_fails(monkeypatch, tmp_path):
    script = tmp_path / "dbt"
    script.write_text("#!/bin/sh\necho $@\nsleep 0.5\necho later\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr(dbt, "DBT", str(script))
    monkeypatch.setattr(build, "SILENCE", 0.2)
    lines = list(build._lines(dbt.start("a")))
    assert (lines[0], lines[-1]) == ("a\n", "later\n")
    assert {*lines[1:-1]} == {None}
    told = build.build(["--select", "x"])
    assert next(told).endswith("build --select x --log-format json --no-use-colors")
    with pytest.raises(ChurnRadarError, match="dbt build failed; the lines above say why"):
        list(told)


def test_a_build_that_did_not_score_says_nothing_of_older_scores(monkeypatch, tmp_path):
    publish(TODAY)
    script = tmp_path / "dbt"
    for node, n_lines in (("int_products", 1), ("churn_scores", 2 + len(list(build.outcome())))):
        script.write_text(f"#!/bin/sh\necho '{event('LogModelResult', node=node)}'\n")
        script.chmod(0o755)
        monkeypatch.setattr(dbt, "DBT", str(script))
        assert len(list(build.build([]))) == n_lines


def write_scores(as_of, bands: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "customer_id": list(bands),
            "as_of_date": as_of,
            "risk_band": list(bands.values()),
            "churn_probability": 0.5,
            "horizon_days": 90,
            "scored_at": pd.Timestamp(as_of),
        }
    )


def publish(as_of) -> None:
    before = write_scores(as_of - timedelta(1), {"anna": "low", "bob": "high", "cleo": "low"})
    now = write_scores(as_of, {"anna": "critical", "bob": "high", "dan": "low", "eve": "low"})
    again = now.assign(risk_band="low", scored_at=pd.Timestamp(as_of) - pd.Timedelta("1h"))
    published("x").parent.mkdir(parents=True)
    pd.concat([before, again, now]).to_parquet(published("churn_scores"))
    pd.DataFrame(
        {
            "model_version": ["1", "2"],
            "trained_at": pd.Timestamp("2024-05-01"),
            "decided_at": pd.Timestamp("2024-05-01"),
            "is_champion": [False, True],
            "reason": ["older", "it is better by 0.01 nats"],
        }
    ).to_parquet(published("churn_model"))


def test_what_came_of_it():
    publish(TODAY)
    assert list(build.outcome()) == [
        f"4 customers scored as of {TODAY}: 2 are expected to order nothing in the next 90 days; "
        "risk is high or critical for 2",
        f"since {TODAY - timedelta(1)}: 2 became active, 1 are so no more, 1 changed risk band",
        "champion: version 2, trained on 2024-05-01; it is better by 0.01 nats",
        f"next: feast -c feature_repo apply; feast -c feature_repo materialize {TODAY}T00:00:00 {TODAY}T00:00:00",
    ]


def test_old_scores_are_said_to_be_old():
    publish(TODAY - timedelta(400))
    assert list(build.outcome())[-1].startswith("The newest scores are 400 days old")


def test_a_build_that_scores_nobody_has_no_outcome():
    assert not home().exists()
    assert list(build.outcome()) == []
