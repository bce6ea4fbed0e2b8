"""One command at a time writes to a home, by a lock of the operating system.

It ends with the process that holds it and those that this one started with ``close_fds=False``, which inherit it: where
a command is killed, what it started still writes.
"""

import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from inference.errors import ChurnRadarError
from inference.home import home
from inference.home_format import make_home

#: File of the home that is locked while a command writes to it, and names that command.
LOCK = "lock.json"
#: Variable with the process that holds the lock, which its children inherit: they work for it.
HOLDER = "CHURN_LOCK_HOLDER"
#: Variable with the seconds to wait for a lock; none by default.
WAIT = "CHURN_LOCK_WAIT"

#: Locks that this process holds until it ends: closing the file would free them.
_held: list[TextIO] = []
logger = logging.getLogger(__name__)


@contextmanager
def writing(command: str) -> Iterator[None]:
    """Hold the lock of the home within a block; see ``hold``."""
    opened = _acquire(command, home())
    if opened is None:
        yield
        return
    before = os.environ.get(HOLDER)
    os.environ[HOLDER] = str(os.getpid())
    with closing(opened):
        try:
            yield
        finally:
            opened.truncate(0)
            os.environ.pop(HOLDER)
            if before is not None:
                os.environ[HOLDER] = before


def hold(command: str, folder: Path | None = None) -> None:
    """Hold the lock of a home until this process and those that it starts end, however they end.

    Processes that this one starts share it. ``command`` is the name for others, such as ``dbt build``, without values,
    which may be a customer's id.

    Raises
    ------
    ChurnRadarError
        If the folder cannot be made or written to, or another command still holds the lock after ``CHURN_LOCK_WAIT``
        seconds.
    """
    if opened := _acquire(command, folder or home()):
        _held.append(opened)
        os.environ[HOLDER] = str(os.getpid())


def _acquire(command: str, folder: Path) -> TextIO | None:
    """Lock a home until the returned file is closed; None where this process, or the one it works for, has the lock."""
    try:
        make_home(folder)
        opened = (folder / LOCK).open("a+")
        os.set_inheritable(opened.fileno(), True)
    except OSError as error:
        raise ChurnRadarError(
            f"{folder}: {error.strerror}; expected a folder that can be made and written to: set CHURN_HOME"
        ) from None
    try:
        until, is_told = time.monotonic() + _seconds_to_wait(), False
        while not _lock(opened):
            holder = _read(opened)
            if holder.get("host") == socket.gethostname() and str(holder.get("process")) in (
                str(os.getpid()),
                os.environ.get(HOLDER),
            ):
                opened.close()
                return None
            if time.monotonic() >= until:
                raise ChurnRadarError(
                    f"{folder}: {_described(holder)}, or what it started, writes to it; expected one command at a "
                    f"time: wait until it ends, or set {WAIT} to the seconds to wait for it"
                )
            if not is_told:
                logger.info("%s: waiting for %s", folder, _described(holder))
                is_told = True
            time.sleep(min(1.0, max(0.0, until - time.monotonic())))
    except BaseException:
        opened.close()
        raise
    now = datetime.now(UTC).isoformat(timespec="seconds")
    opened.truncate(0)
    opened.write(json.dumps({"command": command, "process": os.getpid(), "host": socket.gethostname(), "since": now}))
    opened.flush()
    return opened


def _lock(opened: TextIO) -> bool:
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(opened: TextIO) -> dict:
    """Return who holds the lock; nothing in the moment before it has written that."""
    opened.seek(0)
    try:
        return dict(json.loads(opened.read()))
    except (ValueError, TypeError):
        return {}


def _described(holder: dict) -> str:
    if not holder:
        return "another command"
    return "{command} (process {process} on {host}, since {since})".format(**holder)


def _seconds_to_wait() -> float:
    value = os.environ.get(WAIT) or "0"
    try:
        return float(value)
    except ValueError:
        raise ChurnRadarError(f"{WAIT} is {value}; expected a number of seconds") from None
