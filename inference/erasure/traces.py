"""Looking for what is left of a person: in the values of tables, and in the bytes of every file."""

import html
import json
import re
import sqlite3
from pathlib import Path

import duckdb
import markupsafe

from inference.erasure.person import KEYS, Person, Relation, is_theirs

#: A shorter id occurs by chance; it is looked for where it is a value, quoted, or called a customer.
LEAST_ID = 6
#: Bytes that are read at a time.
CHUNK = 1 << 24

#: What stands for a person in a log.
MASK = b"[erased]"

MAGIC = {b"PAR1": "parquet", b"SQLite format 3\x00": "sqlite"}


def kind_of(file: Path) -> str:
    """Tell ``parquet``, ``duckdb`` or ``sqlite`` by a file's first bytes, else ``text`` or ``binary``."""
    with file.open("rb") as opened:
        start = opened.read(8192)
    if start[8:12] == b"DUCK":
        return "duckdb"
    for magic, kind in MAGIC.items():
        if start.startswith(magic):
            return kind
    return "binary" if b"\0" in start or not _is_utf8(start) else "text"


class Traces:
    """Finds a person in bytes and in values.

    Parameters
    ----------
    person : Person
        Whom to look for.
    """

    def __init__(self, person: Person) -> None:
        self.person = person
        self.passages = sorted({form for p in person.passages for form in _forms(p)}, key=len, reverse=True)
        in_text = b"|".join(_in_text(i) for i in person.ids)
        in_binary = b"|".join(p for i in person.ids for p in _in_binary(i, person.is_part_of_other))
        self.ids = {"text": re.compile(in_text), "binary": re.compile(in_binary) if in_binary else None}

    def spans(self, data: bytes, kind: str) -> list[tuple[int, int]]:
        """Where ids and passages begin and end in the bytes of a file of a kind."""
        pattern = self.ids["text" if kind == "text" else "binary"]
        found = [match.span() for match in pattern.finditer(data)] if pattern else []
        for passage in self.passages:
            start = data.find(passage)
            while start >= 0:
                found.append((start, start + len(passage)))
                start = data.find(passage, start + len(passage))
        return sorted(found)

    def in_file(self, file: Path, kind: str) -> int:
        """Count the places in a file's bytes, reading it bit by bit."""
        longest = max([len(p) for p in self.passages] + [2 * len(i.encode()) for i in self.person.ids]) + 32
        count, kept = 0, b""
        with file.open("rb") as opened:
            while data := opened.read(CHUNK):
                window = kept + data
                count += sum(end > len(kept) for _, end in self.spans(window, kind))
                kept = window[-longest:]
        return count

    def masked(self, data: bytes, kind: str) -> bytes:
        """Replace whatever is found in the bytes of a file."""
        parts, position = [], 0
        for start, end in self.spans(data, kind):
            if start >= position:
                parts += [data[position:start], MASK]
            position = max(position, end)
        return b"".join([*parts, data[position:]])

    def in_relation(self, connection: duckdb.DuckDBPyConnection, relation: Relation) -> int:
        """Count the rows of a table or Parquet file that are the person's, and values that name or quote them."""
        count = connection.execute(f"select count(*) from {relation.source} where {is_theirs(relation)}").fetchone()[0]
        for name, kind, *_ in connection.execute(f"describe select * from {relation.source}").fetchall():
            if not any(textual in kind for textual in ("VARCHAR", "JSON", "BLOB")):
                continue
            conditions = ["exists (select 1 from (select unnest($passages) as passage) where contains(value, passage))"]
            if name not in KEYS:
                conditions += [f"regexp_matches(value, '{_in_value(i)}')" for i in self.person.ids]
            query = (
                f'select count(*) from (select distinct cast("{name}" as varchar) as value from {relation.source}) '
                f"where {' or '.join(conditions)}"
            )
            count += connection.execute(query, {"passages": list(self.person.passages)}).fetchone()[0]
        return count

    def in_sqlite(self, connection: sqlite3.Connection) -> int:
        """Count the values of an SQLite file that hold an id or a passage."""
        needles = [passage.encode() for passage in self.person.passages]
        if not self.person.is_part_of_other:
            needles += [i.encode() for i in self.person.ids if _is_telling(i)]
        return sum(
            connection.execute(
                f'select count(*) from "{table}" where instr(cast("{column}" as blob), ?) > 0', [needle]
            ).fetchone()[0]
            for table, columns in sqlite_tables(connection).items()
            for column in columns
            for needle in needles
        )


def sqlite_tables(connection: sqlite3.Connection) -> dict[str, list[str]]:
    """Columns of each table of an SQLite file."""
    tables = connection.execute("select name from sqlite_master where type = 'table'").fetchall()
    return {table: [row[1] for row in connection.execute(f'pragma table_info("{table}")')] for (table,) in tables}


def _is_telling(customer_id: str) -> bool:
    """Whether an id is hardly anything else wherever it stands."""
    return len(customer_id) >= LEAST_ID and not customer_id.isdigit()


def _in_text(customer_id: str) -> bytes:
    escaped = re.escape(customer_id.encode())
    if len(customer_id) < LEAST_ID:
        called = b"|".join(
            b"(?<=" + name + b")" for name in (b"customer ", b"customer_id=", b"customer_id: ", b"customer=")
        )
        return b"(?<=['\"])" + escaped + b"(?=['\"])|(?:" + called + b")" + escaped + b"(?![A-Za-z0-9_])"
    if customer_id.isdigit():  # not within a number, nor a number of JSON
        return b'(?<![\\w.-])(?<!": )(?<!":)' + escaped + b"(?!\\w|[.-]\\d)"
    return b"(?<![A-Za-z0-9_])" + escaped + b"(?![A-Za-z0-9_])"


def _in_binary(customer_id: str, is_part_of_other: bool) -> list[bytes]:
    if len(customer_id) < LEAST_ID:
        return []
    around = (b"(?<![0-9.])", b"(?![0-9])") if customer_id.isdigit() else (b"", b"")
    if is_part_of_other:
        around = (b"(?<![A-Za-z0-9_])", b"(?![A-Za-z0-9_])")
    encoded = (customer_id.encode(), customer_id.encode("utf-16-le"))
    return [around[0] + re.escape(form) + around[1] for form in encoded]


def _in_value(customer_id: str) -> str:
    escaped = re.escape(customer_id).replace("'", "''")
    if _is_telling(customer_id):
        return f"(^|[^A-Za-z0-9_]){escaped}($|[^A-Za-z0-9_])"
    return f'customer(_id)?[" :=]{{1,4}}{escaped}($|[^A-Za-z0-9_])'  # may be any other number or code


def _forms(passage: str) -> set[bytes]:
    """How a passage is written in files: plain, in JSON, HTML or SQL, and in UTF-16."""
    written = {
        passage,
        json.dumps(passage)[1:-1],
        json.dumps(passage, ensure_ascii=False)[1:-1],
        html.escape(passage),
        str(markupsafe.escape(passage)),
        passage.replace("'", "''"),
    }
    return {form.encode() for form in written} | {passage.encode("utf-16-le")}


def _is_utf8(start: bytes) -> bool:
    try:
        start.decode()
    except UnicodeDecodeError as error:
        return error.start > len(start) - 4  # cut off within a character
    return True
