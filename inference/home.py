"""Folders and files of the project and of its state, and PostgreSQL's address."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import uuid4

PROJECT_DIR = Path(__file__).resolve().parents[1]
#: Names of this machine: a server that listens on one of them cannot be reached from elsewhere.
LOOPBACK = ("127.0.0.1", "::1", "localhost")

#: Scores are of today for so many days; a shop may build once a week.
FRESH_DAYS = 7

#: Folders of the home whose files are made again if they are missing: effects learned from contacts, and graphs for
#: OpenVINO.
EFFECTS, GRAPHS = "effects", "embeddings/openvino"


def home() -> Path:
    """Folder of all state: ``CHURN_HOME``, relative to the project, ``.churn`` by default."""
    return PROJECT_DIR / Path(os.environ.get("CHURN_HOME") or ".churn").expanduser()


#: Name of the PostgreSQL database in DuckDB, which ``profiles.yml`` attaches it under.
POSTGRES_DATABASE = "postgres"


def postgres_settings() -> dict[str, str | int]:
    """Connection settings of PostgreSQL from libpq's variables, with the defaults of ``profiles.yml``."""
    return {
        "host": os.environ.get("PGHOST", "127.0.0.1"),
        "port": int(os.environ.get("PGPORT", "5432")),
        "user": os.environ.get("PGUSER", "postgres"),
        "password": os.environ.get("PGPASSWORD", ""),
        "dbname": os.environ.get("PGDATABASE", "churn_radar"),
    }


def postgres_schema() -> str:
    """Schema that dbt builds in; the default is that of ``profiles.yml``."""
    return os.environ.get("CHURN_POSTGRES_SCHEMA", "churn_radar")


def raw_dir() -> Path:
    """Folder of the raw Parquet files: ``CHURN_RAW_DIR``, by default ``raw`` in the home folder."""
    return PROJECT_DIR / Path(os.environ.get("CHURN_RAW_DIR") or home() / "raw").expanduser()


def published(table: str) -> Path:
    """Parquet file of a published table; it is replaced as a whole."""
    return home() / "published" / f"{table}.parquet"


def old_scores(as_of: date) -> str | None:
    """Say in a line how old the newest scores are; None in their first week."""
    days = (datetime.now(UTC).date() - as_of).days
    if days <= FRESH_DAYS:
        return None
    return f"The newest scores are {days:,} days old and know nothing since; load newer raw tables and run dbt build."


def sql_literal(value: str | Path) -> str:
    """Write a text, such as a path, in SQL."""
    return "'" + str(value).replace("'", "''") + "'"


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path beside a file to write to, which takes the file's place when the block ends without an error.

    A reader sees the old file or the new one, never a part. What a killed process leaves ends in ``.partial``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{uuid4().hex[:8]}.partial")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
