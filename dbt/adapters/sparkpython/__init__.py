"""dbt adapter for a Spark session in dbt's own process; Python models run in that process as well."""

from pathlib import Path

from dbt.adapters.base import AdapterPlugin
from dbt.adapters.sparkpython.connections import SparkPythonCredentials
from dbt.adapters.sparkpython.impl import SparkPythonAdapter

Plugin = AdapterPlugin(
    adapter=SparkPythonAdapter,
    credentials=SparkPythonCredentials,
    include_path=str(Path(__file__).parent / "include"),
    dependencies=["spark"],
    project_name="dbt_sparkpython",
)
