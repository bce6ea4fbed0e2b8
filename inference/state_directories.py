"""dbt-duckdb plugin that does what SQL cannot: make directories, know the salt, read the service's log of events."""

import atexit
import gc
from pathlib import Path

from dbt.adapters.duckdb.plugins import BasePlugin

from inference.salt import salt, set_salt
from inference.serving.event_log import export


class Plugin(BasePlugin):
    """Create ``CHURN_HOME``, its folders and its salt before DuckDB opens its file; hand the salt to each session.

    What the service accepted is written as Parquet, which staging reads.
    """

    def initialize(self, plugin_config: dict) -> None:
        """Create what is missing or new below ``plugin_config["home"]``."""
        self.home = Path(plugin_config["home"])
        for name in ("features", "published"):
            (self.home / name).mkdir(parents=True, exist_ok=True)
        salt(self.home)
        export(self.home / "events")
        # a build loads millions of objects that stay: looking for cycles among them takes seconds, most at its end
        gc.set_threshold(100_000)
        atexit.register(gc.freeze)

    def configure_cursor(self, cursor) -> None:
        """Set the variable ``churn_salt``, so that neither compiled SQL nor dbt's log says what the salt is."""
        cursor.execute(set_salt(salt(self.home)))
