"""The log of accepted events in an SQLite file: for services on the machine of the home."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from inference.errors import ChurnRadarError
from inference.event_log.events import EventLogDownError
from inference.event_log.sql_log import SqlEventLog
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
_NO_POSITION = "not exists (select 1 from sqlite_sequence where name = 'events')"


class SqliteEventLog(SqlEventLog):
    """A SQLite file in write-ahead mode, by default that of the home folder."""

    kind = "sqlite"
    last_position = "select seq from sqlite_sequence where name = 'events'"
    next_position = "update sqlite_sequence set seq = seq + 1 where name = 'events' returning seq"
    go_on_after = "update sqlite_sequence set seq = max(seq, ?) where name = 'events'"
    key = "json_extract(rows, '$.{table}[0].{column}')"

    def __init__(self, file: Path | None = None) -> None:
        file = file or home() / "events" / "log.db"
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file
        self._connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=5)
        try:
            self._connection.execute("pragma journal_mode = wal")
            # full flushes the write-ahead file at each commit, so that a power cut loses nothing
            self._connection.execute("pragma synchronous = full")
            self._connection.executescript(_SCHEMA)
            self.make_indexes()
            if self.execute(f"select {_NO_POSITION}").fetchone()[0]:
                with self.transaction():
                    self.execute(f"insert into sqlite_sequence (name, seq) select 'events', 0 where {_NO_POSITION}")
        except (sqlite3.DatabaseError, EventLogDownError) as error:
            self._connection.close()
            raise ChurnRadarError(
                f"{file}: {error}; expected the log of accepted events, an SQLite file that can be written: restore it "
                "from a backup. Without one, move it away: the service begins a new log"
            ) from None

    def execute(self, query: str, parameters: Sequence = ()) -> sqlite3.Cursor:
        """See ``SqlEventLog``."""
        try:
            return self._connection.execute(query, parameters)
        except sqlite3.OperationalError as error:
            expected = "expected a log that others leave free for seconds, on a disk with free space"
            raise EventLogDownError(f"{self._file}: {error}; {expected}") from None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See ``SqlEventLog``."""
        self.execute("begin immediate")
        try:
            yield
            self.execute("commit")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("rollback")
            raise

    def identity(self) -> str:
        """See ``EventLog``: the file belongs to its home."""
        return ""

    def now(self) -> str:
        """See ``SqlEventLog``: of this machine's clock."""
        return datetime.now(UTC).isoformat()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
