"""Where things lie: the project, its state, the raw tables."""

import os
from pathlib import Path

PROJECT_DIR = Path(__file__).resolve().parents[1]


def home() -> Path:
    """Folder of all state: ``CHURN_HOME``, relative to the project, ``.churn`` by default."""
    return PROJECT_DIR / Path(os.environ.get("CHURN_HOME") or ".churn").expanduser()


def raw_dir() -> Path:
    """Folder of the raw Parquet files: ``CHURN_RAW_DIR``, by default ``raw`` in the home folder."""
    return PROJECT_DIR / Path(os.environ.get("CHURN_RAW_DIR") or home() / "raw").expanduser()


def published(table: str) -> Path:
    """Parquet file of a published table, which is always complete."""
    return home() / "published" / f"{table}.parquet"


def default_manifest_path() -> Path:
    """Return dbt's manifest in ``DBT_TARGET_PATH``, ``target`` in the project by default."""
    return PROJECT_DIR / os.environ.get("DBT_TARGET_PATH", "target") / "manifest.json"
