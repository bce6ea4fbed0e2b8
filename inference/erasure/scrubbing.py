"""Remove a person's rows from files, including their bytes in free space."""

import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from inference.erasure.person import Person, Relation, count_rows, is_theirs, warehouse_relations
from inference.erasure.traces import Traces, sqlite_tables
from inference.errors import ChurnRadarError
from inference.home import sql_literal, whole_file

#: Seconds to wait for another process that writes the same SQLite file.
LOCK_TIMEOUT = 30
#: Columns of the tables of Feast's online store.
ONLINE_COLUMNS = {"entity_key", "feature_name", "value"}


def scrub_parquet(connection: duckdb.DuckDBPyConnection, file: Path, relation: Relation) -> int:
    """Rewrite a Parquet file without the person's rows, and return their number; schema, order and compression stay."""
    theirs = is_theirs(relation)
    count = count_rows(connection, relation, theirs)
    if not count:
        return 0
    with replace_file(file) as partial, pq.ParquetFile(file) as parquet:
        compression = parquet.metadata.row_group(0).column(0).compression.replace("UNCOMPRESSED", "NONE")
        with pq.ParquetWriter(partial, parquet.schema_arrow, compression=compression) as writer:
            for batch in parquet.iter_batches():
                connection.register("batch", pa.Table.from_batches([batch]))
                kept = connection.sql(f"select not {theirs} as kept from batch").to_arrow_table()
                writer.write_table(pa.Table.from_batches([batch]).filter(kept["kept"].combine_chunks()))
    return count


def scrub_duckdb(connection: duckdb.DuckDBPyConnection, file: Path) -> dict[str, int]:
    """Replace the open database by a copy without the person's rows; deleting would leave the bytes in free blocks.

    The connection keeps the old file open, and locked for other processes, until it is closed. The result is the number
    of removed rows by table.
    """
    removed = {}
    with replace_file(file) as partial:
        connection.execute(f"attach {sql_literal(partial)} as fresh")
        ((old,),) = connection.execute("select current_database()").fetchall()
        connection.execute(f'copy from database "{old}" to fresh (schema)')
        for relation in warehouse_relations(connection, with_views=False):
            source, theirs = relation.source, is_theirs(relation)
            if count := count_rows(connection, relation, theirs):
                removed[source.replace('"', "").removeprefix("main.")] = count
            connection.execute(f"insert into fresh.{source} select * from {source} where not {theirs}")
        connection.execute("detach fresh")
        connection.execute("checkpoint")  # empties the write-ahead file of the old database
    return removed


def scrub_sqlite(file: Path, person: Person) -> int:
    """Delete the person's rows from an SQLite file and overwrite their bytes; return their number.

    Tables of Feast's online store and those with a ``customer_id`` are searched.
    """
    with closing(sqlite3.connect(file, timeout=LOCK_TIMEOUT, isolation_level=None)) as connection:
        tables = sqlite_tables(connection)
        online = [name for name, columns in tables.items() if set(columns) >= ONLINE_COLUMNS]
        by_customer = [name for name, columns in tables.items() if "customer_id" in columns]
        if not online and not by_customer:
            return 0
        try:
            connection.execute("pragma secure_delete = on")
            count = sum(_delete(connection, t, "customer_id", person.ids) for t in by_customer)
            count += sum(_delete(connection, t, "entity_key", _online_keys(connection, t, person)) for t in online)
            connection.execute("pragma wal_checkpoint(truncate)")
            connection.execute("vacuum")
        except sqlite3.OperationalError as error:
            raise ChurnRadarError(f"{file}: {error}; expected nobody else to write to it: try again") from None
    return count


def count_in_sqlite(file: Path, person: Person) -> int:
    """Count the person's rows in a Feast online store in SQLite."""
    with closing(sqlite3.connect(file, timeout=LOCK_TIMEOUT)) as connection:
        online = [name for name, columns in sqlite_tables(connection).items() if set(columns) >= ONLINE_COLUMNS]
        return sum(
            connection.execute(f'select count(*) from "{table}" where entity_key = ?', [key]).fetchone()[0]
            for table in online
            for key in _online_keys(connection, table, person)
        )


def redis_keys(person: Person, act: Literal["exists", "delete"]) -> int:
    """Count, or delete and count, the person's keys in Redis, where Feast's online store uses it."""
    if not os.environ.get("CHURN_REDIS"):
        return 0
    from feast.infra.online_stores.helpers import _redis_key
    from feast.infra.online_stores.redis import RedisOnlineStore

    from inference.feature_store.client import open_store

    config = open_store().config
    client = RedisOnlineStore()._get_client(config.online_store)
    return sum(getattr(client, act)(_redis_key(config.project, key, 3)) for key in _entities(person))


def scrub_text(file: Path, traces: Traces) -> int:
    """Mask the person in a text file; return the number of masked places."""
    count = traces.count_in_file(file, "text")
    if count:
        with replace_file(file) as partial:
            partial.write_bytes(traces.mask(file.read_bytes()))
    return count


@contextmanager
def replace_file(file: Path) -> Iterator[Path]:
    """Path to write the new contents of a file to; the file keeps its permissions."""
    with whole_file(file) as partial:
        yield partial
        shutil.copymode(file, partial)


def _entities(person: Person) -> list:
    """Feast's entity keys of the customer and of their texts."""
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    named = [(name, value) for name in ("customer_id", "text_id") for value in person.keys[name]]
    return [EntityKey(join_keys=[name], entity_values=[Value(string_val=value)]) for name, value in named]


def _online_keys(connection: sqlite3.Connection, table: str, person: Person) -> set[bytes]:
    """Serialised keys of the person's rows: of the customer and their texts, and of rows with their ``customer_id``."""
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.protos.feast.types.Value_pb2 import Value

    keys = {serialize_entity_key(key, entity_key_serialization_version=3) for key in _entities(person)}
    for customer_id in person.ids:
        value = Value(string_val=customer_id).SerializeToString()
        query = f"select entity_key from \"{table}\" where feature_name = 'customer_id' and value = ?"
        keys |= {row[0] for row in connection.execute(query, [value])}
    return keys


def _delete(connection: sqlite3.Connection, table: str, column: str, values: Iterable[str | bytes]) -> int:
    query = f'delete from "{table}" where "{column}" = ?'
    return sum(connection.execute(query, [value]).rowcount for value in values)
