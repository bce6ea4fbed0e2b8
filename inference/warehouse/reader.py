"""Reading the warehouse outside of a build."""

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from inference.errors import ChurnRadarError
from inference.home import home
from inference.pseudonyms import pseudonym
from inference.warehouse.manifest import Manifest


@contextmanager
def customer_tables(customer_id: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """Connect to the warehouse's DuckDB file, or to a copy in memory of a customer's rows in PostgreSQL or Spark.

    Parameters
    ----------
    customer_id : str
        The shop's own id, or its pseudonym.

    Yields
    ------
    DuckDBPyConnection
        With ``churn_predictions`` and ``order_features``.

    Raises
    ------
    ChurnRadarError
        If there is no warehouse yet.
    """
    file = home() / "churn_radar.duckdb"
    ids = ", ".join("'" + i.replace("'", "''") + "'" for i in (customer_id, pseudonym(customer_id)))
    if Manifest.load().warehouse == "spark":
        from inference.warehouse import spark  # of an extra

        with duckdb.connect() as memory:
            for table in ("churn_predictions", "order_features"):
                query = f"select * from {spark.schema()}.{table} where customer_id in ({ids})"
                memory.register(table, spark.session().sql(query).toArrow())
            yield memory
    elif Manifest.load().warehouse == "postgres":
        from inference.warehouse import postgres  # of an extra

        with postgres.connect() as connection:
            for table in ("churn_predictions", "order_features"):
                rows = postgres.query(connection, f"select * from {table} where customer_id in ({ids})")
                connection.register(table, rows)
            yield connection
    elif file.exists():
        with duckdb.connect(file, read_only=True) as connection:
            yield connection
    else:
        raise ChurnRadarError(f"{file}: no such file; run dbt build first")
