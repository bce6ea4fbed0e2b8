"""Values have the bytes that Feast's local engine makes of the same column."""

import math
from datetime import datetime

import pyarrow as pa
import pytest
from feast.infra.compute_engines.backends.pandas_backend import PandasBackend
from feast.type_map import python_values_to_proto_values
from feast.types import Array, Bool, Bytes, FeastType, Float32, Float64, Int32, Int64, String, UnixTimestamp
from hypothesis import given
from hypothesis import strategies as st

from inference.feature_store.proto_values import serialized

#: Not a number has a sign in Arrow, and none in Python.
SINGLE = st.floats(width=32, allow_nan=False) | st.just(math.nan)
#: What each type of a view is in Arrow, and its values.
TYPES = {
    "text": (String, pa.string(), st.text()),
    "long text": (String, pa.large_string(), st.text(min_size=120, max_size=140)),
    # Feast takes bytes for null where all of a column are empty
    "bytes": (Bytes, pa.binary(), st.binary(min_size=1)),
    "number": (Float64, pa.float64(), st.floats()),
    "vector": (Array(Float32), pa.list_(pa.float32()), st.lists(SINGLE, max_size=40)),
    "texts": (Array(String), pa.list_(pa.string()), st.lists(st.text(), max_size=4)),
    "moment": (UnixTimestamp, pa.timestamp("us"), st.datetimes(datetime(1960, 1, 1), datetime(2100, 1, 1))),
    "count": (Int64, pa.int64(), st.integers(-(2**53), 2**53)),
    "small count": (Int32, pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    "flag": (Bool, pa.bool_(), st.booleans()),
}


def by_feast(column: pa.Array, dtype: FeastType) -> list[bytes]:
    """Take the way of Feast's local engine: through pandas and back, to Python, to protobuf."""
    backend = PandasBackend()
    table = backend.to_arrow(backend.from_arrow(pa.table({"values": column})))
    array = table.to_batches()[0].column("values").to_numpy(zero_copy_only=False)
    return [value.SerializeToString() for value in python_values_to_proto_values(array, dtype.to_value_type())]


@pytest.mark.parametrize(("dtype", "in_arrow", "values"), TYPES.values(), ids=TYPES)
@given(data=st.data())
def test_bytes_are_those_of_feast(data, dtype, in_arrow, values):
    rows = data.draw(st.lists(st.none() | values, min_size=2, max_size=12))
    column = pa.array(rows, in_arrow).slice(1)  # batches are parts of what was read
    assert serialized(column, dtype) == by_feast(column, dtype)
