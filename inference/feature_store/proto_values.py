"""Arrow columns serialised as Feast's protobuf ``Value`` messages, without an object per value.

Feast converts each value to a Python object, then to a protobuf message, then to bytes. These bytes are a tag and the
bytes that Arrow has in memory already, so that they can be put together directly; the result is the same.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pyarrow as pa
from feast.protos.feast.types.Value_pb2 import StringList, Value
from feast.type_map import python_values_to_proto_values
from feast.types import FeastType

#: Wire type of protobuf for bytes, strings and messages.
_LENGTH_DELIMITED = 2


def serialized(column: pa.Array, dtype: FeastType) -> list[bytes]:
    """Serialise a column that an offline store read as a ``Value`` message per row, which is empty for null."""
    kind = dtype.to_value_type()
    type_, item = column.type, getattr(column.type, "value_type", None)
    if kind.name == "STRING" and (pa.types.is_string(type_) or pa.types.is_large_string(type_)):
        return _delimited("string_val", column.cast(pa.large_binary()))
    if kind.name == "BYTES" and (pa.types.is_binary(type_) or pa.types.is_large_binary(type_)):
        return _delimited("bytes_val", column)
    if kind.name == "FLOAT_LIST" and pa.types.is_list(type_) and pa.types.is_float32(item):
        return _float_lists(column)
    if kind.name == "STRING_LIST" and pa.types.is_list(type_) and pa.types.is_string(item):
        return _string_lists(column)
    values = python_values_to_proto_values(column.to_numpy(zero_copy_only=False), kind)
    return [value.SerializeToString() for value in values]


def _delimited(field: str, column: pa.Array) -> list[bytes]:
    tag, values = _tag(field), column.to_numpy(zero_copy_only=False).tolist()
    return [b"" if value is None else tag + _varint(len(value)) + value for value in values]


def _float_lists(column: pa.ListArray) -> list[bytes]:
    tag, packed = _tag("float_list_val"), _items(column).astype("<f4", copy=False).tobytes()
    values = []
    for start, end, is_valid in _bounds(column):
        own = packed[4 * start : 4 * end]
        # an empty list is a message without a field
        inner = b"\x0a" + _varint(len(own)) + own if own else b""
        values.append(tag + _varint(len(inner)) + inner if is_valid else b"")
    return values


def _string_lists(column: pa.ListArray) -> list[bytes]:
    items = _items(column).tolist()
    return [
        Value(string_list_val=StringList(val=items[start:end])).SerializeToString() if is_valid else b""
        for start, end, is_valid in _bounds(column)
    ]


def _items(column: pa.ListArray) -> np.ndarray:
    return column.values.to_numpy(zero_copy_only=False)


def _bounds(column: pa.ListArray) -> Sequence[tuple[int, int, bool]]:
    offsets = column.offsets.to_numpy().tolist()
    valid = column.is_valid().to_numpy(zero_copy_only=False).tolist()
    return list(zip(offsets, offsets[1:], valid, strict=False))


def _tag(field: str) -> bytes:
    return _varint(Value.DESCRIPTOR.fields_by_name[field].number << 3 | _LENGTH_DELIMITED)


@lru_cache(maxsize=65536)
def _varint(number: int) -> bytes:
    """Encode a number as protobuf's varint: seven bits per byte, the lowest first."""
    written = bytearray()
    while number > 127:
        written.append(number & 127 | 128)
        number >>= 7
    written.append(number)
    return bytes(written)
