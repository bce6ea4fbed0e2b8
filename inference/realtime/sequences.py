"""The newest events and texts of one customer, as the transformer reads them; see ``sequence_features``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from operator import itemgetter

from inference.realtime.features import History, at_midnight, is_valid

#: Characters of a text that are kept.
MAX_CHARACTERS = 2000


@dataclass(frozen=True)
class SequenceShape:
    """How many days back events and texts reach, and their maximal numbers."""

    event_days: int
    text_days: int
    max_events: int
    max_texts: int


def sequence_features(history: History, as_of: date, shape: SequenceShape) -> dict[str, list | None]:
    """Compute ``sequence_features`` of one customer before a midnight (UTC), newest events and texts first.

    Lists of columns ``event_*`` have one length, those of ``text*`` another; None where there is no event, or no text.
    """
    midnight = at_midnight(as_of)
    events = _newest(history.events, "occurred_at", midnight, shape.event_days, shape.max_events, _event_key)
    texts = _newest(history.texts, "written_at", midnight, shape.text_days, shape.max_texts, itemgetter("text_id"))
    columns = {
        "event_types": [row["event_type"] for row, _ in events],
        "event_categories": [row["category"] or "" for row, _ in events],
        "event_days_ago": [days for _, days in events],
        "event_amounts": [row["amount"] or 0.0 for row, _ in events],
        "text_ids": [row["text_id"] for row, _ in texts],
        "texts": [row["text"][:MAX_CHARACTERS] for row, _ in texts],
        "text_subjects": [row["subject"] or "" for row, _ in texts],
        "text_days_ago": [days for _, days in texts],
        "text_ratings": [row["rating"] or 0.0 for row, _ in texts],
    }
    return {name: values or None for name, values in columns.items()}


def _newest(
    rows: Sequence[Mapping], time_column: str, midnight: datetime, days: int, limit: int, tie_breaker: Callable
) -> list[tuple[Mapping, float]]:
    """Return the newest rows that are valid at a midnight, each with its age in days."""
    since = midnight - timedelta(days=days)
    known = [row for row in rows if since <= row[time_column] < midnight and is_valid(row, row["known_at"], midnight)]
    known.sort(key=tie_breaker)
    known.sort(key=itemgetter(time_column), reverse=True)
    return [(row, (midnight - row[time_column]).total_seconds() / 86400) for row in known[:limit]]


def _event_key(row: Mapping) -> tuple:
    return row["event_type"], row["category"] or "", row["amount"] or 0.0
