"""SQLite files that were damaged: found, and set aside before they are made again."""

import sqlite3
from contextlib import closing
from pathlib import Path

#: Errors of SQLite where a file is none of its own, or has wrong pages.
DAMAGE = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


def is_lost(file: Path, thorough: bool = False) -> bool:
    """Whether an SQLite file is missing, has no table, or is damaged; ``thorough`` reads all of its pages."""
    if not file.exists():
        return True
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=1)) as connection:
            has_tables = connection.execute("select 1 from sqlite_master where type = 'table' limit 1").fetchone()
            check = connection.execute("pragma quick_check(1)").fetchone() if thorough else ("ok",)
            return not has_tables or check != ("ok",)
    except sqlite3.DatabaseError as error:
        return is_damage(error)  # not where another process holds the file


def is_damage(error: sqlite3.Error) -> bool:
    """Whether an error of SQLite says that its file is damaged."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGE


def set_aside(file: Path) -> None:
    """Rename a damaged file to ``.damaged``, and remove the files of its transactions, which belong to no other."""
    if file.exists():
        file.replace(file.with_name(f"{file.name}.damaged"))
    for end in ("-wal", "-shm", "-journal"):
        file.with_name(file.name + end).unlink(missing_ok=True)
