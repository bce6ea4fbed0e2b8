"""Spark in this process: its session, tables that are replaced as a whole, Parquet files."""

import logging
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark import TaskContext
from pyspark.errors import AnalysisException, PythonException

from inference.errors import ChurnRadarError
from inference.home import home, sql_literal, whole_file
from inference.pseudonyms import salt
from inference.threads import prepare_threads

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: Settings that results depend on: timestamps without a zone are UTC, failed casts and overflows are errors.
SQL_SETTINGS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.timestampType": "TIMESTAMP_NTZ",
    "spark.sql.ansi.enabled": "true",
    # pandas writes nanoseconds, which Spark reads as integers or not at all
    "spark.sql.legacy.parquet.nanosAsLong": "true",
    # a killed build may have left files in the folder of a table that is created
    "spark.sql.legacy.allowNonEmptyLocationInCTAS": "true",
}
#: DuckDB types that Spark cannot read from Parquet, and what they are cast to.
PLAIN_TYPES = {
    "TIMESTAMP_NS": "TIMESTAMP",
    "TIMESTAMP_S": "TIMESTAMP",
    "TIMESTAMP_MS": "TIMESTAMP",
    "UTINYINT": "SMALLINT",
    "USMALLINT": "INTEGER",
    "UINTEGER": "BIGINT",
    "UBIGINT": "BIGINT",
    "HUGEINT": "BIGINT",
    '"NULL"': "VARCHAR",
}
#: Suffixes of a table that is being written, and of the one that it replaces.
NEW, OLD = "__dbt_new", "__dbt_old"
#: Environment variables that are passed to Python on executors.
EXECUTOR_VARIABLES = (
    "CHURN_HOME",
    "CHURN_DEVICE",
    "CHURN_ENCODER",
    "CHURN_ENCODER_FIDELITY",
    "GOMP_SPINCOUNT",
    "OMP_WAIT_POLICY",
    "PYTHONPATH",
)
_starting = Lock()


def settings(folder: Path) -> dict[str, str]:
    """Return the settings of a session whose ``CHURN_HOME`` is ``folder``.

    Later ones override earlier ones: two cores of this machine with tables in the folder, unless ``SPARK_CONF_DIR`` has
    a ``spark-defaults.conf``; the variable ``CHURN_SPARK_CONF``, such as ``spark.master=spark://host:7077
    spark.executor.memory=8g``; ``SQL_SETTINGS``.
    """
    state = folder.absolute() / "spark"
    local = {
        "spark.master": "local[2]",
        "spark.driver.memory": "2g",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.sql.shuffle.partitions": "4",
        "spark.sql.warehouse.dir": (state / "warehouse").as_uri(),
        "spark.hadoop.javax.jdo.option.ConnectionURL": f"jdbc:derby:;databaseName={state / 'metastore'};create=true",
        "spark.driver.extraJavaOptions": f"-Dderby.stream.error.file={state / 'derby.log'}",
    }
    defaults = Path(os.environ.get("SPARK_CONF_DIR", "/nonexistent"), "spark-defaults.conf")
    given = dict(pair.split("=", 1) for pair in shlex.split(os.environ.get("CHURN_SPARK_CONF", "")))
    executors = {f"spark.executorEnv.{name}": os.environ[name] for name in EXECUTOR_VARIABLES if name in os.environ}
    always = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
    }
    return {**({} if defaults.exists() else local), **always, **executors, **given, **SQL_SETTINGS}


def schema() -> str:
    """Schema that dbt builds in; the default is that of ``profiles.yml``."""
    return os.environ.get("CHURN_SPARK_SCHEMA", "churn_radar")


def session(tables: bool = True) -> "SparkSession":
    """Return the session of this process, started if there is none.

    A new one opens the metastore if ``tables`` is true, which only one process at a time can do where it is local.
    """
    prepare_threads()  # workers get the variables
    with _starting:
        from pyspark.sql import SparkSession

        if running := SparkSession._instantiatedSession:
            return running
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        logging.getLogger("SQLQueryContextLogger").disabled = True  # logs every error a second time
        logging.getLogger("py4j").setLevel(logging.ERROR)
        (home() / "spark").mkdir(parents=True, exist_ok=True)
        builder = SparkSession.builder.appName("churn-radar")
        for name, value in settings(home()).items():
            builder = builder.config(name, value)
        return (builder.enableHiveSupport() if tables else builder).getOrCreate()


def scratch(folder: Path) -> Path:
    """Folder of temporary files of a build."""
    return folder.absolute() / "spark" / "scratch"


def write_salt(folder: Path) -> None:
    """Write the salt to a file that only its owner can read, for the staging views."""
    file = folder / "spark" / "salt"
    if file.exists() and file.read_text() == salt(folder):
        return
    with whole_file(file) as beside:
        beside.touch(0o600)
        beside.write_text(salt(folder))


def salt_relation(folder: Path) -> str:
    """Return the file with the salt as a relation of one row and one column, ``value``."""
    return f"text.`{folder.absolute() / 'spark' / 'salt'}`"


def mend(spark: "SparkSession", schema: str) -> None:
    """Restore tables that a killed build was about to replace, and drop its unfinished ones."""
    if not spark.catalog.databaseExists(schema):
        return
    names = _tables(spark, schema)
    for name in sorted(name for name in names if name.endswith(OLD)):
        if name.removesuffix(OLD) not in names:
            spark.sql(f"alter table {schema}.{name} rename to {schema}.{name.removesuffix(OLD)}")
    for name in sorted(names):
        if name.endswith(NEW) or (name.endswith(OLD) and name.removesuffix(OLD) in names):
            spark.sql(f"drop table if exists {schema}.{name}")


def _tables(spark: "SparkSession", schema: str) -> set[str]:
    return {row.tableName for row in spark.sql(f"show tables in {schema}").collect() if not row.isTemporary}


def put_in_place(relation: str) -> None:
    """Replace a table or view by its new table; between the two renames a reader finds neither."""
    spark = session()
    if spark.catalog.tableExists(relation):
        if spark.catalog.getTable(relation).tableType == "VIEW":
            spark.sql(f"drop view {relation}")
        else:
            spark.sql(f"drop table if exists {relation}{OLD}")
            spark.sql(f"alter table {relation} rename to {relation}{OLD}")
    spark.sql(f"alter table {relation}{NEW} rename to {relation}")
    spark.sql(f"drop table if exists {relation}{OLD}")


def rewrite(relation: str, query: str) -> None:
    """Replace the rows of a table by the result of a query, which may read the table; keep the table's comment."""
    spark = session()
    comment = f"comment '{text}'" if (text := table_comment(relation)) else ""
    spark.sql(f"drop table if exists {relation}{NEW}")
    spark.sql(f"create table {relation}{NEW} using parquet {comment} as {query}")
    put_in_place(relation)


def table_comment(relation: str) -> str | None:
    """Return the comment on a table; None if there is no comment or no table."""
    spark = session()
    return spark.catalog.getTable(relation).description if spark.catalog.tableExists(relation) else None


def column_types(relation: str) -> dict[str, str] | None:
    """Return the types of a relation's columns, in capitals by lower-case name; None if there is no such relation."""
    try:
        schema = session().sql(f"select * from {relation} as described").schema
    except AnalysisException as error:
        if error.getCondition() in ("PATH_NOT_FOUND", "TABLE_OR_VIEW_NOT_FOUND"):
            return None
        raise
    types = {field.name.lower(): field.dataType.simpleString().upper() for field in schema}
    return {name: '"NULL"' if kind == "VOID" else kind for name, kind in types.items()}


def file_relation(file: str | Path) -> str:
    """Return a Parquet file, which need not exist, as a relation; nanoseconds are read as microseconds."""
    if "://" in str(file):
        return f"parquet.`{file}`"
    path = Path(file).expanduser().absolute()
    return _local_file(path, path.stat().st_mtime_ns if path.is_file() else None)


@cache
def _local_file(path: Path, written: int | None) -> str:
    relation = f"parquet.`{path}`"
    fields = [] if written is None else pq.read_schema(path)
    nanoseconds = {field.name for field in fields if pa.types.is_timestamp(field.type) and field.type.unit == "ns"}
    if not nanoseconds:
        return relation
    read = "cast(timestamp_micros(`{0}` div 1000) as timestamp_ntz) as `{0}`"
    columns = (read.format(f.name) if f.name in nanoseconds else f"`{f.name}`" for f in fields)
    return f"(select {', '.join(columns)} from {relation})"


def export(query: str, file: Path) -> None:
    """Write the result of a query to one Parquet file, by DuckDB so that files are alike in every warehouse."""
    parts = scratch(home()) / f"export_{file.stem}"
    shutil.rmtree(parts, ignore_errors=True)
    session().sql(query).write.parquet(parts.as_uri())
    with whole_file(file.absolute()) as beside, duckdb.connect() as writer:
        writer.execute(
            f"copy (from read_parquet({sql_literal(parts / '*.parquet')})) to {sql_literal(beside)} "
            "(format parquet, compression zstd)"
        )
    shutil.rmtree(parts, ignore_errors=True)


class ModelSession:
    """The ``session`` of a Python model: Spark SQL, with results as DuckDB relations over Parquet files in a folder."""

    def __init__(self, memory: duckdb.DuckDBPyConnection, folder: Path) -> None:
        self._memory = memory
        self._folder = folder
        self._numbers = count()

    def sql(self, query: str) -> duckdb.DuckDBPyRelation:
        """Return the result of a query."""
        if "information_schema.tables" in query:  # Spark has no such table: make tables of the same names in memory
            for schema in (database.name for database in session().catalog.listDatabases()):
                self._memory.execute(f'create schema if not exists "{schema}"')
                for table in _tables(session(), schema):
                    self._memory.execute(f'create table if not exists "{schema}"."{table}" (nothing integer)')
            return self._memory.sql(query)
        part = self._folder / f"read_{next(self._numbers)}"
        session().sql(query).write.parquet(part.as_uri())
        return self._memory.read_parquet(f"{part}/*.parquet")

    def table(self, relation: str) -> duckdb.DuckDBPyRelation:
        """Return the rows of a table."""
        return self.sql(f"select * from {relation}")


def take_gpu() -> None:
    """Restrict CUDA to the GPUs that Spark assigned to this task, if any; call it before a model is first loaded."""
    context = TaskContext.get()
    if context is not None and "gpu" in (resources := context.resources()):
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", ",".join(resources["gpu"].addresses))


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Raise a ChurnRadarError of an executor with its own message, without Spark's traceback."""
    try:
        yield
    except PythonException as error:
        if match := re.search(r"ChurnRadarError: (.*)", str(error)):
            raise ChurnRadarError(match[1]) from None
        raise
