import pyarrow as pa
import pytest
from dbt.adapters.postgrespython.column import PostgresPythonColumn
from dbt.adapters.postgrespython.python_models import _column

from inference.warehouse import postgres


def test_sessions_are_in_utc_and_empty_settings_are_left_to_libpq():
    dsn = postgres.session_dsn(host="db", password="", port=5432, sslmode=None)
    assert "host=db" in dsn
    assert "port=5432" in dsn
    assert "timezone=UTC" in dsn
    assert "password" not in dsn
    assert "sslmode" not in dsn


@pytest.mark.parametrize(
    ("contract", "type_name"),
    [("double", "double precision"), ("float[]", "real[]"), ("blob", "bytea"), ("bigint", "bigint"), ("date", "date")],
)
def test_contracts_name_types_as_duckdb_does(contract, type_name):
    assert PostgresPythonColumn.translate_type(contract) == type_name


def test_types_that_arrow_lacks_become_numbers_and_texts():
    opaque = pa.opaque(pa.string(), "numeric", "PostgreSQL")
    numbers = pa.ExtensionArray.from_storage(opaque, pa.array(["1.5000", None, "NaN"]))
    documents = pa.ExtensionArray.from_storage(pa.json_(), pa.array(["[1]", None, "{}"]))
    batch = pa.record_batch({"number": numbers, "document": documents, "kept": pa.array([1, 2, 3])})
    schema = pa.schema([postgres._plain_field(field) for field in batch.schema])
    plain = postgres._plain_batch(batch, schema)
    assert plain.schema.types == [pa.float64(), pa.string(), pa.int64()]
    assert plain["number"].to_pylist()[:2] == [1.5, None]
    assert plain["document"].to_pylist() == ["[1]", None, "{}"]


def test_texts_of_python_models_are_compared_by_their_bytes():
    assert _column(pa.field("text", pa.string())) == '"text" collate "C" as "text"'
    assert _column(pa.field("n", pa.int64())) == '"n"'
