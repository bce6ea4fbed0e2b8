"""dbt-duckdb plugin that does what SQL cannot: make the directories dbt writes to, and know the salt."""

from pathlib import Path

from dbt.adapters.duckdb.plugins import BasePlugin

from inference.salt import salt, set_salt


class Plugin(BasePlugin):
    """Create ``CHURN_HOME``, its folders and its salt before DuckDB opens its file; hand the salt to each session."""

    def initialize(self, plugin_config: dict) -> None:
        """Create what is missing below ``plugin_config["home"]``."""
        self.home = Path(plugin_config["home"])
        for name in ("features", "published"):
            (self.home / name).mkdir(parents=True, exist_ok=True)
        salt(self.home)

    def configure_cursor(self, cursor) -> None:
        """Set the variable ``churn_salt``, so that neither compiled SQL nor dbt's log says what the salt is."""
        cursor.execute(set_salt(salt(self.home)))
