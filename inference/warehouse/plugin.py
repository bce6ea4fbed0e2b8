"""Preparation of a dbt command in its own process: lock, folders, salt, events of the service, errors in one line."""

import atexit
import gc
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
from dbt.adapters.duckdb.credentials import DuckDBCredentials
from dbt.adapters.duckdb.environments import Environment
from dbt.adapters.duckdb.plugins import BasePlugin
from dbt.adapters.factory import FACTORY
from dbt.flags import get_flags
from dbt_common.exceptions import DbtRuntimeError

from inference.errors import ChurnRadarError
from inference.event_log.events import EventLogDownError
from inference.event_log.export import export_home
from inference.home import sql_literal
from inference.lock import hold
from inference.progress import show_log
from inference.pseudonyms import duckdb_salt_sql, salt
from inference.threads import n_threads, prepare_threads
from inference.warehouse.extensions import extension_settings, require_scanner
from inference.warehouse.manifest import note_target, note_warehouse
from inference.warehouse.reader import open_database

#: dbt commands that run Python models.
BUILDS = ("build", "run", "retry")

logger = logging.getLogger(__name__)
_run_python_job = Environment.run_python_job


@contextmanager
def errors_for_dbt() -> Iterator[None]:
    """Turn ChurnRadarError into dbt's own error, of which dbt prints the message and no traceback."""
    try:
        yield
    except ChurnRadarError as error:
        raise DbtRuntimeError(str(error)) from None


@errors_for_dbt()
def prepare(home: Path) -> None:
    """Prepare ``CHURN_HOME`` and this process for a dbt command; each adapter calls it before its first connection."""
    show_log()
    hold(f"dbt {getattr(get_flags(), 'WHICH', '')}".strip(), home)
    for name in ("features", "published"):  # SQL writes to them
        (home / name).mkdir(parents=True, exist_ok=True)
    salt(home)
    note_project_target()
    try:
        export_home()  # what the service accepted, as Parquet, which staging reads
    except EventLogDownError as error:
        logger.warning("%s. Events accepted since the last build are left for the next one", error)
    if getattr(get_flags(), "WHICH", None) in BUILDS:
        # a build keeps millions of objects, and each run of the garbage collector takes seconds
        gc.set_threshold(100_000)
        atexit.register(gc.freeze)


def note_project_target() -> None:
    """Note where the running dbt command writes its manifest: dbt knows it from flag, variable and project file."""
    for adapter in FACTORY.adapters.values():
        config = getattr(adapter, "config", None)
        if folder := getattr(config, "project_target_path", None):  # `dbt debug` has a profile and no project
            note_target(Path(folder).absolute())


def import_torch() -> None:
    """Import torch before a Python model runs: scipy fails in one thread while another is importing torch."""
    import torch  # noqa: F401


class Plugin(BasePlugin):
    """Plugin of dbt-duckdb: prepares ``CHURN_HOME`` before DuckDB opens its file, and sets up each session."""

    def initialize(self, plugin_config: dict) -> None:
        """Prepare the folder ``plugin_config["home"]``."""
        self.home = Path(plugin_config["home"])
        prepare(self.home)
        # dbt-duckdb prints the traceback of a Python model that fails, and has no setting for that
        Environment.run_python_job = staticmethod(run_python_job)

    @errors_for_dbt()
    def update_connection_config(self, creds: DuckDBCredentials, config: dict[str, Any]) -> None:
        """Set threads, refuse attachments without their extension, let a database in memory spill to ``CHURN_HOME``."""
        prepare_threads()
        for attachment in creds.attach or []:
            require_scanner(attachment.type)
        if creds.path != ":memory:":
            # dbt prints DuckDB's own error with a traceback
            open_database(Path(creds.path)).close()
            note_warehouse(Path(creds.path))
        else:
            config["temp_directory"] = str(self.home / "duckdb_temporary")

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Let DuckDB find extensions that are installed as packages; note the target folder of each dbt command.

        A process keeps its plugins through several commands. The folder is not given to ``duckdb.connect``, which
        would then refuse other connections of the process without it.
        """
        for name, value in extension_settings(self.home).items():
            conn.execute(f"set {name} = {sql_literal(value)}")
        note_project_target()

    @errors_for_dbt()
    def configure_cursor(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Set the variable ``churn_salt``, so that neither compiled SQL nor dbt's log contains the salt.

        ``CHURN_MEMORY``, such as 8GB, bounds the memory that DuckDB takes before it spills to disk; its own default
        is 80 % of the machine's. ``CHURN_THREADS`` bounds its threads.
        """
        cursor.execute(duckdb_salt_sql(salt(self.home)))
        if memory := os.environ.get("CHURN_MEMORY"):
            try:
                cursor.execute(f"set memory_limit = {sql_literal(memory)}")
            except duckdb.ParserException:
                raise ChurnRadarError(f"CHURN_MEMORY is {memory}; expected a size such as 8GB") from None
        if os.environ.get("CHURN_THREADS"):
            cursor.execute(f"set threads = {n_threads()}")


def run_python_job(*arguments: Any) -> None:
    """Run a Python model as dbt-duckdb does; where it raises ChurnRadarError, raise that message alone."""
    import_torch()
    try:
        _run_python_job(*arguments)
    except DbtRuntimeError as error:
        if isinstance(error.__context__, ChurnRadarError):
            raise DbtRuntimeError(str(error.__context__)) from None
        raise
