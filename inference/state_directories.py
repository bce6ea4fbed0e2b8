"""dbt-duckdb plugin that makes the directories dbt writes to, which SQL cannot do."""

from pathlib import Path

from dbt.adapters.duckdb.plugins import BasePlugin


class Plugin(BasePlugin):
    """Create ``CHURN_HOME`` and the folders for exported Parquet before DuckDB opens its file."""

    def initialize(self, plugin_config: dict) -> None:
        """Create the directories below ``plugin_config["home"]`` where they are missing."""
        for name in ("features", "published"):
            Path(plugin_config["home"], name).mkdir(parents=True, exist_ok=True)
