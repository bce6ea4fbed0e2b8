"""The log of accepted events, in SQLite: an event is on disk before the service acknowledges it."""

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from inference.errors import ChurnRadarError
from inference.event_log.events import COLUMNS, OWNED, Event, EventConflictError, LoggedEvent
from inference.home import home

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


class SqliteEventLog:
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
            for table in OWNED:
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
        for table in OWNED:
            for row in event.rows.get(table, ()):
                key, value = COLUMNS[table][0], row[COLUMNS[table][0]]
                query = f"select 1 from events where {_key_of(table)} = ? and customer_id <> ? limit 1"
                if self._connection.execute(query, [value, event.customer_id]).fetchone():
                    raise EventConflictError(f"{key} {value} belongs to another customer")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _key_of(table: str) -> str:
    """The key of an event's row of a table, in SQL."""
    return f"json_extract(rows, '$.{table}[0].{COLUMNS[table][0]}')"
