"""A log of accepted events in two tables of an SQL database."""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, ClassVar

from inference.errors import ChurnRadarError
from inference.event_log.events import COLUMNS, OWNED, Event, EventConflictError, LoggedEvent
from inference.event_log.log import NOT_LOGGED, OTHER_CONTENT, OTHER_CUSTOMER, PAGE, DroppedEvent, EventLog

#: A position that no event has.
BEYOND = 2**62
_DROPPED = "sequence, event_id, customer_id, received_at, dropped_at, reason, content_hash"


def content(event: Event) -> tuple[str, bytes]:
    """Return an event's rows as JSON, and the SHA-256 of its customer and rows."""
    rows = json.dumps(event.rows, sort_keys=True, ensure_ascii=False)
    return rows, hashlib.sha256(f"{event.customer_id}\n{rows}".encode()).digest()


class SqlEventLog(EventLog):
    """The queries that SQLite and PostgreSQL share; values stand as ``?`` in them."""

    #: Give the last position, and the next one; make positions go on after one.
    last_position: ClassVar[str]
    next_position: ClassVar[str]
    go_on_after: ClassVar[str]
    #: The key of an event's row of a table, with the fields ``table`` and ``column``.
    key: ClassVar[str]

    @abstractmethod
    def execute(self, query: str, parameters: Sequence = ()) -> Any:
        """Run a query and return its cursor."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager:
        """Make the queries of a block one transaction; only one process at a time is in such a block."""

    @abstractmethod
    def now(self) -> str:
        """Return the time (UTC, ISO 8601)."""

    def make_indexes(self) -> None:
        """Let events be found by the key of their row."""
        for table in OWNED:
            key = self._key_of(table)
            self.execute(f"create index if not exists events_of_{table} on events ({key}) where {key} is not null")

    def begin_after(self, sequence: int) -> None:
        """See ``EventLog``."""
        with self.transaction():
            self.execute(self.go_on_after, [sequence])

    def append_all(self, groups: Sequence[Sequence[Event]]) -> list[list[bool] | EventConflictError]:
        """See ``EventLog``."""
        results: list[list[bool] | EventConflictError] = []
        with self.transaction():
            now = self.now()
            for events in groups:
                self.execute("savepoint request")
                try:
                    results.append([self._insert_new(event, now) for event in events])
                except EventConflictError as error:
                    self.execute("rollback to request")
                    results.append(error)
                self.execute("release request")
        return results

    def restore(self, events: Iterable[LoggedEvent], dropped: Iterable[DroppedEvent]) -> None:
        """See ``EventLog``."""
        with self.transaction():
            newest = 0
            for event in events:
                self._insert(event, event.sequence, event.received_at.isoformat(), *content(event))
                newest = event.sequence
            for one in dropped:
                values = (one.sequence, one.event_id, one.customer_id, one.received_at, one.dropped_at, one.reason)
                query = f"insert into dropped ({_DROPPED}) values (?, ?, ?, ?, ?, ?, ?)"
                self.execute(query, [*values, one.content_hash])
                newest = max(newest, one.sequence)
            self.execute(self.go_on_after, [newest])

    def since(self, sequence: int = 0, customer_id: str | None = None) -> Iterator[LoggedEvent]:
        """See ``EventLog``."""
        condition, parameters = ("", []) if customer_id is None else ("and customer_id = ?", [customer_id])
        return self._pages(f"sequence > ? {condition} order by sequence", sequence, parameters)

    def latest(self, customer_id: str | None = None, received_from: datetime | None = None) -> Iterator[LoggedEvent]:
        """See ``EventLog``."""
        wanted = {"customer_id = ?": customer_id, "received_at >= ?": received_from and received_from.isoformat()}
        conditions = {condition: value for condition, value in wanted.items() if value is not None}
        condition = " and ".join(["sequence < ?", *conditions])
        return self._pages(f"{condition} order by sequence desc", BEYOND, list(conditions.values()))

    def get(self, event_id: str) -> LoggedEvent | None:
        """See ``EventLog``."""
        return next(self._read("event_id = ?", [event_id]), None)

    def drop(self, event_id: str, reason: str) -> LoggedEvent:
        """See ``EventLog``."""
        with self.transaction():
            event = self.get(event_id)
            if event is None:
                raise ChurnRadarError(NOT_LOGGED.format(event_id))
            ((position,),) = self.execute(self.next_position).fetchall()
            self.execute(
                f"insert into dropped ({_DROPPED}) select ?, event_id, customer_id, received_at, ?, ?, content_hash "
                "from events where event_id = ?",
                [position, self.now(), reason, event_id],
            )
            self.execute("delete from events where event_id = ?", [event_id])
        return event

    def all_dropped(self) -> list[DroppedEvent]:
        """See ``EventLog``."""
        rows = self.execute(f"select {_DROPPED} from dropped order by sequence").fetchall()
        return [DroppedEvent(*row) for row in rows]

    def newest_by_customer(self, sequence: int) -> dict[str, int]:
        """See ``EventLog``."""
        query = (
            "select customer_id, max(sequence) from (select customer_id, sequence from events union all "
            "select customer_id, sequence from dropped) as changes where sequence > ? group by customer_id"
        )
        return dict(self.execute(query, [sequence]).fetchall())

    def newest_dropped(self, customer_id: str) -> int:
        """See ``EventLog``."""
        query = "select coalesce(max(sequence), 0) from dropped where customer_id = ?"
        return self.execute(query, [customer_id]).fetchone()[0]

    def newest(self) -> int:
        """See ``EventLog``."""
        return self.execute(self.last_position).fetchone()[0]

    def __len__(self) -> int:
        """See ``EventLog``."""
        return self.execute("select count(*) from events").fetchone()[0]

    def forget(self, customer_ids: Collection[str]) -> int:
        """See ``EventLog``."""
        marks = ", ".join("?" * len(customer_ids))
        with self.transaction():
            deleted = [
                self.execute(f"delete from {table} where customer_id in ({marks})", list(customer_ids)).rowcount
                for table in ("events", "dropped")
            ]
        return sum(deleted)

    def _pages(self, condition: str, position: int, parameters: Sequence) -> Iterator[LoggedEvent]:
        """Read events page by page; the first value in the condition is the position where a page begins."""
        while True:
            page = list(self._read(f"{condition} limit {PAGE}", [position, *parameters]))
            yield from page
            if len(page) < PAGE:
                return
            position = page[-1].sequence

    def _read(self, condition: str, parameters: Sequence) -> Iterator[LoggedEvent]:
        columns = "event_id, customer_id, cast(rows as text), sequence, received_at"
        for event_id, customer, rows, position, received_at in self.execute(
            f"select {columns} from events where {condition}", parameters
        ):
            yield LoggedEvent(event_id, customer, json.loads(rows), position, datetime.fromisoformat(received_at))

    def _insert_new(self, event: Event, received_at: str) -> bool:
        """Log an event, unless it was logged, or dropped, before."""
        rows, digest = content(event)
        query = "select content_hash from {} where event_id = ?"
        logged = self.execute(query.format("events"), [event.event_id]).fetchone()
        if logged is None and (digest,) in self.execute(query.format("dropped"), [event.event_id]).fetchall():
            return False
        if logged is not None:
            if logged[0] != digest:
                raise EventConflictError(OTHER_CONTENT.format(event.event_id))
            return False
        self._refuse_anothers(event)
        ((position,),) = self.execute(self.next_position).fetchall()
        self._insert(event, position, received_at, rows, digest)
        return True

    def _insert(self, event: Event, position: int, received_at: str, rows: str, digest: bytes) -> None:
        self.execute(
            "insert into events (sequence, event_id, customer_id, received_at, content_hash, rows) "
            "values (?, ?, ?, ?, ?, ?)",
            [position, event.event_id, event.customer_id, received_at, digest, rows],
        )

    def _refuse_anothers(self, event: Event) -> None:
        """Raise an ``EventConflictError`` if a row's key came with another customer before."""
        for table in OWNED:
            for row in event.rows.get(table, ()):
                key, value = COLUMNS[table][0], row[COLUMNS[table][0]]
                query = f"select 1 from events where {self._key_of(table)} = ? and customer_id <> ? limit 1"
                if self.execute(query, [value, event.customer_id]).fetchone():
                    raise EventConflictError(OTHER_CUSTOMER.format(key, value))

    def _key_of(self, table: str) -> str:
        return self.key.format(table=table, column=COLUMNS[table][0])
