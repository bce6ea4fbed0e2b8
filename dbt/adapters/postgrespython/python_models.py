"""Python models in this process: they read Arrow tables as DuckDB relations, as they do in dbt-duckdb."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import duckdb
import pyarrow as pa
from dbt.adapters import inprocess

from inference.warehouse import postgres


class Session:
    """What a Python model knows as its session: SQL of PostgreSQL, answered as relations of DuckDB.

    Parameters
    ----------
    warehouse : Connection
        ADBC's connection to PostgreSQL.
    memory : DuckDBPyConnection
        Where relations live until the model has ended.
    """

    def __init__(self, warehouse, memory: duckdb.DuckDBPyConnection) -> None:
        self._warehouse = warehouse
        self._memory = memory

    def sql(self, query: str) -> duckdb.DuckDBPyRelation:
        """Return what a query answers."""
        with postgres.read(self._warehouse, query) as rows:
            return self._memory.from_arrow(rows.read_all())

    def table(self, relation: str) -> duckdb.DuckDBPyRelation:
        """Return the rows of a table."""
        return self.sql(f"select * from {relation}")


def run(parsed_model: dict, connect: Callable[[], AbstractContextManager], schema: str, staged: str) -> list[str]:
    """Run a model and write its rows to a table.

    Parameters
    ----------
    parsed_model : dict
        The node, with its compiled code.
    connect : callable
        Opens a transaction of ADBC.
    schema, staged : str
        The table that is made of the rows.

    Returns
    -------
    list of str
        The table's columns as SQL; texts are compared by their bytes, whatever the database's collation.
    """
    with connect() as warehouse, duckdb.connect() as memory:
        rows = inprocess.run(parsed_model, Session(warehouse, memory), memory).to_arrow_reader()
        postgres.write(warehouse, schema, staged, rows)
    return [_column(field) for field in rows.schema]


def _column(field: pa.Field) -> str:
    name = '"' + field.name.replace('"', '""') + '"'
    return f'{name} collate "C" as {name}' if pa.types.is_string(field.type) else name
