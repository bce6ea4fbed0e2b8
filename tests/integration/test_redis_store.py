"""Quick lookups in Redis answer what Feast's own store answers, on two tiny views."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
import redis.exceptions as redis_errors
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.infra.online_stores.redis import RedisOnlineStore
from feast.types import Bytes, Float64, Int64, String

from inference.redis_store import OneKeyRedisOnlineStore

AS_OF = datetime(2024, 1, 1, 5, tzinfo=UTC)
YAML = """
project: tiny
provider: local
registry: registry.db
offline_store: {{type: duckdb}}
online_store: {{type: inference.feast_stores.HomeOnlineStore, redis: "{redis}", path: online.db}}
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
def test_answers_are_those_of_feasts_own_store(store, monkeypatch, service, keys):
    ours = lookup(store, service, **keys)
    monkeypatch.setattr(OneKeyRedisOnlineStore, "_read_features_per_fv", RedisOnlineStore._read_features_per_fv)
    assert ours == lookup(store, service, **keys)


def test_values_come_in_the_order_asked_for_strangers_with_nulls(store):
    found, _ = lookup(store, "of_one_key", customer_id=["late", "stranger", "a"])
    assert found["band"] == ["low", None, "high"]
    assert found["orders"] == [None, None, 1]
    assert found["packed"] == [b"1", None, b"\x00\xff"]
    assert found["band__ts"] == [int(AS_OF.timestamp()) + 7200, 0, int(AS_OF.timestamp())]


def test_a_server_that_was_restarted_is_asked_again(store, redis_server):
    before = lookup(store, "of_one_key", customer_id=["a"])
    redis_server.stop()
    with pytest.raises(redis_errors.ConnectionError):
        lookup(store, "of_one_key", customer_id=["a"])
    redis_server.start()
    assert lookup(store, "of_one_key", customer_id=["a"]) == before
