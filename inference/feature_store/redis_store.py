"""Feast's Redis store with a fast path for views that have one string entity.

Feast builds four protobuf and Python objects per customer to get a key. With one string entity a key is the bytes of
the string between two constant parts.

A load keeps a digest of each value and the row's timestamp in one more field of the row's hash. The next load sends
only the timestamp and the values whose digests differ. Another writer changes the timestamp of the row, so digests that
describe other values are recognised and not used; a row that is deleted takes its digests with it.
"""

import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain

import mmh3
import numpy as np
import pyarrow as pa
from feast import FeatureView
from feast.data_source import DataSource
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import _mmh3
from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig, _versioned_fv_name
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus, GetOnlineFeaturesResponse
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RepoConfig
from google.protobuf.timestamp_pb2 import Timestamp
from hiredis import pack_command
from redis import Redis

from inference.feature_store.proto_values import serialized

_LENGTH = struct.Struct("<I")
#: Bytes of the digest of a value.
_DIGEST = 8
#: Rows per script; other clients of Redis wait for a fraction of a millisecond while it runs.
_ROWS_A_SCRIPT = 128
#: Reads timestamp and digests of several rows; shorter to send and to parse than an HMGET per row.
_READ = """
local rows = {}
for i, key in ipairs(KEYS) do rows[i] = redis.call('HMGET', key, ARGV[1], ARGV[2]) end
return rows
"""
#: Writes timestamp, digests and changed values of rows, except rows that another client has written since their
#: timestamps were read. Arguments of a row: old timestamp, new timestamp, digests, number of arguments that follow,
#: fields with their values.
_WRITE = """
local at = 3
for _, key in ipairs(KEYS) do
    local last = at + 3 + ARGV[at + 3]
    if redis.call('HGET', key, ARGV[1]) == ARGV[at] then
        redis.call('HSET', key, ARGV[1], ARGV[at + 1], ARGV[2], ARGV[at + 2], unpack(ARGV, at + 4, last))
    end
    at = last + 1
end
"""


def batch_source(table: FeatureView) -> DataSource:
    """Return the source that a view is materialised from."""
    if table.batch_source is None:
        raise ValueError(f"{table.name}: the view has no batch source")
    return table.batch_source


class OneKeyRedisOnlineStoreConfig(RedisOnlineStoreConfig):
    """Configuration of the store below; Feast derives its name from the store's."""


class OneKeyRedisOnlineStore(RedisOnlineStore):
    """Feast's Redis store with faster loads and lookups; lookups return the same as Feast's."""

    def write_arrow(self, config: RepoConfig, table: FeatureView, batch: pa.RecordBatch) -> None:
        """Write rows of a view with one string entity as ``online_write_batch`` does, but only the values that changed.

        The batch has join key, features and event timestamp, one row per entity, without nulls in key and timestamp.
        """
        view = _versioned_fv_name(table, config)
        *fields, stamp_field = _fields(view, tuple(feature.name for feature in table.features))
        digest_field = f"_digest:{view}"
        client = self._get_client(config.online_store)
        keys = _keys(config, table.join_keys[0], _bytes_of(batch.column(table.join_keys[0])))
        read = [("EVAL", _READ, len(part), *part, stamp_field, digest_field) for part in _parts(keys)]
        stored = chain.from_iterable(_exchange(client, read))
        columns = [serialized(batch.column(feature.name), feature.dtype) for feature in table.features]
        digests = zip(*map(_digests, fields, columns), strict=True)
        stamps, moments = _stamps(batch.column(batch_source(table).timestamp_field))
        seen, new, changed = {None: 0}, [], []
        for key, (old_stamp, old), stamp, moment, own, values in zip(
            keys, stored, stamps, moments, digests, zip(*columns, strict=True), strict=True
        ):
            if old_stamp not in seen:
                seen[old_stamp] = Timestamp.FromString(old_stamp).ToNanoseconds()
            if old_stamp and moment <= seen[old_stamp]:
                continue  # like Feast: rows that are older than the stored ones are skipped
            digest = b"".join(own) + stamp
            if old and old_stamp and old[_DIGEST * len(fields) :] == old_stamp:
                others: list[bytes] = []
                if old[: -len(old_stamp)] != digest[: -len(stamp)]:
                    for i, field in enumerate(fields):
                        if own[i] != old[_DIGEST * i : _DIGEST * (i + 1)]:
                            others += (field, values[i])
                changed.append((key, (old_stamp, stamp, digest, len(others), *others)))
            else:
                pairs = chain.from_iterable(zip(fields, values, strict=True))
                new.append(("HSET", key, stamp_field, stamp, digest_field, digest, *pairs))
        for part in _parts(changed):
            of_part, rows = zip(*part, strict=True)
            new.append(("EVAL", _WRITE, len(part), *of_part, stamp_field, digest_field, *chain.from_iterable(rows)))
        _exchange(client, new)

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
        """Fill a response from one pipeline of HMGET commands, where there is one string entity."""
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
        keys = _keys(config, join_key, [value.string_val.encode() for value in values])
        commands = []
        for table, names in grouped_refs:
            fields = _fields(_versioned_fv_name(table, config), tuple(names))
            commands += [("HMGET", key, *fields) for key in keys]
        replies = _exchange(self._get_client(config.online_store), commands)
        for position, (_, names) in enumerate(grouped_refs):
            own = replies[position * len(keys) : (position + 1) * len(keys)]
            _fill(online_features_response, names, own)
        return None


def _keys(config: RepoConfig, join_key: str, entities: Sequence[bytes]) -> list[bytes]:
    before, after = _constants(join_key, config.project, config.entity_key_serialization_version)
    return [before + _LENGTH.pack(len(own)) + own + after for own in entities]


def _parts(rows: list) -> Iterator[list]:
    return (rows[start : start + _ROWS_A_SCRIPT] for start in range(0, len(rows), _ROWS_A_SCRIPT))


def _bytes_of(column: pa.Array) -> list[bytes]:
    return column.cast(pa.large_binary()).to_numpy(zero_copy_only=False).tolist()


def _digests(field: bytes, values: Sequence[bytes]) -> list[bytes]:
    """Digests of a field's values, seeded by the field, so that they never equal those of another field."""
    seed = int.from_bytes(field, "little")
    return [mmh3.mmh3_x64_128_digest(value, seed)[:_DIGEST] for value in values]


def _stamps(column: pa.Array) -> tuple[list[bytes], list[int]]:
    """Return event timestamps as Feast stores them, and as nanoseconds."""
    moments = column.to_numpy(zero_copy_only=False).astype("datetime64[us]").astype(np.int64).tolist()
    # a build has the same timestamp in all rows
    stamps = {moment: Timestamp() for moment in set(moments)}
    for moment, stamp in stamps.items():
        stamp.FromMicroseconds(moment)
    packed = {moment: stamp.SerializeToString() for moment, stamp in stamps.items()}
    return [packed[moment] for moment in moments], [1000 * moment for moment in moments]


@lru_cache(maxsize=64)
def _constants(join_key: str, project: str, version: int) -> tuple[bytes, bytes]:
    """Return the parts of a key before the length of the entity's string and after the string."""
    empty = EntityKey(join_keys=[join_key], entity_values=[Value(string_val="")])
    return serialize_entity_key(empty, version)[: -_LENGTH.size], project.encode()


@lru_cache(maxsize=256)
def _fields(view: str, names: tuple[str, ...]) -> tuple[bytes, ...]:
    return (*(_mmh3(f"{view}:{name}") for name in names), f"_ts:{view}".encode())


def _exchange(client: Redis, commands: list[tuple]) -> list[list[bytes | None]]:
    """Send commands together and read their replies, with less work per command than redis-py's pipeline."""
    connection = client.connection_pool.get_connection()

    def exchange() -> list[list[bytes | None]]:
        # redis-py would make a system call for every six kilobytes
        connection.send_packed_command([b"".join(map(pack_command, commands))])
        return [connection.read_response() for _ in commands]

    try:
        return connection.retry.call_with_retry(exchange, lambda _: connection.disconnect())
    except BaseException:
        connection.disconnect()  # it may hold replies that were not read
        raise
    finally:
        client.connection_pool.release(connection)


def _fill(response: GetOnlineFeaturesResponse, names: Sequence[str], replies: list[list[bytes | None]]) -> None:
    *columns, stamps = zip(*replies, strict=True) if replies else [()] * (len(names) + 1)
    # a build has the same timestamp in all rows
    moments = {stamp: Timestamp.FromString(stamp or b"") for stamp in set(stamps)}
    response.metadata.feature_names.val.extend(names)
    for column in columns:
        vector = response.results.add()
        for value in column:
            vector.values.add().MergeFromString(value or b"")
        vector.statuses.extend([FieldStatus.PRESENT] * len(column))  # Feast has no other status for Redis either
        vector.event_timestamps.extend([moments[stamp] for stamp in stamps])
