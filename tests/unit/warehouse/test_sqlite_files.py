import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from inference.warehouse.sqlite_files import is_lost, set_aside


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An SQLite file of many pages, in a folder with a blank."""
    path = tmp_path / "a home" / "some.db"
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("create table numbers (n integer, text text)")
        connection.executemany("insert into numbers values (?, ?)", [(n, "x" * 100) for n in range(1000)])
    return path


@pytest.mark.parametrize("content", [b"", b"garbage" * 1000, b"SQLite format 3\x00" + b"garbage" * 1000])
def test_a_file_that_is_not_of_sqlite_or_empty_is_lost(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert is_lost(file)


def test_torn_pages_are_found_by_a_thorough_look(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:4096] + bytes(len(content) - 4096))
    assert is_lost(file, thorough=True)


def test_a_file_that_another_process_holds_is_not_lost(file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("begin exclusive")
        assert not is_lost(file, thorough=True)
    assert not is_lost(file, thorough=True)


def test_a_file_is_set_aside_with_what_belongs_to_it(file: Path) -> None:
    file.with_name("some.db-wal").write_text("of the damaged file")
    set_aside(file)
    assert [path.name for path in file.parent.iterdir()] == ["some.db.damaged"]
    assert is_lost(file)
    set_aside(file)
