"""What every log of accepted events does, wherever it keeps them."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from inference.event_log.events import Event, EventConflictError, LoggedEvent

#: Events read at a time, so that neither a reader's memory nor the time for an answer depends on the log's size.
PAGE = 1000
#: Refuses an event that is not in the log.
NOT_LOGGED = "event {} is not in the log; churn-radar events list shows which are"
#: Refuses an event whose id the log has with other rows, or whose key it has of another customer.
OTHER_CONTENT = "event_id {} was used for other content"
OTHER_CUSTOMER = "{} {} belongs to another customer"


@dataclass(frozen=True)
class DroppedEvent:
    """An event that an operator removed; its rows are gone."""

    #: Position in the log of the removal.
    sequence: int
    event_id: str
    customer_id: str
    #: When it was accepted, and when removed (UTC, ISO 8601).
    received_at: str
    dropped_at: str
    reason: str
    #: SHA-256 of its customer and rows, by which the same event is recognised.
    content_hash: bytes


class EventLog(ABC):
    """Accepted events in the order of their positions, which readers see without gaps: nothing appears later before.

    An event is on disk when a method that wrote it returns. Several processes may write at the same time. Not
    thread-safe. Methods raise ``EventLogDownError`` where the log does not answer.
    """

    #: The value of ``CHURN_EVENTS`` that chooses it.
    kind: ClassVar[str]

    @abstractmethod
    def identity(self) -> str:
        """Return what the log was given when it was made, by which its home knows it again."""

    @abstractmethod
    def begin_after(self, sequence: int) -> None:
        """Make new events get positions after the last one that a build has read.

        This matters for a log that was lost and begins anew: builds skip positions that they have read.
        """

    @abstractmethod
    def append_all(self, groups: Sequence[Sequence[Event]]) -> list[list[bool] | EventConflictError]:
        """Log groups of events, and return after one flush to disk; each group is logged as a whole or not at all.

        Returns
        -------
        list
            For each group, whether each of its events is new; or an error if the log has an event of the same id with
            other content, or an event of another customer about the same order, review or ticket.
        """

    @abstractmethod
    def restore(self, events: Iterable[LoggedEvent], dropped: Iterable[DroppedEvent]) -> None:
        """Log the events and removals of another log at their positions; this one is empty."""

    @abstractmethod
    def since(self, sequence: int = 0, customer_id: str | None = None) -> Iterator[LoggedEvent]:
        """Read the events after a position in order, of one customer or of all."""

    @abstractmethod
    def latest(self, customer_id: str | None = None, received_from: datetime | None = None) -> Iterator[LoggedEvent]:
        """Read events from the newest to the oldest: of one customer or of all, accepted from a moment (UTC) on."""

    @abstractmethod
    def get(self, event_id: str) -> LoggedEvent | None:
        """Return an event; None if the log has none of this id."""

    @abstractmethod
    def drop(self, event_id: str, reason: str) -> LoggedEvent:
        """Remove an event, note when and why, and return it.

        The removal takes the next position of the log, so that builds and the service see that something changed. The
        event is not logged again if the same is sent once more.
        Raises ChurnRadarError if the log has no such event.
        """

    @abstractmethod
    def all_dropped(self) -> list[DroppedEvent]:
        """Return the removals in order."""

    @abstractmethod
    def newest_by_customer(self, sequence: int) -> Mapping[str, int]:
        """Return the position of each customer's newest event, or removal of an event, after a position."""

    @abstractmethod
    def newest_dropped(self, customer_id: str) -> int:
        """Return the position of the newest removal of an event of a customer; 0 if there is none."""

    @abstractmethod
    def newest(self) -> int:
        """Return the last position that an event or removal got, though it was forgotten; 0 in an empty log."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of events."""

    @abstractmethod
    def forget(self, customer_ids: Collection[str]) -> int:
        """Delete all events and removals of customers, without a trace; return how many these were."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection."""
