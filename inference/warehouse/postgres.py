"""PostgreSQL in Arrow batches, through ADBC: what queries answer, tables, Parquet files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import adbc_driver_postgresql.dbapi as adbc
import duckdb
import psycopg2.extensions
import pyarrow as pa
import pyarrow.parquet as pq


def session_dsn(**settings: str | int | None) -> str:
    """Return a connection string of libpq for sessions in UTC.

    Parameters
    ----------
    **settings : str or int
        Settings of libpq, such as ``host``; those that are None or empty are left to libpq and its variables.
    """
    given = {name: value for name, value in settings.items() if value not in (None, "")}
    return psycopg2.extensions.make_dsn(**{**given, "options": f"{given.get('options', '')} -c timezone=UTC"})


@contextmanager
def connect(dsn: str, *settings: str) -> Iterator[adbc.Connection]:
    """Open a transaction, which is committed at the end and rolled back on an error.

    Parameters
    ----------
    dsn : str
        Connection string.
    *settings : str
        Statements that the session begins with.
    """
    with adbc.connect(dsn) as connection:
        for statement in settings:
            execute(connection, statement)
        yield connection
        connection.commit()


def execute(connection: adbc.Connection, statement: str) -> None:
    """Run a statement that answers nothing."""
    with connection.cursor() as cursor:
        cursor.execute(statement)


def is_there(connection: adbc.Connection, relation: str) -> bool:
    """Tell whether there is a table or view of this name."""
    with connection.cursor() as cursor:
        cursor.execute(f"select to_regclass('{relation}') is not null")
        return cursor.fetchone()[0]


@contextmanager
def read(connection: adbc.Connection, query: str) -> Iterator[pa.RecordBatchReader]:
    """Answer a query batch by batch.

    Parameters
    ----------
    connection : Connection
        Of ADBC.
    query : str
        SQL of PostgreSQL.

    Yields
    ------
    RecordBatchReader
        Columns have the types of Arrow that are nearest; ``numeric`` are float64, other types without one are texts.
    """
    with connection.cursor() as cursor:
        cursor.execute(query)
        found = cursor.fetch_record_batch()
        schema = pa.schema([_plain_field(field) for field in found.schema])
        yield pa.RecordBatchReader.from_batches(schema, (_plain_batch(batch, schema) for batch in found))


def write(connection: adbc.Connection, schema: str, table: str, rows: pa.RecordBatchReader) -> None:
    """Make a table of these rows, in place of one that is there."""
    with connection.cursor() as cursor:
        cursor.adbc_ingest(table, rows, mode="replace", db_schema_name=schema)


def export(connection: adbc.Connection, query: str, file: Path) -> None:
    """Write what a query answers to a Parquet file as DuckDB writes it, beside it and renamed into place."""
    beside = file.with_name(f"tmp_{file.name}")
    with duckdb.connect() as writer, read(connection, query) as rows:
        writer.register("rows", rows)
        writer.execute(f"copy rows to '{beside}' (format parquet, compression zstd)")
    beside.replace(file)


def load(connection: adbc.Connection, schema: str, table: str, file: Path) -> int:
    """Make a table hold the rows of a Parquet file; views on the table stay while its columns are the same.

    Parameters
    ----------
    connection : Connection
        Of ADBC.
    schema, table : str
        Which table; made where it is missing.
    file : Path
        Parquet.

    Returns
    -------
    int
        How many rows it has.
    """
    relation = f'"{schema}"."{table}"'
    rows = pq.read_table(file)
    with connection.cursor() as cursor:
        is_kept = is_there(connection, relation)
        if is_kept:
            is_kept = connection.adbc_get_table_schema(table, db_schema_filter=schema).names == rows.schema.names
            cursor.execute(f"truncate {relation}" if is_kept else f"drop table {relation} cascade")
        cursor.adbc_ingest(table, rows, mode="append" if is_kept else "create", db_schema_name=schema)
    return len(rows)


def _plain_field(field: pa.Field) -> pa.Field:
    if isinstance(field.type, pa.OpaqueType):
        return field.with_type(pa.float64() if field.type.type_name == "numeric" else field.type.storage_type)
    if isinstance(field.type, pa.JsonType):
        return field.with_type(field.type.storage_type)
    return field


def _plain_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns = [
        column.storage.cast(field.type)
        if isinstance(column, pa.ExtensionArray) and column.type != field.type
        else column
        for column, field in zip(batch.columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
