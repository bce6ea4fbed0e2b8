"""Progress bars on stderr, only on a terminal; and the log of this package on stdout."""

import logging
import sys
from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich import progress
from rich.console import Console

Item = TypeVar("Item")


def track(items: Sequence[Item], description: str, completed: int = 0) -> Iterable[Item]:
    """Iterate with a progress bar that starts after ``completed`` earlier items."""
    console = Console(stderr=True)
    return progress.track(
        items,
        description,
        total=len(items) + completed,
        completed=completed,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


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
