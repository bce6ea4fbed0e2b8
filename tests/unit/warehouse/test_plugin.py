from pathlib import Path

import duckdb
import pytest
from dbt.adapters.duckdb.plugins import BasePlugin

from inference.errors import ChurnRadarError


@pytest.fixture
def plugin(churn_home: Path) -> BasePlugin:
    return BasePlugin.create("inference.warehouse.plugin", config={"home": str(churn_home)})


def test_a_session_takes_no_more_memory_than_it_may(plugin, monkeypatch):
    monkeypatch.setenv("CHURN_MEMORY", "1GB")
    with duckdb.connect() as connection:
        plugin.configure_cursor(connection)
        assert connection.sql("select current_setting('memory_limit')").fetchone() == ("953.6 MiB",)


def test_a_session_knows_the_salt(plugin, churn_home):
    with duckdb.connect() as connection:
        plugin.configure_cursor(connection)
        known = connection.sql("select getvariable('churn_salt')").fetchone()
    assert known == ((churn_home / "salt").read_text().strip(),)


def test_an_impossible_size_is_refused(plugin, monkeypatch):
    monkeypatch.setenv("CHURN_MEMORY", "80%")
    with duckdb.connect() as connection, pytest.raises(ChurnRadarError, match="CHURN_MEMORY is 80%; expected a size"):
        plugin.configure_cursor(connection)
