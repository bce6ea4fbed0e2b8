"""Which log of accepted events a home has: ``CHURN_EVENTS``, checked against what the home used before."""

import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager

from inference.errors import ChurnRadarError, reading
from inference.event_log.log import EventLog
from inference.event_log.sqlite_log import SqliteEventLog
from inference.home import home, whole_file

KINDS = ("sqlite", "redis", "postgres")
#: File of the home that names the log where it is, or was, not in SQLite.
NOTE = "events/log.json"


def chosen() -> str:
    """Return ``CHURN_EVENTS``."""
    kind = os.environ.get("CHURN_EVENTS") or KINDS[0]
    if kind not in KINDS:
        raise ChurnRadarError(f"CHURN_EVENTS is {kind}; expected {', '.join(KINDS)}")
    return kind


def agreed() -> str:
    """Return ``CHURN_EVENTS``; where the home's events are in another log, raise ChurnRadarError."""
    kind, before = chosen(), used()
    if before not in (None, kind):
        raise ChurnRadarError(
            f"CHURN_EVENTS is {kind}, and the events of {home()} are in {before}; expected CHURN_EVENTS={before}, or "
            "churn-radar events copy, which copies them"
        )
    return kind


def used() -> str | None:
    """Return the log that the home's events are in; None where it has none yet."""
    if note := _noted():
        return note["kind"]
    return "sqlite" if (home() / "events" / "log.db").exists() else None


def connect(kind: str) -> EventLog:
    """Open a log, whether or not the home's events are in it."""
    if kind == "redis":
        from inference.event_log.redis_log import RedisEventLog

        return RedisEventLog()
    if kind == "postgres":
        try:
            from inference.event_log.postgres_log import PostgresEventLog
        except ImportError:
            raise ChurnRadarError("CHURN_EVENTS=postgres needs pip install 'churn-radar[postgres]'") from None
        return PostgresEventLog()
    return SqliteEventLog()


def use(log: EventLog) -> None:
    """Note that the home's events are in a log from now on."""
    with whole_file(home() / NOTE) as partial:
        partial.write_text(json.dumps({"kind": log.kind, "log": log.identity()}) + "\n")


def connect_own() -> EventLog:
    """Open the log that ``CHURN_EVENTS`` names; one that is not the home's is a ChurnRadarError."""
    log = connect(agreed())
    note = _noted()
    if note and note["log"] != log.identity():
        log.close()
        raise ChurnRadarError(
            f"the log in {log.kind} is not that of {home()}; expected the one that has its "
            f"events. Where they are lost, remove {home() / NOTE}: the service begins a new log"
        )
    return log


def open_log() -> EventLog:
    """Open the log that ``CHURN_EVENTS`` names, made where there is none.

    Raises ChurnRadarError where it cannot be used, or the home's events are in another one.
    """
    log = connect_own()
    if log.kind != "sqlite" and used() is None:
        use(log)
    return log


@contextmanager
def existing_log() -> Iterator[EventLog | None]:
    """Open the log for a block; None where the home has none."""
    if used() is None and (chosen() == "sqlite" or not home().is_dir()):
        yield None
        return
    with closing(open_log()) as log:
        yield log


def _noted() -> dict[str, str] | None:
    note = home() / NOTE
    if not note.exists():
        return None
    with reading(note):
        noted = json.loads(note.read_text())
        if not isinstance(noted, dict) or noted.get("kind") not in KINDS or not isinstance(noted.get("log"), str):
            raise ValueError(f"{noted} names no log")
        return noted
