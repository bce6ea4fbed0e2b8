"""The log of accepted events, in SQLite: an event is on disk before the service acknowledges it."""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from inference.home import home, whole_file

#: Raw tables that events add rows to, with the columns that an event may have. The first column is the table's key: a
#: later row of the same key replaces an earlier one.
COLUMNS = {
    "orders": (
        "order_id",
        "customer_id",
        "ordered_at",
        "amount",
        "status",
        "discount_amount",
        "coupon_code",
        "loaded_at",
    ),
    "order_items": ("order_id", "product_id", "quantity", "unit_price", "product_name", "category"),
    "events": ("event_id", "customer_id", "event_type", "occurred_at", "session_id", "product_id"),
    "reviews": ("review_id", "customer_id", "review_text", "reviewed_at", "product_id", "rating", "loaded_at"),
    "support_tickets": ("ticket_id", "customer_id", "opened_at", "closed_at", "topic", "ticket_text", "satisfaction"),
}
#: Columns that are no text.
MOMENTS = ("ordered_at", "occurred_at", "reviewed_at", "opened_at", "closed_at", "loaded_at")
NUMBERS = ("amount", "discount_amount", "quantity", "unit_price", "rating", "satisfaction")
_TYPES = {**dict.fromkeys(MOMENTS, pa.timestamp("us")), **dict.fromkeys(NUMBERS, pa.float64())}
_SCHEMA = """
create table if not exists events (
    sequence integer primary key autoincrement,
    event_id text not null unique,
    customer_id text not null,
    received_at text not null,
    content_hash blob not null,
    rows text not null
);
create index if not exists events_of_customer on events (customer_id);
"""


@dataclass(frozen=True)
class Event:
    """Rows of raw tables that arrived together; they are accepted all or none."""

    #: Unique; the same id with the same rows is the same event.
    event_id: str
    #: The customer of all rows.
    customer_id: str
    #: Rows by raw table, in the columns of the data contract; times as ISO 8601, in UTC where they have no offset.
    rows: Mapping[str, Sequence[Mapping]]


@dataclass(frozen=True)
class LoggedEvent(Event):
    """An event with its position in the log, from 1 on, and when it was accepted (UTC)."""

    sequence: int
    received_at: datetime


class EventConflictError(Exception):
    """The same event id was used for other content before."""

    def __init__(self, event_id: str) -> None:
        super().__init__(event_id)
        self.event_id = event_id


class EventLog:
    """A SQLite file in write-ahead mode, by default that of the home folder."""

    def __init__(self, file: Path | None = None) -> None:
        file = file or home() / "events" / "log.db"
        file.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=5)
        self._connection.execute("pragma journal_mode = wal")
        # full flushes the write-ahead file at each commit, so that a power cut loses nothing
        self._connection.execute("pragma synchronous = full")
        self._connection.executescript(_SCHEMA)

    def begin_after(self, sequence: int) -> None:
        """Make new events get positions after the last one that a build has read.

        This matters for a log that was lost and begins anew: builds skip positions that they have read.
        """
        connection = self._connection
        connection.execute("begin immediate")
        ((newest,),) = connection.execute("select coalesce(max(seq), 0) from sqlite_sequence where name = 'events'")
        if newest < sequence:
            connection.execute("delete from sqlite_sequence where name = 'events'")
            connection.execute("insert into sqlite_sequence (name, seq) values ('events', ?)", [sequence])
        connection.execute("commit")

    def append_all(self, groups: Sequence[Sequence[Event]]) -> list[list[bool] | EventConflictError]:
        """Log groups of events, and return after one flush to disk; each group is logged as a whole or not at all.

        Returns
        -------
        list
            For each group, whether each of its events is new; or an error if the log has an event of the same id with
            other content.
        """
        now = datetime.now(UTC).isoformat()
        results: list[list[bool] | EventConflictError] = []
        self._connection.execute("begin immediate")
        try:
            for events in groups:
                self._connection.execute("savepoint request")
                try:
                    results.append([self._insert(event, now) for event in events])
                except EventConflictError as error:
                    self._connection.execute("rollback to request")
                    results.append(error)
                self._connection.execute("release request")
        except BaseException:
            self._connection.execute("rollback")
            raise
        self._connection.execute("commit")
        return results

    def since(self, sequence: int = 0, customer_id: str | None = None) -> Iterator[LoggedEvent]:
        """Read the events after a position in order, of one customer or of all."""
        condition, parameters = ("", []) if customer_id is None else ("and customer_id = ?", [customer_id])
        events = self._connection.execute(
            "select event_id, customer_id, rows, sequence, received_at from events "
            f"where sequence > ? {condition} order by sequence",
            [sequence, *parameters],
        )
        for event_id, customer, rows, position, received_at in events:
            yield LoggedEvent(event_id, customer, json.loads(rows), position, datetime.fromisoformat(received_at))

    def newest_by_customer(self, sequence: int) -> dict[str, int]:
        """Return the position of each customer's newest event after a position."""
        query = "select customer_id, max(sequence) from events where sequence > ? group by customer_id"
        return dict(self._connection.execute(query, [sequence]).fetchall())

    def newest(self) -> int:
        """Return the position of the newest event; 0 if there is none."""
        return self._connection.execute("select coalesce(max(sequence), 0) from events").fetchone()[0]

    def _insert(self, event: Event, received_at: str) -> bool:
        rows = json.dumps(event.rows, sort_keys=True, ensure_ascii=False)
        digest = hashlib.sha256(f"{event.customer_id}\n{rows}".encode()).digest()
        query = "select content_hash from events where event_id = ?"
        logged = self._connection.execute(query, [event.event_id]).fetchone()
        if logged is None:
            self._connection.execute(
                "insert into events (event_id, customer_id, received_at, content_hash, rows) values (?, ?, ?, ?, ?)",
                [event.event_id, event.customer_id, received_at, digest, rows],
            )
        elif logged[0] != digest:
            raise EventConflictError(event.event_id)
        return logged is None

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def export(folder: Path) -> dict[str, int]:
    """Write the log's rows as Parquet, a file per raw table, which ``dbt build`` reads besides the shop's own tables.

    ``through.parquet``, written last, has the position of the newest event in these files; if that is the newest one
    of the log, or there is no log, nothing is written.

    Parameters
    ----------
    folder : Path
        ``events`` in the home folder.

    Returns
    -------
    dict of str to int
        Number of rows written, by table. In tables with ``loaded_at``, which is then the time of arrival, all versions
        of a key are written; in others only the newest version.
    """
    if not (folder / "log.db").exists():
        return {}
    log = EventLog(folder / "log.db")
    try:
        newest, through = log.newest(), folder / "through.parquet"
        if through.exists() and pq.read_table(through)["through"][0].as_py() == newest:
            return {}
        rows = _versions(log.since())
    finally:
        log.close()
    for table, columns in COLUMNS.items():
        if rows[table]:
            schema = pa.schema([(column, _TYPES.get(column, pa.string())) for column in columns])
            _write(pa.Table.from_pylist(rows[table], schema), folder / f"{table}.parquet")
        else:
            (folder / f"{table}.parquet").unlink(missing_ok=True)
    _write(pa.table({"through": [newest]}), through)
    return {table: len(written) for table, written in rows.items()}


def _versions(events: Iterable[LoggedEvent]) -> dict[str, list[dict]]:
    """Rows to export by table, with the types of the data contract."""
    versions: dict[str, dict] = {table: {} for table in COLUMNS}
    for event in events:
        arrived = event.received_at.replace(tzinfo=None)
        for table, rows in event.rows.items():
            key, dated = COLUMNS[table][0], "loaded_at" in COLUMNS[table]
            for own in {row[key] for row in rows}:
                versions[table][(own, arrived) if dated else own] = [
                    _typed(row) | ({"loaded_at": arrived} if dated else {}) for row in rows if row[key] == own
                ]
    return {table: [row for version in keys.values() for row in version] for table, keys in versions.items()}


def _typed(row: Mapping) -> dict:
    return {name: utc(value) if name in MOMENTS and value else value for name, value in row.items()}


def utc(text: str) -> datetime:
    """Read a time in ISO 8601 as naive UTC; one without an offset is UTC, whatever the time zone of the machine."""
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _write(table: pa.Table, file: Path) -> None:
    with whole_file(file) as beside:
        pq.write_table(table, beside)
