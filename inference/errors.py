"""The exception for bad input, which the user can correct."""

import re


class ChurnRadarError(Exception):
    """Bad input; the message is one line that names the table, column, var or file and what was expected."""

    def __init__(self, message: str) -> None:
        super().__init__(re.sub(r"\s+", " ", message))
