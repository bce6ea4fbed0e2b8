"""The exception for bad input, which the user can correct; errors in one line, and text that a terminal shows."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Control characters, of which some command a terminal, and how they are shown; lines and tabs stay.
_SHOWN = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}
#: Libraries that read files, whose errors say that a file is missing or damaged.
_READERS = ("_duckdb", "duckdb", "pyarrow", "sqlite3")


class ChurnRadarError(Exception):
    """Bad input; the message is one line that names the table, column, var or file and what was expected."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(re.sub(r"\s+", " ", message)))


def printable(text: str) -> str:
    """Show control characters by their numbers: a customer's words or id may hold commands to a terminal."""
    return text.translate(_SHOWN)


def in_one_line(error: Exception) -> str | None:
    """Say in one line what the user can correct, such as a file that cannot be read; None for another error."""
    if isinstance(error, ChurnRadarError):
        return str(error)
    if isinstance(error, OSError) or type(error).__module__.split(".")[0] in _READERS:
        problem = str(error).strip().partition("\n")[0]
        return str(ChurnRadarError(f"{problem}; expected files as they were written: see docs/operations.md"))
    return None


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Raise ChurnRadarError, which names the file, where it turns out to be damaged within a block."""
    try:
        yield
    except (ValueError, OSError) as error:  # pyarrow's own errors are of these
        problem = str(error).strip().partition("\n")[0]
        raise ChurnRadarError(f"{file}: cannot be read; expected what dbt build writes ({problem})") from None
