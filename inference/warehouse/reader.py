"""Opening the warehouse, and reading it outside of a build."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from inference.errors import ChurnRadarError
from inference.home import sql_literal
from inference.pseudonyms import pseudonym
from inference.warehouse.manifest import Manifest, warehouse_file

#: Tables with rows of a customer that a reader needs.
TABLES = ("churn_predictions", "order_features")


def open_database(file: Path, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """Open a DuckDB file; a ChurnRadarError in one line if another process has it open, or it is damaged."""
    try:
        return duckdb.connect(file, read_only=read_only)
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        expected = "nobody who has it open: let them close it"
        if "Could not set lock" not in reason:
            expected = (
                "a DuckDB file: restore it from a backup; without one, remove it and run dbt build, which makes all of "
                "it anew except the scores of earlier dates"
            )
        raise ChurnRadarError(f"{file} cannot be opened; expected {expected} ({reason})") from None


@contextmanager
def customer_tables(customer_id: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """Connect to the warehouse's DuckDB file, or to a copy in memory of a customer's rows in PostgreSQL or Spark.

    The customer's id is the shop's own, or its pseudonym. The connection has ``churn_predictions`` and
    ``order_features``; without a warehouse it raises ChurnRadarError.
    """
    file = warehouse_file()
    ids = ", ".join(map(sql_literal, (customer_id, pseudonym(customer_id))))
    theirs = f"where customer_id in ({ids})"
    if Manifest.load().warehouse == "spark":
        from inference.warehouse import spark  # of an extra

        with duckdb.connect() as memory:
            for table in TABLES:
                rows = spark.session().sql(f"select * from {spark.schema()}.{table} {theirs}")
                memory.register(table, rows.toArrow())
            yield memory
    elif Manifest.load().warehouse == "postgres":
        from inference.warehouse import postgres  # of an extra

        with postgres.connect() as connection:
            for table in TABLES:
                connection.register(table, postgres.query(connection, f"select * from {table} {theirs}"))
            yield connection
    elif file.exists():
        with open_database(file, read_only=True) as connection:
            connection.execute(f'use "{Manifest.load().schema or "main"}"')
            yield connection
    else:
        raise ChurnRadarError(f"{file}: no such file; run dbt build first")
