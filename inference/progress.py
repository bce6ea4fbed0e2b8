"""Progress bars on long work, on a terminal's error stream and silent elsewhere; the package's log."""

import logging
import sys
from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich import progress
from rich.console import Console

Item = TypeVar("Item")


def track(items: Sequence[Item], description: str, completed: int = 0) -> Iterable[Item]:
    """Iterate with a progress bar; ``completed`` items were done before."""
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
    """Writes each message as a line of the standard output that is in place at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stdout.write(self.format(record) + "\n")


def show_log() -> None:
    """Print what this package logs from level INFO on; dbt and the command line call it, a library does not."""
    logger = logging.getLogger("inference")
    if not logger.handlers:
        logger.addHandler(_StdoutHandler())
        logger.setLevel(logging.INFO)
