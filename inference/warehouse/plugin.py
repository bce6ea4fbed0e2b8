"""What SQL cannot do before a build: make directories, know the salt, read the service's log of events."""

import atexit
import gc
import os
from pathlib import Path

import duckdb
from dbt.adapters.duckdb.plugins import BasePlugin
from dbt.adapters.factory import FACTORY

from inference.errors import ChurnRadarError
from inference.progress import show_log
from inference.pseudonyms import ERASED_CUSTOMERS, duckdb_salt_sql, salt
from inference.warehouse.event_log import SCHEMAS, export
from inference.warehouse.late_torch import allow_late_torch
from inference.warehouse.manifest import note_target

#: Parquet files of ``CHURN_HOME`` that a build reads beside the shop's tables, without their endings.
HOME_TABLES = (ERASED_CUSTOMERS.removesuffix(".parquet"), "events/through", *(f"events/{table}" for table in SCHEMAS))


def prepare(home: Path) -> None:
    """Create what is missing or new below the folder of all state.

    Its folders and its salt are made, and what the service accepted is written as Parquet, which staging reads.
    Torch may be imported by a build's threads from then on.

    Parameters
    ----------
    home : Path
        ``CHURN_HOME``.
    """
    for name in ("features", "published"):
        (home / name).mkdir(parents=True, exist_ok=True)
    show_log()
    salt(home)
    note_project_target()
    export(home / "events")
    allow_late_torch()
    # a build loads millions of objects that stay: looking for cycles among them takes seconds, most at its end
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)


def note_project_target() -> None:
    """Note where the running dbt command writes its manifest: dbt knows it by flag, variable and project file."""
    for adapter in FACTORY.adapters.values():
        if folder := getattr(adapter.config, "project_target_path", None):  # `dbt debug` has a profile and no project
            note_target(Path(folder).absolute())


class Plugin(BasePlugin):
    """Plugin of dbt-duckdb that prepares ``CHURN_HOME`` before DuckDB opens its file; hands each session the salt."""

    def initialize(self, plugin_config: dict) -> None:
        """Create what is missing or new below ``plugin_config["home"]``."""
        self.home = Path(plugin_config["home"])
        prepare(self.home)

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Note the target folder anew for each dbt command of a process, which keeps its plugins."""
        note_project_target()

    def configure_cursor(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Set the variable ``churn_salt``, so that neither compiled SQL nor dbt's log says what the salt is.

        ``CHURN_MEMORY``, such as 8GB, bounds what DuckDB takes before it spills to disk, four fifths of the memory
        otherwise.
        """
        cursor.execute(duckdb_salt_sql(salt(self.home)))
        if memory := os.environ.get("CHURN_MEMORY"):
            try:
                cursor.execute("set memory_limit = '" + memory.replace("'", "''") + "'")
            except duckdb.ParserException:
                raise ChurnRadarError(f"CHURN_MEMORY is {memory}; expected a size such as 8GB") from None
