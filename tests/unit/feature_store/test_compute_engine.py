"""The engine on a real, tiny store in SQLite: what it writes is what Feast's own writes."""

import contextlib
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.types import Array, Float32, Float64, Int64, String

AS_OF = datetime(2024, 1, 1, tzinfo=UTC)
#: More than DuckDB hands over at once.
N_CUSTOMERS = 5000
YAML = """
project: tiny
provider: local
registry: registry.db
offline_store: {{type: duckdb}}
online_store: {{type: sqlite, path: online.db}}
entity_key_serialization_version: 3
batch_engine: {engine}
materialization: {{pull_latest_features: true, online_write_batch_size: {batch}}}
"""
STREAMING = "inference.feature_store.compute_engine.StreamingComputeEngine"


def repo(folder: Path, rows: pd.DataFrame, engine: str, batch: int = 2048) -> FeatureStore:
    folder.mkdir()
    (folder / "feature_store.yaml").write_text(YAML.format(engine=engine, batch=batch))
    rows.to_parquet(folder / "known.parquet")
    customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
    view = FeatureView(
        name="known",
        entities=[customer],
        ttl=timedelta(days=35),
        schema=[
            Field(name="orders", dtype=Int64),
            Field(name="probability", dtype=Float64),
            Field(name="band", dtype=String),
            Field(name="vector", dtype=Array(Float32), vector_index=True, vector_search_metric="cosine"),
        ],
        source=FileSource(
            path=str(folder / "known.parquet"), timestamp_field="event_timestamp", created_timestamp_column="made_at"
        ),
    )
    store = FeatureStore(repo_path=str(folder))
    store.apply([customer, view])
    return store


def known() -> pd.DataFrame:
    """Rows of two days: of some customers the earlier day alone, of some two rows of the later, one made after one."""
    earlier = pd.DataFrame({"customer_id": [f"c{i}" for i in range(N_CUSTOMERS)], "orders": range(N_CUSTOMERS)})
    earlier["event_timestamp"] = pd.Timestamp("2023-12-31")
    later = earlier[earlier.orders % 3 > 0].assign(event_timestamp=pd.Timestamp("2024-01-01"))
    later = later.assign(orders=later.orders + 1)
    again = later[later.orders % 2 > 0].assign(orders=-1, made_at=pd.Timestamp("2024-01-02"))
    rows = pd.concat([again, earlier, later], ignore_index=True)
    rows["made_at"] = rows.made_at.fillna(pd.Timestamp("2024-01-01"))
    rows["probability"] = (rows.orders / N_CUSTOMERS).where(rows.orders % 5 > 0)
    rows["band"] = rows.orders.map(lambda n: ["low", "", "Łódź"][n % 3])
    rows["vector"] = [[0.5, float(n)] if n % 4 else None for n in rows.orders]
    return rows


def stored(folder: Path) -> list[tuple]:
    with contextlib.closing(sqlite3.connect(folder / "online.db")) as connection:
        query = "select entity_key, feature_name, value, event_ts, created_ts from tiny_known order by 1, 2"
        return connection.execute(query).fetchall()


def test_rows_are_those_of_feasts_own_engine(tmp_path):
    rows, tables = known(), {}
    for engine in ("local", STREAMING):
        folder = tmp_path / engine
        repo(folder, rows, engine).materialize(AS_OF - timedelta(days=2), AS_OF)
        tables[engine] = stored(folder)
    assert len(tables[STREAMING]) == 4 * N_CUSTOMERS
    assert tables[STREAMING] == tables["local"]


def test_only_rows_of_the_window_are_written(tmp_path):
    store = repo(tmp_path / "window", known(), STREAMING)
    store.materialize(AS_OF, AS_OF)
    assert len(stored(tmp_path / "window")) == 4 * sum(n % 3 > 0 for n in range(N_CUSTOMERS))
    store.materialize(AS_OF + timedelta(days=1), AS_OF + timedelta(days=1))
    assert len(stored(tmp_path / "window")) == 4 * sum(n % 3 > 0 for n in range(N_CUSTOMERS))


def test_an_error_is_raised_and_the_next_run_succeeds(tmp_path):
    rows = known()
    rows.at[0, "vector"] = [1.0, 2.0, 3.0]
    store = repo(tmp_path / "wrong", rows, STREAMING)
    with pytest.raises(ValueError, match="vector"):
        store.materialize(AS_OF, AS_OF)
    known().to_parquet(tmp_path / "wrong" / "known.parquet")
    store.materialize(AS_OF, AS_OF)
    assert len(stored(tmp_path / "wrong")) > N_CUSTOMERS
