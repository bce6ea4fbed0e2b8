"""Progress bars on long work: on a terminal's error stream, silent elsewhere."""

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
