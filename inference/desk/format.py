"""Numbers, dates and names as the desk writes them."""

from datetime import date

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv


def day(moment: date) -> str:
    """Write a date, as in 4 March 2024."""
    return f"{moment.day} {moment:%B %Y}"


def percent(share: float) -> str:
    """Write a share with one digit, as in 12.3 %."""
    return f"{share:.1%}".replace("%", " %")


def money(value: float) -> str:
    """Write an amount with two digits."""
    return "unknown" if pd.isna(value) else f"{value:,.2f}"


def points(difference: float) -> str:
    """Write a difference of two shares in percentage points, with its sign; nothing where unknown."""
    return "" if pd.isna(difference) else f"{round(100 * difference, 1) + 0.0:+.1f}"  # never -0.0


def counted(number: float, noun: str) -> str:
    """Write a number of things, as in 1 item or 2 items."""
    return f"{number:,g} {noun}{'' if number == 1 else 's'}"


def plain(name: str | None) -> str:
    """Write an identifier, such as service_call, in words."""
    return name.replace("_", " ") if isinstance(name, str) else "none"


def csv(table: pa.Table) -> bytes:
    """Write a table as CSV; a quote before what a spreadsheet would compute, as OWASP recommends, makes it text."""
    for position, field in enumerate(table.schema):
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            texts = pc.replace_substring_regex(table[position], r"^([=+\-@\t\r\n])", r"'\1")
            table = table.set_column(position, field.name, texts)
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(table, sink)
    return sink.getvalue().to_pybytes()
