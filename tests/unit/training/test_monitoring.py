import duckdb
import pytest

from inference.training.champion import Monitoring, last_monitoring

DRIFT = "(model_version varchar, as_of_date date, is_read boolean, is_unusual boolean)"
PERFORMANCE = "(model_version varchar, as_of_date date, auroc_below_promise double, breaks_promise boolean)"


@pytest.fixture
def session():
    with duckdb.connect() as connection:
        yield connection


def fill(session, table: str, columns: str, rows: str) -> None:
    session.execute(f"create table {table} {columns}")
    session.execute(f"insert into {table} values {rows}")


def test_before_the_first_build_has_ended_nothing_was_measured(session):
    assert last_monitoring(session, "main") is None
    session.execute(f"create table churn_feature_drift {DRIFT}")
    session.execute(f"create table churn_model_performance {PERFORMANCE}")
    assert last_monitoring(session, "main") is None


def test_the_newest_version_at_the_newest_date_counts_by_what_it_reads(session):
    newest = "('10', '2024-02-01', true, true), ('10', '2024-02-01', true, false), ('10', '2024-02-01', false, true)"
    others = "('9', '2024-02-01', true, true), ('10', '2024-01-01', true, true)"
    fill(session, "churn_feature_drift", DRIFT, f"{newest}, {others}")
    fill(session, "churn_model_performance", PERFORMANCE, "('9', '2024-01-01', 0.2, true)")
    assert last_monitoring(session, "main") == Monitoring("10", 0.5)


@pytest.mark.parametrize(("breaks", "broken"), [("true", 0.07), ("false", None), ("null", None)])
def test_a_promise_counts_as_broken_where_the_table_says_so(session, breaks, broken):
    fill(session, "churn_feature_drift", DRIFT, "('3', '2024-02-01', true, false)")
    rows = f"('3', '2024-01-08', 0.07, {breaks}), ('3', '2024-01-01', 0.5, true)"
    fill(session, "churn_model_performance", PERFORMANCE, rows)
    assert last_monitoring(session, "main") == Monitoring("3", 0.0, broken)
