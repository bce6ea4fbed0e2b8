"""PostgreSQL read by DuckDB: dbt attaches it to write tables there, other programs read through here."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import duckdb
import pyarrow as pa

from inference.home import POSTGRES_DATABASE, home, postgres_schema, postgres_settings, sql_literal
from inference.warehouse.extensions import extension_settings, require_scanner


@contextmanager
def connect(settings: Mapping[str, str | int] | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open DuckDB in memory with PostgreSQL attached for reading, in UTC; tables are searched in the schema of dbt.

    ``settings`` of libpq, such as ``host``, are by default those of ``postgres_settings``. libpq reads the password and
    TLS settings from its own variables (``PGPASSWORD``, ``PGSSLMODE``) and files.
    """
    options = {"options": f"-c timezone=UTC -c search_path={postgres_schema()}"}
    words = {**(settings or postgres_settings()), **options}
    dsn = " ".join(f"{name}='{_escaped(str(value))}'" for name, value in words.items() if name != "password")
    require_scanner("postgres")
    with duckdb.connect(config=dict(extension_settings(home()))) as connection:
        connection.execute("set timezone = 'UTC'")
        connection.execute(f"attach {sql_literal(dsn)} as {POSTGRES_DATABASE} (type postgres, read_only)")
        yield connection


def query(connection: duckdb.DuckDBPyConnection, text: str) -> pa.Table:
    """Run a query in PostgreSQL; columns of ``numeric`` without a precision become float64, those of JSON text."""
    return connection.sql(f"from postgres_query('{POSTGRES_DATABASE}', {sql_literal(text)})").to_arrow_table()


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")
