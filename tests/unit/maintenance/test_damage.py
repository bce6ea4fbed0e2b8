"""Whatever file of a home is damaged, a command works or ends in one line."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from inference import cli
from inference.registry import registry
from inference.warehouse import dbt

COMMANDS = (
    ("report", "--no-compare"),
    ("explain", "c0001"),
    ("rollback",),
    ("events", "list"),
    ("notify", "--dry-run", "--url", "json://127.0.0.1:1/x"),
    ("doctor",),
    ("erase", "--customer", "c0001"),
)
#: Not the online store and MLflow's database, which are made again, in seconds: test_serving.py and test_registry.py.
FILES = (
    "churn_radar.duckdb",
    "events/log.db",
    "events/orders.parquet",
    "feast/registry.db",
    "mlflow/contents.json",
    "published/churn_scores.parquet",
    "raw/orders.parquet",
    "salt",
    "target/manifest.json",
    "version.json",
)


@pytest.mark.parametrize("damage", [lambda old: b"", lambda old: old[: len(old) // 2]], ids=["empty", "torn"])
@pytest.mark.parametrize("file", FILES)
def test_every_command_works_or_ends_in_one_line(
    kept_home: Path, monkeypatch: pytest.MonkeyPatch, capsys, file: str, damage: Callable[[bytes], bytes]
) -> None:
    (kept_home / file).write_bytes(damage((kept_home / file).read_bytes()))
    monkeypatch.setattr(dbt, "run", lambda *arguments, **settings: None)
    for command in COMMANDS:
        registry._load_files.cache_clear()
        monkeypatch.setattr(sys, "argv", ["churn-radar", *command])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        errors = capsys.readouterr().err.splitlines()
        if command != ("doctor",):
            assert ended.value.code in (0, 1)
            assert [line for line in errors if line.startswith("churn-radar: ")] == (
                errors[-1:] if ended.value.code else []
            )
