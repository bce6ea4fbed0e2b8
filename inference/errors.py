"""The one exception that users cause and can mend."""

import re
from types import TracebackType


class ChurnRadarError(Exception):
    """Bad input; the message is one line that names the table, column, var or file and what was expected."""

    def __init__(self, message: str) -> None:
        super().__init__(re.sub(r"\s+", " ", message))

    @property
    def __traceback__(self) -> TracebackType | None:
        """Nothing: dbt prints the whole traceback of a Python model, which would bury the one line."""
        return None

    @__traceback__.setter
    def __traceback__(self, value: TracebackType | None) -> None:
        pass
