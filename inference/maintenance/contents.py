"""What a home folder holds, read without changing anything in it."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb

from inference.home import EFFECTS, GRAPHS, sql_literal
from inference.lock import LOCK
from inference.registry.contents import CHAMPION, MODEL_NAME

#: Folders of a home that are no part of what is kept: builds make them again, and one links to installed packages.
MADE_AGAIN = (EFFECTS, GRAPHS, "duckdb_extensions", "duckdb_temporary")
#: Ends of the names of files that a process has not finished.
UNFINISHED = (".partial", ".partial.wal")


@dataclass(frozen=True)
class Published:
    """The newest published scores."""

    as_of_date: date
    customers: int
    #: One of the customers.
    customer_id: str


def files_of(home: Path) -> list[Path]:
    """Paths of a home's files, relative to it, also of those behind links; without unfinished ones and the lock."""
    found: list[Path] = []
    seen: set[Path] = set()
    for at, folders, files in os.walk(home, followlinks=True):
        here = Path(at)
        seen.add(here.resolve())  # links may make a circle
        folders[:] = [
            name
            for name in folders
            if str((here / name).relative_to(home)) not in MADE_AGAIN
            and not name.endswith(UNFINISHED)
            and (here / name).resolve() not in seen
        ]
        found += [(here / name).relative_to(home) for name in files if not name.endswith((*UNFINISHED, LOCK))]
    return sorted(found)


@contextmanager
def read_sqlite(file: Path) -> Iterator[sqlite3.Connection]:
    """Connect to an SQLite file; unlike SQLite's own read-only mode, no file is made beside it."""
    with file.open("rb") as opened:
        is_write_ahead = opened.read(20)[18:19] == b"\2"
    # without a write-ahead file, no other process has the database open, or none has written yet
    is_still = is_write_ahead and not file.with_name(f"{file.name}-wal").exists()
    mode = "immutable=1" if is_still else "mode=ro"
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?{mode}", uri=True)) as connection:
        yield connection


def champion(home: Path) -> tuple[str, str] | None:
    """Number and run of the champion in the home's own model registry; None where it has none."""
    file = home / "mlflow" / "mlflow.db"
    if not file.exists():
        return None
    with read_sqlite(file) as connection:
        query = (
            "select versions.version, run_id from registered_model_aliases as aliases "
            "join model_versions as versions on versions.name = aliases.name and versions.version = aliases.version "
            "where aliases.name = ? and alias = ?"
        )
        row = connection.execute(query, [MODEL_NAME, CHAMPION]).fetchone()
    return (str(row[0]), row[1]) if row else None


def published_scores(home: Path) -> Published | None:
    """The newest scores of ``churn_scores``; None before the first build."""
    file = home / "published" / "churn_scores.parquet"
    if not file.exists():
        return None
    with duckdb.connect() as connection:
        newest = connection.execute(
            f"select as_of_date, count(distinct customer_id), min(customer_id) from {sql_literal(file)} "
            "group by as_of_date order by as_of_date desc limit 1"
        ).fetchone()
    return Published(*newest) if newest else None


def summary(home: Path) -> str:
    """Say which scores and which champion a home has, such as "2,469 customers as of 2017-12-01, champion 1"."""
    scores, version = published_scores(home), champion(home)
    said = f"{scores.customers:,} customers scored as of {scores.as_of_date}" if scores else "no scores yet"
    return f"{said}, champion {version[0]}" if version else f"{said}, no champion of its own registry"
