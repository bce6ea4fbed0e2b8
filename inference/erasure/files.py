"""Files of the home folder and of dbt that may hold a person, and how they are opened."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb

from inference.erasure.person import Person, store_keys
from inference.home import PROJECT_DIR, home
from inference.pseudonyms import duckdb_salt_sql, salt
from inference.warehouse.manifest import manifest_path
from inference.warehouse.reader import open_database

#: Vocabulary of a tokenizer: not of a customer, though it may contain an id.
VOCABULARY = "tokenizer.json"
#: File formats by an offset and the bytes that stand there.
MAGIC = {(0, b"PAR1"): "parquet", (0, b"SQLite format 3\x00"): "sqlite", (8, b"DUCK"): "duckdb"}


def target_dir() -> Path:
    """Folder of dbt's output."""
    return manifest_path().parent.resolve()


def folders() -> list[Path]:
    """The home folder, and dbt's target and log folders where they are outside it."""
    result = [home().resolve()]
    for folder in (target_dir(), (PROJECT_DIR / os.environ.get("DBT_LOG_PATH", "logs")).resolve()):
        if folder.is_dir() and not any(folder.is_relative_to(other) for other in result):
            result.append(folder)
    return result


def all_files() -> list[Path]:
    """All files in the folders, except vocabularies."""
    files = [file for folder in folders() for file in folder.rglob("*") if file.name != VOCABULARY]
    return sorted(file for file in files if file.is_file() and not file.is_symlink())


def display_name(file: Path) -> str:
    """Path of a file as the receipt names it: relative to the home folder, or to the folder above dbt's."""
    for folder in folders():
        if file.is_relative_to(folder):
            relative = file.relative_to(folder)
            return str(relative if folder == home().resolve() else Path(folder.name) / relative)
    return str(file)


def kind_of(file: Path) -> str:
    """Kind of a file by its first bytes: ``parquet``, ``duckdb``, ``sqlite``, ``text`` or ``binary``."""
    with file.open("rb") as opened:
        start = opened.read(8192)
    for (offset, magic), kind in MAGIC.items():
        if start.startswith(magic, offset):
            return kind
    return "binary" if b"\0" in start or not _is_utf8(start) else "text"


def warehouse_file() -> Path | None:
    """The warehouse's DuckDB file; None where nothing was built."""
    file = home().resolve() / "churn_radar.duckdb"
    return file if file.exists() else None


@contextmanager
def open_duckdb(file: Path | str, person: Person | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a DuckDB file with the salt and a person's keys; no other process can open it meanwhile.

    Raises a ChurnRadarError if it is in use or damaged.
    """
    with closing(open_database(Path(file)) if file != ":memory:" else duckdb.connect()) as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(duckdb_salt_sql(salt()))
        if person is not None:
            store_keys(connection, person)
        yield connection


def _is_utf8(start: bytes) -> bool:
    try:
        start.decode()
    except UnicodeDecodeError as error:
        return error.start > len(start) - 4  # the last character is cut off
    return True
