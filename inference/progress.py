"""Progress: a bar on a terminal, else lines in the log; and the log of this package on stdout."""

import logging
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from rich import progress
from rich.console import Console

Item = TypeVar("Item")
logger = logging.getLogger(__name__)

#: Seconds until the first line about a stage where there is no terminal, and between two later ones.
FIRST_LINE, LINES = 5.0, 30.0


def track(items: Iterable[Item], description: str, completed: int = 0, total: int | None = None) -> Iterable[Item]:
    """Iterate with a progress bar that starts after ``completed`` earlier items.

    Without a terminal, lines in the log say what is done of all, after five seconds and then every half minute.
    ``total`` is needed where the items have no length.
    """
    console = Console(stderr=True)
    total = completed + (len(items) if isinstance(items, Sequence) else 0) if total is None else total
    if not console.is_terminal:
        return _log_progress(items, description, completed, total)
    return progress.track(items, description, total=total, completed=completed, console=console, transient=True)


def _log_progress(items: Iterable[Item], description: str, completed: int, total: int) -> Iterator[Item]:
    started, done, over = time.monotonic(), completed, threading.Event()

    def log_lines() -> None:
        seconds = FIRST_LINE
        while not over.wait(seconds):
            seconds = LINES
            per_item = (time.monotonic() - started) / max(done - completed, 1)
            left = f", about {_duration(per_item * (total - done))} left" if done > completed else ""
            logger.info("%s: %s of %s%s", description, f"{done:,}", f"{total:,}", left)

    threading.Thread(target=log_lines, daemon=True).start()
    try:
        for item in items:
            yield item
            done += 1
    finally:
        over.set()


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


class _StdoutHandler(logging.Handler):
    """Writes messages to the current ``sys.stdout``, which tests and dbt replace."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stdout.write(self.format(record) + "\n")


def show_log() -> None:
    """Print the messages of this package from level INFO; called by the command line and dbt's plugin."""
    logger = logging.getLogger("inference")
    if not logger.handlers:
        logger.addHandler(_StdoutHandler())
        logger.setLevel(logging.INFO)
        logger.propagate = False  # libraries give the root logger handlers of their own
