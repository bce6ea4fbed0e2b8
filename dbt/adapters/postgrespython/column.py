"""Columns by the types of contracts."""

from typing import ClassVar

from dbt.adapters.postgres.column import PostgresColumn


class PostgresPythonColumn(PostgresColumn):
    """A column; contracts may name types as DuckDB does."""

    TYPE_LABELS: ClassVar[dict[str, str]] = {
        **PostgresColumn.TYPE_LABELS,
        "DOUBLE": "double precision",
        "FLOAT": "real",
        "FLOAT[]": "real[]",
        "BLOB": "bytea",
    }
