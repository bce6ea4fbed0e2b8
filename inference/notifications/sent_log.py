"""Log of the digests that were sent, in SQLite: each is written with its key before it is sent, and marked afterwards.

After a crash in between, the next run sends the same digest with the same idempotency key, by which a receiver can
recognise it. The log holds hashes of channels and alerts. The contents of a digest are kept until it was accepted;
customers are pseudonyms in a column of their own, by which ``churn-radar erase`` finds them.
"""

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from inference.errors import ChurnRadarError
from inference.home import home
from inference.notifications.alerts import Alert

#: Seconds to wait for another process that holds the log.
LOCK_TIMEOUT = 2
_SCHEMA = """
create table if not exists digests (
    sequence integer primary key,
    idempotency_key text not null unique,
    channel text not null,
    made_at text not null,
    sent_at text
);
create table if not exists alerts (
    channel text not null,
    alert_id text not null,
    idempotency_key text not null references digests (idempotency_key),
    customer_id text,
    content text,
    primary key (channel, alert_id)
);
"""


@dataclass(frozen=True)
class Digest:
    """Alerts that one channel gets in one message."""

    #: Fingerprint of the channel.
    channel: str
    alerts: tuple[Alert, ...]
    #: Hash of the channel and the ids of the alerts, stored with the digest.
    idempotency_key: str

    @classmethod
    def of(cls, channel: str, alerts: Sequence[Alert]) -> "Digest":
        """Make a digest and its key."""
        content = "\n".join([channel, *sorted(alert.alert_id for alert in alerts)])
        return cls(channel, tuple(alerts), hashlib.sha256(content.encode()).hexdigest()[:32])


class SentLog:
    """A SQLite file in write-ahead mode, flushed at each commit and locked by one process at a time.

    Raises
    ------
    ChurnRadarError
        If another process holds the lock.
    """

    def __init__(self) -> None:
        file = log_file()
        file.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(file, isolation_level=None, timeout=LOCK_TIMEOUT)
        try:
            # locked until it is closed or the process ends: two concurrent runs would send everything twice
            self._connection.execute("pragma locking_mode = exclusive")
            self._connection.execute("pragma journal_mode = wal")
            self._connection.execute("pragma synchronous = full")
            self._connection.execute("pragma secure_delete = on")
            self._connection.executescript(f"begin immediate; {_SCHEMA} commit;")
        except sqlite3.OperationalError as error:
            self._connection.close()
            raise ChurnRadarError(f"{file}: {error}; expected one churn-radar notify at a time") from None

    def __enter__(self) -> "SentLog":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def new_alerts(self, channel: str, alerts: Sequence[Alert]) -> list[Alert]:
        """Alerts that are in no digest of a channel, sent or not."""
        rows = self._connection.execute("select alert_id from alerts where channel = ?", [channel])
        known = {alert_id for (alert_id,) in rows}
        return [alert for alert in alerts if alert.alert_id not in known]

    def add(self, digest: Digest) -> None:
        """Write a digest that is going to be sent."""
        key = digest.idempotency_key
        self._connection.execute("begin immediate")
        self._connection.execute(
            "insert into digests (idempotency_key, channel, made_at) values (?, ?, ?)", [key, digest.channel, _now()]
        )
        self._connection.executemany(
            "insert into alerts (channel, alert_id, idempotency_key, customer_id, content) values (?, ?, ?, ?, ?)",
            [(digest.channel, a.alert_id, key, a.customer, _content(a)) for a in digest.alerts],
        )
        self._connection.execute("commit")

    def unsent(self, channel: str) -> list[Digest]:
        """Digests that a channel has not accepted yet, the oldest first; none whose customers were all erased."""
        rows = self._connection.execute(
            "select idempotency_key, alert_id, customer_id, content from digests "
            "inner join alerts using (channel, idempotency_key) "
            "where channel = ? and sent_at is null order by sequence, alerts.rowid",
            [channel],
        )
        digests: dict[str, list[Alert]] = {}
        for key, *columns in rows:
            digests.setdefault(key, []).append(_alert(*columns))
        return [Digest(channel, tuple(alerts), key) for key, alerts in digests.items()]

    def mark_sent(self, digest: Digest) -> None:
        """Mark a digest as accepted by its channel, and delete its contents."""
        key = [digest.idempotency_key]
        self._connection.execute("begin immediate")
        self._connection.execute("update digests set sent_at = ? where idempotency_key = ?", [_now(), *key])
        self._connection.execute("update alerts set customer_id = null, content = null where idempotency_key = ?", key)
        self._connection.execute("commit")


def log_file() -> Path:
    """Path of the log."""
    return home() / "notify" / "sent.db"


def merge_write_ahead_file() -> None:
    """Merge the write-ahead file that a killed run left into the log."""
    if log_file().exists():
        with SentLog():
            pass


def _content(alert: Alert) -> str:
    content = {name: value for name, value in asdict(alert).items() if name not in ("alert_id", "customer")}
    return json.dumps(content, default=str)  # a date


def _alert(alert_id: str, customer: str | None, content: str) -> Alert:
    values = json.loads(content)
    values["as_of_date"] = date.fromisoformat(values["as_of_date"])
    return Alert(alert_id=alert_id, customer=customer, **values)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
