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

from inference.errors import ChurnRadarError
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
#: Kinds of events by the raw table that they are a row of.
KINDS = {"orders": "order", "events": "browsing", "reviews": "review", "support_tickets": "ticket"}
#: Columns that are no text.
MOMENTS = ("ordered_at", "occurred_at", "reviewed_at", "opened_at", "closed_at", "loaded_at")
NUMBERS = ("amount", "discount_amount", "quantity", "unit_price", "rating", "satisfaction")
#: Tables whose keys belong to one customer each. (Rows of ``events`` have the id of their event.)
_OWNED = ("orders", "reviews", "support_tickets")
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
create table if not exists dropped (
    sequence integer primary key,
    event_id text not null,
    customer_id text not null,
    received_at text not null,
    content_hash blob not null,
    dropped_at text not null,
    reason text not null
);
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

    @property
    def kind(self) -> str:
        """What happened: a value of ``KINDS``."""
        return next(kind for table, kind in KINDS.items() if table in self.rows)

    @property
    def key(self) -> str:
        """The id of what happened, such as the order's."""
        table = next(table for table in KINDS if table in self.rows)
        return self.rows[table][0][COLUMNS[table][0]]


class EventConflictError(Exception):
    """An event contradicts one that was accepted before; the message says how."""


class EventLog:
    """A SQLite file in write-ahead mode, by default that of the home folder."""

    def __init__(self, file: Path | None = None) -> None:
        file = file or home() / "events" / "log.db"
        file.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=5)
        try:
            self._connection.execute("pragma journal_mode = wal")
            # full flushes the write-ahead file at each commit, so that a power cut loses nothing
            self._connection.execute("pragma synchronous = full")
            self._connection.executescript(_SCHEMA)
            for table in _OWNED:
                key = _key_of(table)
                self._connection.execute(
                    f"create index if not exists events_of_{table} on events ({key}) where {key} is not null"
                )
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise ChurnRadarError(
                f"{file}: {error}; expected the log of accepted events, an SQLite file that can be written: restore it "
                "from a backup. Without one, move it away: the service begins a new log"
            ) from None

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
            other content, or an event of another customer about the same order, review or ticket.
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
        return self._read(f"sequence > ? {condition} order by sequence", [sequence, *parameters])

    def latest(self, customer_id: str | None = None, received_from: datetime | None = None) -> Iterator[LoggedEvent]:
        """Read events from the newest to the oldest: of one customer or of all, accepted from a moment (UTC) on."""
        wanted = {"customer_id = ?": customer_id, "received_at >= ?": received_from and received_from.isoformat()}
        conditions = {condition: value for condition, value in wanted.items() if value is not None}
        return self._read(" and ".join(["true", *conditions]) + " order by sequence desc", list(conditions.values()))

    def get(self, event_id: str) -> LoggedEvent | None:
        """Return an event; None if the log has none of this id."""
        return next(self._read("event_id = ?", [event_id]), None)

    def drop(self, event_id: str, reason: str) -> LoggedEvent:
        """Remove an event, note when and why, and return it.

        The removal takes the next position of the log, so that builds and the service see that something changed. The
        event is not logged again if the same is sent once more.
        Raises ChurnRadarError if the log has no such event.
        """
        connection = self._connection
        connection.execute("begin immediate")
        try:
            event = self.get(event_id)
            if event is None:
                raise ChurnRadarError(f"event {event_id} is not in the log; churn-radar events list shows which are")
            connection.execute("update sqlite_sequence set seq = seq + 1 where name = 'events'")
            connection.execute(
                "insert into dropped select (select seq from sqlite_sequence where name = 'events'), event_id, "
                "customer_id, received_at, content_hash, ?, ? from events where event_id = ?",
                [datetime.now(UTC).isoformat(), reason, event_id],
            )
            connection.execute("delete from events where event_id = ?", [event_id])
        except BaseException:
            connection.execute("rollback")
            raise
        connection.execute("commit")
        return event

    def dropped(self, event_id: str) -> dict[str, str] | None:
        """Return customer, times and reason of an event that was removed last under an id; None if there is none."""
        names = ("event_id", "customer_id", "received_at", "dropped_at", "reason")
        query = f"select {', '.join(names)} from dropped where event_id = ? order by sequence desc"
        row = self._connection.execute(query, [event_id]).fetchone()
        return None if row is None else dict(zip(names, row, strict=True))

    def newest_by_customer(self, sequence: int) -> dict[str, int]:
        """Return the position of each customer's newest event, or removal of an event, after a position."""
        query = (
            "select customer_id, max(sequence) from (select customer_id, sequence from events union all "
            "select customer_id, sequence from dropped) where sequence > ? group by customer_id"
        )
        return dict(self._connection.execute(query, [sequence]).fetchall())

    def newest_dropped(self, customer_id: str) -> int:
        """Return the position of the newest removal of an event of a customer; 0 if there is none."""
        query = "select coalesce(max(sequence), 0) from dropped where customer_id = ?"
        return self._connection.execute(query, [customer_id]).fetchone()[0]

    def newest(self) -> int:
        """Return the position of the newest event or removal; 0 if there is none."""
        query = "select max((select coalesce(max(sequence), 0) from {}), (select coalesce(max(sequence), 0) from {}))"
        return self._connection.execute(query.format("events", "dropped")).fetchone()[0]

    def _read(self, condition: str, parameters: Sequence) -> Iterator[LoggedEvent]:
        events = self._connection.execute(
            f"select event_id, customer_id, rows, sequence, received_at from events where {condition}", parameters
        )
        for event_id, customer, rows, position, received_at in events:
            yield LoggedEvent(event_id, customer, json.loads(rows), position, datetime.fromisoformat(received_at))

    def _insert(self, event: Event, received_at: str) -> bool:
        rows = json.dumps(event.rows, sort_keys=True, ensure_ascii=False)
        digest = hashlib.sha256(f"{event.customer_id}\n{rows}".encode()).digest()
        query = "select content_hash from {} where event_id = ?"
        logged = self._connection.execute(query.format("events"), [event.event_id]).fetchone()
        if logged is None and (digest,) in self._connection.execute(query.format("dropped"), [event.event_id]):
            return False
        if logged is None:
            self._refuse_anothers(event)
            self._connection.execute(
                "insert into events (event_id, customer_id, received_at, content_hash, rows) values (?, ?, ?, ?, ?)",
                [event.event_id, event.customer_id, received_at, digest, rows],
            )
        elif logged[0] != digest:
            raise EventConflictError(f"event_id {event.event_id} was used for other content")
        return logged is None

    def _refuse_anothers(self, event: Event) -> None:
        """Raise an ``EventConflictError`` if a row's key came with another customer before."""
        for table in _OWNED:
            for row in event.rows.get(table, ()):
                key, value = COLUMNS[table][0], row[COLUMNS[table][0]]
                query = f"select 1 from events where {_key_of(table)} = ? and customer_id <> ? limit 1"
                if self._connection.execute(query, [value, event.customer_id]).fetchone():
                    raise EventConflictError(f"{key} {value} belongs to another customer")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def export(folder: Path) -> dict[str, int]:
    """Write the log's rows as Parquet, a file per raw table, which ``dbt build`` reads besides the shop's own tables.

    ``through.parquet``, written last, has the position of the newest event in these files; if that is the newest one
    of the log, or there is no log, nothing is written. Damaged files are written again.

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
        # an empty log may have been lost: what the files hold is all that there is
        exported = _exported(folder)
        if exported is not None and (exported == newest or newest == 0):
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


def _exported(folder: Path) -> int | None:
    """Position of the newest event in the files; None where there are none or one is damaged."""
    try:
        for table in COLUMNS:
            if (file := folder / f"{table}.parquet").exists():
                pq.read_metadata(file)
        return pq.read_table(folder / "through.parquet")["through"][0].as_py()
    except (pa.ArrowException, OSError, KeyError):
        return None


def _key_of(table: str) -> str:
    """The key of an event's row of a table, in SQL."""
    return f"json_extract(rows, '$.{table}[0].{COLUMNS[table][0]}')"


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
