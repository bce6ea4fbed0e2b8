"""The exception for bad input, which the user can correct, and text that a terminal shows as it is."""

import re

#: Control characters, of which some command a terminal, and how they are shown; lines and tabs stay.
_SHOWN = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


class ChurnRadarError(Exception):
    """Bad input; the message is one line that names the table, column, var or file and what was expected."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(re.sub(r"\s+", " ", message)))


def printable(text: str) -> str:
    """Show control characters by their numbers: a customer's words or id may hold commands to a terminal."""
    return text.translate(_SHOWN)
