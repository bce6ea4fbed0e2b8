"""Column types, also by the names that model contracts use."""

from typing import ClassVar

from dbt.adapters.spark.column import SparkColumn


class SparkPythonColumn(SparkColumn):
    """A column whose type contracts and seeds may spell as DuckDB does."""

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
