"""Spark in this process: its session, tables that change by taking another's place, Parquet files."""

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
from pyspark.errors import PythonException

from inference.errors import ChurnRadarError
from inference.home import home
from inference.pseudonyms import salt

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: What SQL means, wherever it runs: timestamps without a zone are UTC, what cannot be cast or overflows is an error.
MEANING = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.timestampType": "TIMESTAMP_NTZ",
    "spark.sql.ansi.enabled": "true",
    # pandas writes nanoseconds, which Spark reads as numbers or not at all
    "spark.sql.legacy.parquet.nanosAsLong": "true",
    # files that a killed build left where a table is made are not of it
    "spark.sql.legacy.allowNonEmptyLocationInCTAS": "true",
}
#: Types of DuckDB that Spark does not read from Parquet, and those that take their place.
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
#: Ends of the names of a table that is being written, and of one that gave its place to it.
NEW, OLD = "__dbt_new", "__dbt_old"
#: Variables that Python on executors has to know as well.
TOLD_TO_EXECUTORS = ("CHURN_HOME", "CHURN_DEVICE", "CHURN_ENCODER", "CHURN_ENCODER_FIDELITY", "PYTHONPATH")
_starting = Lock()


def settings(folder: Path) -> dict[str, str]:
    """Return the settings of a session.

    Parameters
    ----------
    folder : Path
        ``CHURN_HOME``.

    Returns
    -------
    dict of str to str
        What SQL means; a session of two cores on this machine, with its tables in the folder, unless
        ``SPARK_CONF_DIR`` has a ``spark-defaults.conf``; what ``CHURN_SPARK_CONF`` says, as
        ``spark.master=spark://host:7077 spark.executor.memory=8g``.
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
    told = {f"spark.executorEnv.{name}": os.environ[name] for name in TOLD_TO_EXECUTORS if name in os.environ}
    always = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
    }
    return {**({} if defaults.exists() else local), **always, **told, **given, **MEANING}


def schema() -> str:
    """Schema that dbt builds in; the default is that of ``profiles.yml``."""
    return os.environ.get("CHURN_SPARK_SCHEMA", "churn_radar")


def session(tables: bool = True) -> "SparkSession":
    """Return the session of this process; it is started where there is none.

    Parameters
    ----------
    tables : bool
        Whether its tables are those of the metastore, which one process at a time can open where it is local.
    """
    with _starting:
        from pyspark.sql import SparkSession

        if found := SparkSession._instantiatedSession:
            return found
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        logging.getLogger("SQLQueryContextLogger").disabled = True  # says every error a second time
        logging.getLogger("py4j").setLevel(logging.ERROR)
        (home() / "spark").mkdir(parents=True, exist_ok=True)
        builder = SparkSession.builder.appName("churn-radar")
        for name, value in settings(home()).items():
            builder = builder.config(name, value)
        return (builder.enableHiveSupport() if tables else builder).getOrCreate()


def scratch(folder: Path) -> Path:
    """Folder of files that live as long as a build."""
    return folder.absolute() / "spark" / "scratch"


def write_salt(folder: Path) -> None:
    """Write the salt where SQL reads it, for the views of staging; nobody else may."""
    file = folder / "spark" / "salt"
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists() and file.read_text() == salt(folder):
        return
    beside = file.with_name(f"salt.{os.getpid()}")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
        opened.write(salt(folder))
    beside.replace(file)


def salt_relation(folder: Path) -> str:
    """Return the file with the salt as a relation of one row and one column, ``value``."""
    return f"text.`{folder.absolute() / 'spark' / 'salt'}`"


def mend(spark: "SparkSession", schema: str) -> None:
    """Bring back tables that a killed build took from their place, and drop what it left beside them."""
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


def new_name(table: str) -> str:
    """Name of a table that is written to take the place of another."""
    return f"{table}{NEW}"


def put_in_place(relation: str) -> None:
    """Let the table of the new name take the place of a table or view; between two renames a reader finds neither."""
    spark = session()
    if spark.catalog.tableExists(relation):
        if spark.catalog.getTable(relation).tableType == "VIEW":
            spark.sql(f"drop view {relation}")
        else:
            spark.sql(f"drop table if exists {relation}{OLD}")
            spark.sql(f"alter table {relation} rename to {relation}{OLD}")
    spark.sql(f"alter table {new_name(relation)} rename to {relation}")
    spark.sql(f"drop table if exists {relation}{OLD}")


def rewrite(relation: str, query: str) -> None:
    """Let what a query answers, which may read the table, take the place of a table's rows; its comment stays."""
    spark, new = session(), new_name(relation)
    comment = table_comment(relation)
    said = f"comment '{comment}'" if comment else ""
    spark.sql(f"drop table if exists {new}")
    spark.sql(f"create table {new} using parquet {said} as {query}")
    put_in_place(relation)


def table_comment(relation: str) -> str | None:
    """Return the comment on a table; None where there is none, or no table."""
    spark = session()
    return spark.catalog.getTable(relation).description if spark.catalog.tableExists(relation) else None


def column_types(relation: str) -> dict[str, str] | None:
    """Return the types of a relation's columns in capitals, by names in lower case; None where there is no such one."""
    from pyspark.errors import AnalysisException

    try:
        found = session().sql(f"select * from {relation} as described").schema
    except AnalysisException as error:
        if error.getCondition() in ("PATH_NOT_FOUND", "TABLE_OR_VIEW_NOT_FOUND"):
            return None
        raise
    types = {field.name.lower(): field.dataType.simpleString().upper() for field in found}
    return {name: '"NULL"' if kind == "VOID" else kind for name, kind in types.items()}


def file_relation(file: str | Path) -> str:
    """Return a Parquet file as a relation, whether there is one or not; nanoseconds are read as microseconds."""
    if "://" in str(file):
        return f"parquet.`{file}`"
    path = Path(file).expanduser().absolute()
    return _local_file(path, path.stat().st_mtime_ns if path.is_file() else None)


@cache
def _local_file(path: Path, written: int | None) -> str:
    relation = f"parquet.`{path}`"
    fields = [] if written is None else pq.read_schema(path)
    if not any(pa.types.is_timestamp(field.type) and field.type.unit == "ns" for field in fields):
        return relation
    columns = (
        f"cast(timestamp_micros(`{field.name}` div 1000) as timestamp_ntz) as `{field.name}`"
        if pa.types.is_timestamp(field.type) and field.type.unit == "ns"
        else f"`{field.name}`"
        for field in fields
    )
    return f"(select {', '.join(columns)} from {relation})"


def export(query: str, file: Path) -> None:
    """Write what a query answers to one Parquet file as DuckDB writes it, beside it and renamed into place."""
    parts, beside = scratch(home()) / f"export_{file.stem}", file.absolute().with_name(f"tmp_{file.name}")
    shutil.rmtree(parts, ignore_errors=True)
    session().sql(query).write.parquet(parts.as_uri())
    with duckdb.connect() as writer:
        writer.execute(
            f"copy (from read_parquet('{parts}/*.parquet')) to '{beside}' (format parquet, compression zstd)"
        )
    beside.replace(file)
    shutil.rmtree(parts, ignore_errors=True)


class ModelSession:
    """What a Python model knows as its session: SQL of Spark, answered as relations of DuckDB over Parquet files.

    Parameters
    ----------
    memory : DuckDBPyConnection
        Where relations live until the model has ended.
    folder : Path
        Where files live as long.
    """

    def __init__(self, memory: duckdb.DuckDBPyConnection, folder: Path) -> None:
        self._memory = memory
        self._folder = folder
        self._numbers = count()

    def sql(self, query: str) -> duckdb.DuckDBPyRelation:
        """Return what a query answers."""
        if "information_schema.tables" in query:  # which Spark has not
            self._name_tables()
            return self._memory.sql(query)
        part = self._folder / f"read_{next(self._numbers)}"
        session().sql(query).write.parquet(part.as_uri())
        return self._memory.read_parquet(f"{part}/*.parquet")

    def table(self, relation: str) -> duckdb.DuckDBPyRelation:
        """Return the rows of a table."""
        return self.sql(f"select * from {relation}")

    def _name_tables(self) -> None:
        for schema in (database.name for database in session().catalog.listDatabases()):
            self._memory.execute(f'create schema if not exists "{schema}"')
            for table in _tables(session(), schema):
                self._memory.execute(f'create table if not exists "{schema}"."{table}" (nothing integer)')


def take_gpu() -> None:
    """See the GPU alone that Spark gave this task, where it gave one; CUDA looks once, when a model is first loaded."""
    context = TaskContext.get()
    if context is not None and "gpu" in (given := context.resources()):
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", ",".join(given["gpu"].addresses))


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Say what an executor refused in the words in which this process would have."""
    try:
        yield
    except PythonException as error:
        if said := re.search(r"ChurnRadarError: (.*)", str(error)):
            raise ChurnRadarError(said[1]) from None
        raise
