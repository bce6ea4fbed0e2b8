import duckdb
import pytest

from inference.warehouse import postgres


@pytest.mark.parametrize("text", ["it's", "a\\b", "a 'b' \\'c"])
def test_values_are_quoted_for_sql(text):
    assert duckdb.execute(f"select {postgres._literal(text)}").fetchone() == (text,)


def test_values_are_escaped_for_libpq():
    assert postgres._escaped("o'neil\\x") == r"o\'neil\\x"
