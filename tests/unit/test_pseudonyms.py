import duckdb
import pytest

from inference.errors import ChurnRadarError
from inference.pseudonyms import duckdb_salt_sql, pseudonym, salt, salted_hash


def test_the_salt_is_made_once_and_for_its_owner_alone(churn_home):
    first = salt()
    assert salt() == first
    assert len(first) == 64
    assert (churn_home / "salt").stat().st_mode & 0o777 == 0o600
    assert [file.name for file in churn_home.iterdir()] == ["salt"]


def test_the_environment_comes_first(churn_home, monkeypatch):
    monkeypatch.setenv("CHURN_SALT", "it's a long enough salt")
    assert salt() == "it's a long enough salt"
    assert not churn_home.exists()


def test_a_short_salt_is_refused(monkeypatch):
    monkeypatch.setenv("CHURN_SALT", "short")
    with pytest.raises(ChurnRadarError, match="CHURN_SALT has 5 characters; expected at least 16"):
        salt()


def test_hashes_depend_on_salt_and_purpose(monkeypatch):
    ours = salted_hash("erased", "42")
    assert salted_hash("pseudonym", "42") != ours
    assert salted_hash("erased", "42") == ours
    monkeypatch.setenv("CHURN_SALT", "another salt of another shop")
    assert salted_hash("erased", "42") != ours


def test_sql_makes_the_same_pseudonyms(monkeypatch):
    monkeypatch.setenv("CHURN_SALT", "it's a long enough salt")
    with duckdb.connect() as connection:
        connection.execute(duckdb_salt_sql(salt()))
        made = connection.sql(
            "select 'p_' || substr(sha256(cast(getvariable('churn_salt') as varchar) || 'pseudonym:' || 'zoë'), 1, 32)"
        ).fetchone()[0]
    assert made == pseudonym("zoë")
