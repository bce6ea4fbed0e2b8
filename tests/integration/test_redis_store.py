"""Fast loads and lookups in Redis give the same results as Feast's own store, on tiny views."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis.exceptions as redis_errors
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, PushSource, ValueType
from feast.data_source import PushMode
from feast.infra.online_stores.helpers import _mmh3
from feast.infra.online_stores.redis import RedisOnlineStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Array, Bytes, Float32, Float64, Int64, String, UnixTimestamp
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from redis import Redis

from inference.feature_store import redis_store
from inference.feature_store.redis_store import OneKeyRedisOnlineStore

AS_OF = datetime(2024, 1, 1, 5, tzinfo=UTC)
YAML = """
project: tiny
provider: local
registry: registry.db
offline_store: {{type: duckdb}}
online_store: {{type: inference.feature_store.stores.HomeOnlineStore, redis: "{redis}", path: online.db}}
entity_key_serialization_version: 3
"""
KNOWN = {
    "customer_id": ["a", "Łukasz 7", "late"],
    "shop": ["x", "x", "y"],
    "event_timestamp": [AS_OF.replace(tzinfo=None)] * 2 + [datetime(2024, 1, 1, 7, 0, 0, 250_000)],
    "orders": [1, 2, None],
    "probability": [0.9, None, 0.1],
    "band": ["high", "", "low"],
    "packed": [b"\x00\xff", b"", b"1"],
}


@pytest.fixture(scope="module")
def store(redis, tmp_path_factory) -> FeatureStore:
    repo = tmp_path_factory.mktemp("repo")
    (repo / "feature_store.yaml").write_text(YAML.format(redis=redis))
    pd.DataFrame(KNOWN).astype({"orders": "Int64"}).to_parquet(repo / "known.parquet")
    customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
    shop = Entity(name="shop", join_keys=["shop"], value_type=ValueType.STRING)
    source = FileSource(path=str(repo / "known.parquet"), timestamp_field="event_timestamp")

    def view(name: str, entities: list[Entity], *fields: Field) -> FeatureView:
        return FeatureView(name=name, entities=entities, ttl=timedelta(days=35), schema=list(fields), source=source)

    numbers = view("numbers", [customer], Field(name="orders", dtype=Int64), Field(name="probability", dtype=Float64))
    words = view("words", [customer], Field(name="band", dtype=String), Field(name="packed", dtype=Bytes))
    both = view("both", [customer, shop], Field(name="band", dtype=String))
    services = [
        FeatureService(name="of_one_key", features=[words, numbers]),
        FeatureService(name="of_two_keys", features=[both]),
    ]
    store = FeatureStore(repo_path=str(repo))
    store.apply([customer, shop, numbers, words, both, *services])
    store.materialize(AS_OF - timedelta(days=1), AS_OF + timedelta(days=1))
    return store


def lookup(store: FeatureStore, service: str, **keys: list[str]) -> tuple[dict, list[list[int]]]:
    response = store.get_online_features(store.get_feature_service(service), keys)
    return response.to_dict(include_event_timestamps=True), [list(row.statuses) for row in response.proto.results]


@pytest.mark.parametrize(
    ("service", "keys"),
    [
        ("of_one_key", {"customer_id": ["late"]}),
        ("of_one_key", {"customer_id": ["Łukasz 7", "stranger", "a", "late", "a"]}),
        ("of_one_key", {"customer_id": ["stranger", ""]}),
        ("of_two_keys", {"customer_id": ["a", "late", "a"], "shop": ["x", "y", "y"]}),
    ],
)
def test_lookups_equal_those_of_feasts_own_store(store, monkeypatch, service, keys):
    ours = lookup(store, service, **keys)
    monkeypatch.setattr(OneKeyRedisOnlineStore, "_read_features_per_fv", RedisOnlineStore._read_features_per_fv)
    assert ours == lookup(store, service, **keys)


def test_values_keep_the_order_of_the_request_with_nulls_for_unknown_keys(store):
    result, _ = lookup(store, "of_one_key", customer_id=["late", "stranger", "a"])
    assert result["band"] == ["low", None, "high"]
    assert result["orders"] == [None, None, 1]
    assert result["packed"] == [b"1", None, b"\x00\xff"]
    assert result["band__ts"] == [int(AS_OF.timestamp()) + 7200, 0, int(AS_OF.timestamp())]


def test_lookups_work_after_a_server_restart(store, redis_server):
    before = lookup(store, "of_one_key", customer_id=["a"])
    redis_server.stop()
    with pytest.raises(redis_errors.ConnectionError):
        lookup(store, "of_one_key", customer_id=["a"])
    redis_server.start()
    assert lookup(store, "of_one_key", customer_id=["a"]) == before


LOADS_YAML = """
project: tiny
provider: local
registry: registry.db
offline_store: {{type: duckdb}}
online_store: {store}
entity_key_serialization_version: 3
batch_engine: {engine}
materialization: {{pull_latest_features: true, online_write_batch_size: 2048}}
"""
#: Churn Radar's engine and store, and Feast's own, each with its own database of the same Redis.
SIDES = {
    "ours": (
        "inference.feature_store.compute_engine.StreamingComputeEngine",
        '{{type: inference.feature_store.stores.HomeOnlineStore, redis: "{redis},db=1", path: online.db}}',
    ),
    "feast": ("local", '{{type: redis, connection_string: "{redis},db=2"}}'),
}
DAY = datetime(2024, 1, 1)
CUSTOMERS = ("a", "Łukasz 7", "c")
#: Rows that share values, so that loads meet values that are already stored.
ROWS = (
    {"orders": None, "probability": None, "band": "", "vector": None, "texts": None, "moment": DAY},
    {"orders": 0, "probability": 0.5, "band": "high", "vector": [0.5, -1], "texts": ["", "much"], "moment": DAY},
    {"orders": 1, "probability": 0.5, "band": "high", "vector": [0.5, -1], "texts": [], "moment": DAY},
    {
        "orders": 0,
        "probability": 0.0,
        "band": "low",
        "vector": [],
        "texts": ["", "much"],
        "moment": datetime(1969, 1, 1),
    },
)
VALUES = st.sampled_from(ROWS)
TABLES = st.dictionaries(st.sampled_from(CUSTOMERS), VALUES)
STEPS = st.one_of(
    # days are loaded repeatedly and out of order
    st.tuples(st.just("load"), st.integers(0, 3), TABLES),
    st.tuples(st.just("push"), st.integers(0, 80), st.dictionaries(st.sampled_from(CUSTOMERS), VALUES, min_size=1)),
    st.tuples(st.just("lose"), st.none(), st.sampled_from([*CUSTOMERS, None])),
)


class Side:
    """A feature store, its table, and its Redis database."""

    def __init__(self, folder: Path, redis: str, side: str) -> None:
        engine, online = SIDES[side]
        folder.mkdir()
        settings = LOADS_YAML.format(store=online.format(redis=redis), engine=engine)
        (folder / "feature_store.yaml").write_text(settings)
        self.file = folder / "known.parquet"
        self.client = Redis(port=int(redis.split(":")[1]), db=1 if side == "ours" else 2)
        self.n_written = 0
        self.write({}, 0)
        customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
        stored = FileSource(path=str(self.file), timestamp_field="event_timestamp")
        types = {
            "orders": Int64,
            "probability": Float64,
            "band": String,
            "vector": Array(Float32),
            "texts": Array(String),
            "moment": UnixTimestamp,
        }
        view = FeatureView(
            name="known",
            entities=[customer],
            ttl=timedelta(days=35),
            schema=[Field(name=name, dtype=dtype) for name, dtype in types.items()],
            source=PushSource(name="known_push", batch_source=stored),
        )
        self.store = FeatureStore(repo_path=str(folder))
        self.store.apply([customer, view, FeatureService(name="all", features=[view])])

    def write(self, table: dict[str, dict], day: int) -> None:
        rows = [{"customer_id": c, "event_timestamp": DAY + timedelta(days=day)} | table[c] for c in table]
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), self.file)
        # DuckDB notices a changed file by its modification time in seconds
        self.n_written += 1
        os.utime(self.file, (self.n_written, self.n_written))

    def apply(self, what: str, when: int, whom: dict[str, dict] | str | None) -> None:
        if what == "load":
            self.write(whom, when)
            self.store.materialize(DAY + timedelta(days=when), DAY + timedelta(days=when))
        elif what == "push":
            moment = DAY + timedelta(hours=when)
            rows = [{"customer_id": c, "event_timestamp": moment} | own for c, own in whom.items()]
            self.store.push("known_push", pd.DataFrame(rows).astype({"orders": "Int64"}), to=PushMode.ONLINE)
        elif whom is None:
            self.client.flushdb()
        else:
            self.client.delete(
                *[key for key in self.client.scan_iter() if whom.encode() + b"tiny" in key] or [b"nobody"]
            )

    def lookup(self) -> dict:
        asked = {"customer_id": [*CUSTOMERS, "stranger"]}
        result = self.store.get_online_features(self.store.get_feature_service("all"), asked)
        return result.to_dict(include_event_timestamps=True)

    def held(self) -> dict[bytes, dict[bytes, bytes]]:
        """Everything in Redis except the digests."""
        rows = {key: self.client.hgetall(key) for key in self.client.scan_iter()}
        return {key: {f: v for f, v in row.items() if not f.startswith(b"_digest:")} for key, row in rows.items()}


SCHEMA = pa.schema(
    {
        "customer_id": pa.string(),
        "event_timestamp": pa.timestamp("us"),
        "orders": pa.int64(),
        "probability": pa.float64(),
        "band": pa.string(),
        "vector": pa.list_(pa.float32()),
        "texts": pa.list_(pa.string()),
        "moment": pa.timestamp("us"),
    }
)


@pytest.fixture(scope="module")
def sides(redis, tmp_path_factory) -> dict[str, Side]:
    folder = tmp_path_factory.mktemp("sides")
    return {side: Side(folder / side, redis, side) for side in SIDES}


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, min_size=2, max_size=7))
# a build loads the same value again after another writer changed it
@example([("load", 0, {"a": ROWS[1]}), ("push", 10, {"a": ROWS[2]}), ("load", 1, {"a": ROWS[1]})])
def test_any_loads_pushes_and_losses_leave_the_same_data_as_feasts_own_store(sides, steps):
    for side in sides.values():
        side.client.flushdb()
    for step in steps:
        for side in sides.values():
            side.apply(*step)
        assert sides["ours"].held() == sides["feast"].held()
    assert sides["ours"].lookup() == sides["feast"].lookup()


def known_view(*fields: Field) -> FeatureView:
    customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
    source = FileSource(path="known.parquet", timestamp_field="event_timestamp")
    key = Field(name="customer_id", dtype=String)
    return FeatureView(name="known", entities=[customer], schema=[key, *fields], source=source)


def load(side: Side, day: int, view: FeatureView | None = None, **columns: list) -> None:
    """Load rows of customers a and b for a day."""
    moments = pa.array([DAY + timedelta(days=day)] * 2, pa.timestamp("us"))
    batch = pa.RecordBatch.from_pydict({"customer_id": ["a", "b"], "event_timestamp": moments} | columns)
    own = side.store._get_provider().online_store
    own.write_arrow(side.store.config, view or known_view(*(Field(name=name, dtype=String) for name in columns)), batch)


def value_of(side: Side, customer: str, field: str) -> str | None:
    (key,) = (key for key in side.client.scan_iter() if customer.encode() + b"tiny" in key)
    result = side.client.hget(key, _mmh3(f"known:{field}"))
    return None if result is None else Value.FromString(result).string_val


def plant(side: Side, customer: str, field: str, value: str) -> None:
    """Change a value without its timestamp, which Feast never does."""
    (key,) = (key for key in side.client.scan_iter() if customer.encode() + b"tiny" in key)
    side.client.hset(key, _mmh3(f"known:{field}"), Value(string_val=value).SerializeToString())


def test_unchanged_values_are_not_sent_again(sides):
    ours = sides["ours"]
    ours.client.flushdb()
    load(ours, 0, band=["low", "high"], words=["good", "bad"])
    for customer in "ab":
        for field in ("band", "words"):
            plant(ours, customer, field, "planted")
    load(ours, 1, band=["low", "critical"], words=["good", "bad"])
    result = {(customer, field): value_of(ours, customer, field) for customer in "ab" for field in ("band", "words")}
    assert result == dict.fromkeys(result, "planted") | {("b", "band"): "critical"}
    next_day = Timestamp()
    next_day.FromDatetime(DAY + timedelta(days=1))
    assert [row[b"_ts:known"] for row in ours.held().values()] == [next_day.SerializeToString()] * 2


def test_a_row_written_concurrently_is_not_overwritten(sides, monkeypatch):
    """Write a row between the load's reading of timestamps and writing of values, as the service can."""
    ours = sides["ours"]
    ours.client.flushdb()
    load(ours, 0, band=["low", "high"], words=["good", "bad"])
    exchange, calls = redis_store._exchange, []

    def interrupted(client, commands):
        calls.append(len(commands))
        if len(calls) == 2:
            key = EntityKey(join_keys=["customer_id"], entity_values=[Value(string_val="a")])
            values = {"band": Value(string_val="theirs"), "words": Value(string_val="theirs")}
            rows = [(key, values, DAY + timedelta(days=2), None)]
            view = known_view(Field(name="band", dtype=String), Field(name="words", dtype=String))
            RedisOnlineStore().online_write_batch(ours.store.config, view, rows, None)
        return exchange(client, commands)

    monkeypatch.setattr(redis_store, "_exchange", interrupted)
    load(ours, 1, band=["low", "critical"], words=["better", "bad"])
    assert calls == [1, 1]
    assert [value_of(ours, "a", field) for field in ("band", "words")] == ["theirs", "theirs"]
    assert [value_of(ours, "b", field) for field in ("band", "words")] == ["critical", "bad"]
    load(ours, 3, band=["low", "critical"], words=["better", "bad"])
    assert [value_of(ours, "a", field) for field in ("band", "words")] == ["low", "better"]


def test_a_renamed_field_is_written_although_its_value_is_unchanged(sides):
    ours = sides["ours"]
    ours.client.flushdb()
    load(ours, 0, band=["low", "high"], words=["good", "bad"])
    load(ours, 1, band=["low", "high"], renamed=["good", "bad"])
    assert [value_of(ours, customer, "renamed") for customer in "ab"] == ["good", "bad"]
    load(ours, 2, band=["low", "high"], renamed=["good", "bad"], more=["x", "y"])
    assert [value_of(ours, customer, "more") for customer in "ab"] == ["x", "y"]
