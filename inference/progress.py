"""Progress bars on long work: on a terminal's error stream, silent elsewhere."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich import progress
from rich.console import Console

Item = TypeVar("Item")


def track(items: Sequence[Item], description: str) -> Iterable[Item]:
    """Iterate with a progress bar."""
    console = Console(stderr=True)
    return progress.track(items, description, console=console, transient=True, disable=not console.is_terminal)
