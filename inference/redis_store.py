"""Feast's Redis store, whose lookups by one key skip what is needed for several only.

Feast makes four objects of protobuf and Python per customer on the way to a key, sorts customers by it, and turns every
timestamp into Python's form and back. For one entity of text, which all views here have, the key is the bytes of the
text between two constants.
"""

import struct
from collections.abc import Sequence
from functools import lru_cache

from feast import FeatureView
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import _mmh3
from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig, _versioned_fv_name
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus, GetOnlineFeaturesResponse
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RepoConfig
from google.protobuf.timestamp_pb2 import Timestamp
from redis import Redis

_LENGTH = struct.Struct("<I")


class OneKeyRedisOnlineStoreConfig(RedisOnlineStoreConfig):
    """Configuration of the store below; Feast finds a store by the name of its configuration."""


class OneKeyRedisOnlineStore(RedisOnlineStore):
    """Feast's Redis store; what it writes and reads is the same, lookups take about half as long."""

    def _read_features_per_fv(
        self,
        config: RepoConfig,
        grouped_refs: Sequence[tuple[FeatureView, list[str]]],
        join_key_values: dict[str, list[Value]],
        entity_name_to_join_key_map: dict[str, str],
        online_features_response: GetOnlineFeaturesResponse,
        full_feature_names: bool,
        include_feature_view_version_metadata: bool,
    ) -> None:
        """Fill a response from one pipeline of HMGET; Feast offers this method to be overridden for that."""
        if (
            len(join_key_values) != 1
            or any(table.projection.join_key_map or table.join_keys != [*join_key_values] for table, _ in grouped_refs)
            or any(value.WhichOneof("val") != "string_val" for values in join_key_values.values() for value in values)
            or full_feature_names
            or include_feature_view_version_metadata
        ):
            return super()._read_features_per_fv(
                config,
                grouped_refs,
                join_key_values,
                entity_name_to_join_key_map,
                online_features_response,
                full_feature_names,
                include_feature_view_version_metadata,
            )
        ((join_key, values),) = join_key_values.items()
        before, after = _constants(join_key, config.project, config.entity_key_serialization_version)
        keys = [before + _LENGTH.pack(len(own)) + own + after for own in (v.string_val.encode() for v in values)]
        commands = []
        for table, names in grouped_refs:
            fields = _fields(_versioned_fv_name(table, config), tuple(names))
            commands += [("HMGET", key, *fields) for key in keys]
        replies = _exchange(self._get_client(config.online_store), commands)
        for position, (_, names) in enumerate(grouped_refs):
            own = replies[position * len(keys) : (position + 1) * len(keys)]
            _fill(online_features_response, names, own)
        return None


@lru_cache(maxsize=64)
def _constants(join_key: str, project: str, version: int) -> tuple[bytes, bytes]:
    """Return what stands before the length of an entity's text in its key, and what behind the text."""
    empty = EntityKey(join_keys=[join_key], entity_values=[Value(string_val="")])
    return serialize_entity_key(empty, version)[: -_LENGTH.size], project.encode()


@lru_cache(maxsize=256)
def _fields(view: str, names: tuple[str, ...]) -> tuple[bytes | str, ...]:
    return (*(_mmh3(f"{view}:{name}") for name in names), f"_ts:{view}")


def _exchange(client: Redis, commands: list[tuple]) -> list[list[bytes | None]]:
    """Send commands together and read their replies, as a pipeline of redis-py does without its own records."""
    connection = client.connection_pool.get_connection()

    def exchange() -> list[list[bytes | None]]:
        connection.send_packed_command(connection.pack_commands(commands))
        return [connection.read_response() for _ in commands]

    try:
        return connection.retry.call_with_retry(exchange, lambda _: connection.disconnect())
    except BaseException:
        connection.disconnect()  # replies that nobody has read
        raise
    finally:
        client.connection_pool.release(connection)


def _fill(response: GetOnlineFeaturesResponse, names: Sequence[str], replies: list[list[bytes | None]]) -> None:
    *columns, stamps = zip(*replies, strict=True) if replies else [()] * (len(names) + 1)
    # a build writes the same moment for all
    moments = {stamp: Timestamp.FromString(stamp or b"") for stamp in set(stamps)}
    response.metadata.feature_names.val.extend(names)
    for column in columns:
        vector = response.results.add()
        for value in column:
            vector.values.add().MergeFromString(value or b"")
        vector.statuses.extend([FieldStatus.PRESENT] * len(column))  # as Feast says of what is not there, too
        vector.event_timestamps.extend([moments[stamp] for stamp in stamps])
