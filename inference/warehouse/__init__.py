"""Where the tables lie: DuckDB, PostgreSQL, Spark; dbt, its manifest, and the log of events."""
