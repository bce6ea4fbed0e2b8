import pickle
import sqlite3
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from inference.errors import ChurnRadarError, in_one_line, reading


def test_the_message_is_one_line() -> None:
    assert str(ChurnRadarError("orders.amount:\n    expected numbers,\tgot text")) == (
        "orders.amount: expected numbers, got text"
    )


def test_it_survives_a_process_boundary() -> None:
    copied = pickle.loads(pickle.dumps(ChurnRadarError("orders: no such file")))
    assert isinstance(copied, ChurnRadarError)
    assert str(copied) == "orders: no such file"


@pytest.mark.parametrize(
    "read",
    [
        lambda file: duckdb.sql(f"select * from '{file}'").df(),
        lambda file: sqlite3.connect(file).execute("select * from t"),
        pd.read_parquet,
        lambda file: file.with_name("no folder").joinpath("x").read_text(),
    ],
)
def test_a_damaged_file_is_one_line_and_other_errors_are_none(tmp_path: Path, read) -> None:
    file = tmp_path / "damaged.parquet"
    file.write_bytes(b"garbage" * 1000)
    with pytest.raises(Exception) as raised:  # noqa: PT011
        read(file)
    line = in_one_line(raised.value)
    assert "\n" not in line
    assert line.endswith("; expected files as they were written: see docs/operations.md")
    assert in_one_line(KeyError("a bug")) is None
    assert in_one_line(ChurnRadarError("orders: no such file")) == "orders: no such file"


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "damaged.parquet"
    file.write_bytes(b"garbage")
    with pytest.raises(ChurnRadarError, match=f"{file}: cannot be read; expected what dbt build writes"), reading(file):
        pd.read_parquet(file)
