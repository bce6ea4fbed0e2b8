"""Ids as applications send them, read as staging reads ids: macros/raw_types.sql."""

import re
from collections.abc import Collection
from typing import Any

from inference.event_log.events import COLUMNS, Event

#: What is written where there is no id.
ABSENT = {"", "nan", "none", "null", "<na>", "nat"}
#: What ids in ``COLUMNS`` identify.
KINDS = {column.removesuffix("_id") for own in COLUMNS.values() for column in own if column.endswith("_id")}
_NUMBER = re.compile(r"\+?(-?)0*([0-9]+)(\.0*)?")


def as_text(value: Any) -> Any:
    """Return an id without blanks around it; whole numbers as text, other values as they are."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value.strip(" \t\r\n") if isinstance(value, str) else value


def plain_number(text: str) -> str:
    """Return ``7`` for ``007``, ``+7`` and ``7.0``, and other text as it is."""
    found = _NUMBER.fullmatch(text)
    return found[1] + found[2] if found else text


def as_in_warehouse(event: Event, numeric_ids: Collection[str]) -> Event:
    """Return an event with its ids as the warehouse has them, of which some kinds are numbers."""

    def read(column: str, value: Any) -> Any:
        is_number = value is not None and column.removesuffix("_id") in numeric_ids
        return plain_number(value) if is_number else value

    rows = {
        table: [{column: read(column, value) for column, value in row.items()} for row in own]
        for table, own in event.rows.items()
    }
    return Event(event.event_id, read("customer_id", event.customer_id), rows)
