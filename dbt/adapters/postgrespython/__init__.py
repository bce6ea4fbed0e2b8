"""dbt's adapter of PostgreSQL, with Python models that run in dbt's own process."""

from pathlib import Path

from dbt.adapters.base import AdapterPlugin
from dbt.adapters.postgrespython.connections import PostgresPythonCredentials
from dbt.adapters.postgrespython.impl import PostgresPythonAdapter

Plugin = AdapterPlugin(
    adapter=PostgresPythonAdapter,
    credentials=PostgresPythonCredentials,
    include_path=str(Path(__file__).parent / "include"),
    dependencies=["postgres"],
    project_name="dbt_postgrespython",
)
