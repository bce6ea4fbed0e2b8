"""Search for traces of a person: in the values of tables, and in the bytes of every file."""

import html
import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import duckdb
import markupsafe

from inference.erasure.person import KEY_COLUMNS, Person, Relation, count_rows, is_theirs

#: Minimum length to search for an id anywhere; a shorter one only as a quoted value or after the word customer.
MIN_ID_LENGTH = 6
#: Bytes that are read at a time.
CHUNK = 1 << 24
#: Replacement of ids and passages in text files.
MASK = b"[erased]"


class Traces:
    """Searches for a person in bytes and in values."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.passages = sorted({form for p in person.passages for form in _forms(p)}, key=len, reverse=True)
        in_text = b"|".join(_in_text(i) for i in person.ids)
        in_binary = b"|".join(p for i in person.ids for p in _in_binary(i, person.is_part_of_other))
        self.ids = {"text": re.compile(in_text), "binary": re.compile(in_binary) if in_binary else None}

    def spans(self, data: bytes, kind: str) -> list[tuple[int, int]]:
        """Start and end of each id and passage in the bytes of a file."""
        pattern = self.ids["text" if kind == "text" else "binary"]
        spans = [match.span() for match in pattern.finditer(data)] if pattern else []
        for passage in self.passages:
            start = data.find(passage)
            while start >= 0:
                spans.append((start, start + len(passage)))
                start = data.find(passage, start + len(passage))
        return sorted(spans)

    def count_in_file(self, file: Path, kind: str) -> int:
        """Count ids and passages in a file's bytes, read in chunks."""
        longest = max([len(p) for p in self.passages] + [2 * len(i.encode()) for i in self.person.ids]) + 32
        count, overlap = 0, b""
        with file.open("rb") as opened:
            while data := opened.read(CHUNK):
                window = overlap + data
                count += sum(end > len(overlap) for _, end in self.spans(window, kind))
                overlap = window[-longest:]
        return count

    def mask(self, data: bytes) -> bytes:
        """Replace ids and passages in the bytes of a text file."""
        parts, position = [], 0
        for start, end in self.spans(data, "text"):
            if start >= position:
                parts += [data[position:start], MASK]
            position = max(position, end)
        return b"".join([*parts, data[position:]])

    def count_in_relation(self, connection: duckdb.DuckDBPyConnection, relation: Relation) -> int:
        """Count rows of the person in a table or Parquet file, and values that contain their id or passages."""
        count = count_rows(connection, relation, is_theirs(relation))
        for name, kind, *_ in connection.execute(f"describe select * from {relation.source}").fetchall():
            if not any(textual in kind for textual in ("VARCHAR", "JSON", "BLOB")):
                continue
            conditions = ["exists (select 1 from (select unnest($passages) as passage) where contains(value, passage))"]
            if name not in KEY_COLUMNS:
                conditions += [f"regexp_matches(value, '{_in_value(i)}')" for i in self.person.ids]
            values = Relation(f'(select distinct cast("{name}" as varchar) as value from {relation.source})', {})
            passages = {"passages": list(self.person.passages)}
            count += count_rows(connection, values, " or ".join(conditions), passages)
        return count

    def count_in_sqlite(self, file: Path) -> int:
        """Count values of an SQLite file that contain an id or a passage."""
        needles = [passage.encode() for passage in self.person.passages]
        if not self.person.is_part_of_other:
            needles += [i.encode() for i in self.person.ids if _is_distinctive(i)]
        with closing(sqlite3.connect(file)) as connection:
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


def _is_distinctive(customer_id: str) -> bool:
    """Whether an id is distinctive enough to search for as a bare substring."""
    return len(customer_id) >= MIN_ID_LENGTH and not customer_id.isdigit()


def _in_text(customer_id: str) -> bytes:
    escaped = re.escape(customer_id.encode())
    if len(customer_id) < MIN_ID_LENGTH:
        labels = b"(?:(?<=customer )|(?<=customer_id=)|(?<=customer_id: )|(?<=customer=))"
        return b"(?<=['\"])" + escaped + b"(?=['\"])|" + labels + escaped + b"(?![A-Za-z0-9_])"
    if customer_id.isdigit():  # neither part of a number nor a number in JSON
        return b'(?<![\\w.-])(?<!": )(?<!":)' + escaped + b"(?!\\w|[.-]\\d)"
    return b"(?<![A-Za-z0-9_])" + escaped + b"(?![A-Za-z0-9_])"


def _in_binary(customer_id: str, is_part_of_other: bool) -> list[bytes]:
    if len(customer_id) < MIN_ID_LENGTH:
        return []
    around = (b"(?<![0-9.])", b"(?![0-9])") if customer_id.isdigit() else (b"", b"")
    if is_part_of_other:
        around = (b"(?<![A-Za-z0-9_])", b"(?![A-Za-z0-9_])")
    encoded = (customer_id.encode(), customer_id.encode("utf-16-le"))
    return [around[0] + re.escape(form) + around[1] for form in encoded]


def _in_value(customer_id: str) -> str:
    escaped = re.escape(customer_id).replace("'", "''")
    if _is_distinctive(customer_id):
        return f"(^|[^A-Za-z0-9_]){escaped}($|[^A-Za-z0-9_])"
    return f'customer(_id)?[" :=]{{1,4}}{escaped}($|[^A-Za-z0-9_])'  # another number or code may look the same


def _forms(passage: str) -> set[bytes]:
    """Encodings of a passage in files: plain, in JSON, HTML or SQL, and in UTF-16."""
    written = {
        passage,
        json.dumps(passage)[1:-1],
        json.dumps(passage, ensure_ascii=False)[1:-1],
        html.escape(passage),
        str(markupsafe.escape(passage)),
        passage.replace("'", "''"),
    }
    return {form.encode() for form in written} | {passage.encode("utf-16-le")}
