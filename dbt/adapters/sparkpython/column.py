"""Columns by the types of contracts."""

from typing import ClassVar

from dbt.adapters.spark.column import SparkColumn


class SparkPythonColumn(SparkColumn):
    """A column; contracts and seeds may name types as DuckDB does."""

    TYPE_LABELS: ClassVar[dict[str, str]] = {
        "VARCHAR": "string",
        "TEXT": "string",
        "VARCHAR[]": "array<string>",
        "FLOAT[]": "array<float>",
        "BLOB": "binary",
        "DOUBLE PRECISION": "double",
    }

    @classmethod
    def translate_type(cls, dtype: str) -> str:
        """Return Spark's name of a type."""
        return cls.TYPE_LABELS.get(dtype.upper(), dtype)
