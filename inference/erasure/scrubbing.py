"""Taking a person's rows out of files, so that not even their bytes stay behind."""

import os
import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from inference.erasure.person import Person, Relation, is_theirs, of_warehouse
from inference.erasure.traces import Traces, sqlite_tables
from inference.errors import ChurnRadarError

#: What is written beside a file and renamed into its place.
BESIDE = ".erasing"
#: Seconds to wait for another process that writes the same SQLite file.
PATIENCE = 30
#: Columns of the tables of Feast's online store.
STORED = {"entity_key", "feature_name", "value"}


def scrub_parquet(connection: duckdb.DuckDBPyConnection, file: Path, relation: Relation) -> int:
    """Write a Parquet file anew without the person's rows; its schema, order and compression stay.

    Returns
    -------
    int
        How many rows left; where there is none, the file is not touched.
    """
    theirs = is_theirs(relation)
    count = connection.execute(f"select count(*) from {relation.source} where {theirs}").fetchone()[0]
    if not count:
        return 0
    beside = file.with_name(file.name + BESIDE)
    with pq.ParquetFile(file) as parquet:
        compression = parquet.metadata.row_group(0).column(0).compression.replace("UNCOMPRESSED", "NONE")
        with pq.ParquetWriter(beside, parquet.schema_arrow, compression=compression) as writer:
            for batch in parquet.iter_batches():
                connection.register("batch", pa.Table.from_batches([batch]))
                kept = connection.sql(f"select not {theirs} as kept from batch").to_arrow_table()
                writer.write_table(pa.Table.from_batches([batch]).filter(kept["kept"].combine_chunks()))
    put_in_place(beside, file)
    return count


def scrub_duckdb(connection: duckdb.DuckDBPyConnection, file: Path) -> dict[str, int]:
    """Write the open database anew without the person's rows, and put it in the place of the old one.

    Deleting would leave the bytes in free blocks. The connection still holds the old file, and keeps others off it,
    until it is closed.

    Returns
    -------
    dict of str to int
        Rows that left, by table.
    """
    beside = file.with_name(file.name + BESIDE)
    beside.unlink(missing_ok=True)
    old = connection.execute("select current_database()").fetchone()[0]
    connection.execute(f"attach '{_quoted(beside)}' as fresh")
    connection.execute(f'copy from database "{old}" to fresh (schema)')
    removed = {}
    for relation in of_warehouse(connection, with_views=False):
        theirs = is_theirs(relation)
        if count := connection.execute(f"select count(*) from {relation.source} where {theirs}").fetchone()[0]:
            removed[relation.source.replace('"', "").removeprefix("main.")] = count
        connection.execute(f"insert into fresh.{relation.source} select * from {relation.source} where not {theirs}")
    connection.execute("detach fresh")
    connection.execute("checkpoint")  # nothing stays in the log of the old file
    put_in_place(beside, file)
    return removed


def scrub_sqlite(file: Path, person: Person) -> int:
    """Delete the person's rows from an SQLite file, Feast's or any with customers, and overwrite their bytes."""
    with closing(sqlite3.connect(file, timeout=PATIENCE, isolation_level=None)) as connection:
        tables = sqlite_tables(connection)
        stored = [name for name, columns in tables.items() if set(columns) >= STORED]
        listed = [name for name, columns in tables.items() if "customer_id" in columns]
        if not stored and not listed:
            return 0
        try:
            connection.execute("pragma secure_delete = on")
            count = sum(_delete(connection, t, "customer_id", person.ids) for t in listed)
            count += sum(_delete(connection, t, "entity_key", _stored_keys(connection, t, person)) for t in stored)
            connection.execute("pragma wal_checkpoint(truncate)")
            connection.execute("vacuum")
        except sqlite3.OperationalError as error:
            raise ChurnRadarError(f"{file}: {error}; expected nobody else to write to it: try again") from None
    return count


def held_in_sqlite(file: Path, person: Person) -> int:
    """Count the person's rows in a Feast online store in SQLite."""
    with closing(sqlite3.connect(file, timeout=PATIENCE)) as connection:
        stored = [name for name, columns in sqlite_tables(connection).items() if set(columns) >= STORED]
        return sum(
            connection.execute(f'select count(*) from "{table}" where entity_key = ?', [key]).fetchone()[0]
            for table in stored
            for key in _stored_keys(connection, table, person)
        )


def scrub_redis(person: Person) -> int:
    """Delete the person from Redis, where that is Feast's online store; return how many keys there were."""
    if not os.environ.get("CHURN_REDIS"):
        return 0
    client, keys = _redis(person)
    return sum(client.delete(key) for key in keys)


def left_in_redis(person: Person) -> int:
    """Count the person's keys in Redis."""
    if not os.environ.get("CHURN_REDIS"):
        return 0
    client, keys = _redis(person)
    return sum(client.exists(key) for key in keys)


def scrub_text(file: Path, kind: str, traces: Traces) -> int:
    """Mask the person in a file of text; return in how many places."""
    count = traces.in_file(file, kind)
    if count:
        beside = file.with_name(file.name + BESIDE)
        beside.write_bytes(traces.masked(file.read_bytes(), kind))
        put_in_place(beside, file)
    return count


def put_in_place(beside: Path, file: Path) -> None:
    """Rename what was written beside a file into its place: readers find the old one or the new one."""
    if file.exists():
        shutil.copymode(file, beside)
    beside.replace(file)


def entity_keys(person: Person) -> set[bytes]:
    """Feast's keys of the customer and of what they wrote."""
    from feast.infra.key_encoding_utils import serialize_entity_key

    return {serialize_entity_key(key, entity_key_serialization_version=3) for key in _entities(person)}


def _entities(person: Person) -> list:
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    named = [(name, value) for name in ("customer_id", "text_id") for value in person.keys[name]]
    return [EntityKey(join_keys=[name], entity_values=[Value(string_val=value)]) for name, value in named]


def _stored_keys(connection: sqlite3.Connection, table: str, person: Person) -> set[bytes]:
    """Keys of rows about the person, and of others, such as texts, that say that they are theirs."""
    from feast.protos.feast.types.Value_pb2 import Value

    keys = entity_keys(person)
    for customer_id in person.ids:
        value = Value(string_val=customer_id).SerializeToString()
        query = f"select entity_key from \"{table}\" where feature_name = 'customer_id' and value = ?"
        keys |= {row[0] for row in connection.execute(query, [value])}
    return keys


def _delete(connection: sqlite3.Connection, table: str, column: str, values: Iterable[str | bytes]) -> int:
    query = f'delete from "{table}" where "{column}" = ?'
    return sum(connection.execute(query, [value]).rowcount for value in values)


def _redis(person: Person) -> tuple:
    """Connect to Redis as Feast does, and name the person's keys as it does."""
    from feast.infra.online_stores.helpers import _redis_key
    from feast.infra.online_stores.redis import RedisOnlineStore

    from inference.feature_store.client import open_store

    config = open_store().config
    client = RedisOnlineStore()._get_client(config.online_store)
    return client, [_redis_key(config.project, key, 3) for key in _entities(person)]


def _quoted(file: Path) -> str:
    return str(file).replace("'", "''")
