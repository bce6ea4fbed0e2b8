"""The SQLite online store, made again from published Parquet where its file was lost or damaged."""

import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from inference.errors import ChurnRadarError
from inference.home import PROJECT_DIR, published, sql_literal
from inference.lock import writing
from inference.warehouse.sqlite_files import is_lost, set_aside

if TYPE_CHECKING:
    from feast import FeatureStore, FeatureView

logger = logging.getLogger(__name__)


def repair_online_store(store: "FeatureStore", thorough: bool = False) -> None:
    """Make the online store again, and say so, where it lies in SQLite and its file was lost or damaged.

    It then has the rows of the last build; the service adds the events since. ``thorough`` reads the whole file to find
    damage. Before the first ``feast apply`` there is nothing to repair.
    """
    if store.config.online_store.type != "sqlite":
        return
    file = Path(store.config.online_store.path)
    if not is_lost(file, thorough):
        return
    was_there = file.exists()
    is_applied = bool(store.registry.get_infra(store.project).infra_objects)
    if not was_there and not is_applied:
        return
    with writing("repair of the online store"):
        if not is_lost(file, thorough):
            return
        logger.warning("%s: %s; it is made again from published files", file, "damaged" if was_there else "missing")
        set_aside(file)
        if is_applied:
            views = [view for view in store.list_feature_views() if view.online]
            store._get_provider().update_infra(store.project, [], views, [], [], partial=True)
            _materialize([view.name for view in views if _has_rows(view)])


def _has_rows(view: "FeatureView") -> bool:
    """Whether the last build made what a view reads: a file, or a table of another warehouse."""
    path = getattr(view.batch_source, "path", None)
    return path is None or Path(path).exists()


def _materialize(views: Sequence[str]) -> None:
    """Load the rows of the last build, as ``feast materialize`` does."""
    scores = published("churn_scores")
    if not scores.exists():
        return
    query = f"select strftime(max(as_of_date), '%Y-%m-%dT00:00:00') from read_parquet({sql_literal(scores)})"
    ((as_of,),) = duckdb.execute(query).fetchall()
    feast = [str(Path(sys.executable).with_name("feast")), "-c", str(PROJECT_DIR / "feature_repo")]
    command = [*feast, "materialize", as_of, as_of, *(f"--views={name}" for name in views)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, close_fds=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        error = next((line for line in reversed(lines) if "Error" in line or "Exception" in line), lines[-1])
        raise ChurnRadarError(f"feast materialize: {error}")
