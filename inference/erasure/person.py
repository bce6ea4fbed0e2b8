"""The person to erase: their ids, the keys of their orders and texts, and the passages that only they wrote."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from inference.home import sql_literal
from inference.text.cleaning import clean_text, hash_text
from inference.text.masking import MAX_SHOWN_CHARACTERS, mask, shorten
from inference.text.sentences import sentences, without_sentence

#: Columns that identify the owner of a row.
KEY_COLUMNS = ("customer_id", "order_id", "text_id", "text_hash")
#: Columns with texts of customers or parts of them, and of the seeds, whose phrases are nobody's alone.
TEXT_COLUMNS = ("review_text", "ticket_text", "text", "texts", "quote", "description")
#: Minimum characters of a passage; a shorter one may be in anybody's text.
MIN_PASSAGE = 16
#: Characters of a text that the transformer reads (models/features/sequence_features.sql).
MAX_READ_CHARACTERS = 2000


@dataclass(frozen=True)
class Relation:
    """A table, view or Parquet file, with SQL expressions for its key and text columns by their contract names."""

    source: str
    columns: Mapping[str, str]


@dataclass(frozen=True)
class Person:
    """One customer and the keys of their data."""

    #: The shop's id first, then the pseudonym.
    ids: tuple[str, ...]
    #: Values of ``KEY_COLUMNS`` that are no other customer's.
    keys: Mapping[str, Collection[str]]
    #: Texts and sentences that only they wrote.
    passages: tuple[str, ...] = ()
    #: Whether another customer's id contains one of theirs.
    is_part_of_other: bool = False
    n_rows: int = 0


def find_person(connection: duckdb.DuckDBPyConnection, ids: tuple[str, ...], relations: list[Relation]) -> Person:
    """Find a customer, by the shop's id and the pseudonym, in all relations that the connection can read."""
    n_rows, is_part_of_other = 0, False
    keys: dict[str, set[str]] = {name: set() for name in KEY_COLUMNS} | {"customer_id": set(ids)}
    store_keys(connection, Person(ids, keys))
    for relation in relations:
        if "customer_id" not in relation.columns:
            continue
        n_rows += count_rows(connection, relation, is_theirs(relation))
        is_part_of_other |= count_rows(connection, relation, _contains_id(relation, ids)) > 0
        for name in KEY_COLUMNS[1:]:
            if name in relation.columns:
                keys[name] |= _only_theirs(connection, relation, relation.columns[name])
    store_keys(connection, Person(ids, keys | {"text_hash": set()}))
    own_texts, passages = _passages_of(connection, relations)
    keys["text_hash"] |= {hash_text(part) for text in own_texts for part in _encoded_forms(text)}
    for relation in relations:
        if {"customer_id", "text_hash"} <= relation.columns.keys():
            column = relation.columns["text_hash"]
            others = f"select distinct {column} from {relation.source} where not {is_theirs(relation)}"
            keys["text_hash"] -= {row[0] for row in connection.execute(others).fetchall()}
    return Person(ids, keys, passages, is_part_of_other, n_rows)


def store_keys(connection: duckdb.DuckDBPyConnection, person: Person) -> None:
    """Write a person's keys to temporary tables, which ``is_theirs`` reads."""
    for name, values in person.keys.items():
        connection.execute(f"create or replace temp table person_{name} (key varchar)")
        if values:
            connection.execute(f"insert into person_{name} select unnest(?)", [list(values)])


def count_rows(
    connection: duckdb.DuckDBPyConnection, relation: Relation, condition: str, parameters: dict | None = None
) -> int:
    """Number of rows of a relation that meet an SQL condition."""
    query = f"select count(*) from {relation.source} where {condition}"
    return connection.execute(query, parameters).fetchall()[0][0]


def is_theirs(relation: Relation) -> str:
    """SQL condition for rows of the person; never null."""
    conditions = [
        f"coalesce(cast({column} as varchar) in (select key from temp.main.person_{name}), false)"
        for name, column in relation.columns.items()
        if name in KEY_COLUMNS
    ]
    if row := relation.columns.get("row_content"):  # rejected rows, as JSON
        conditions += [
            f"coalesce(json_extract_string({row}, '$.{name}') in (select key from temp.main.person_{name}), false)"
            for name in ("customer_id", "order_id")
        ]
    return f"({' or '.join(conditions) or 'false'})"


def warehouse_relations(connection: duckdb.DuckDBPyConnection, with_views: bool) -> list[Relation]:
    """Tables of the open database, and the views that can be read."""
    rows = connection.execute(
        """
        select schema_name, table_name, list(column_name), bool_or(table_name in (
            select view_name from duckdb_views() where not internal and database_name = current_database()
        ))
        from duckdb_columns()
        where database_name = current_database() and not internal
        group by all
        order by schema_name, table_name
        """
    ).fetchall()
    relations = []
    for schema, table, columns, is_view in rows:
        source = f'"{schema}"."{table}"'
        if not is_view or (with_views and _is_readable(connection, source)):
            relations.append(Relation(source, _selected({name: f'"{name}"' for name in columns})))
    return relations


def parquet_relation(file: Path, mapping: Mapping[str, str] | None = None) -> Relation:
    """Describe a Parquet file; ``mapping`` is ``churn__<table>_columns``, where the shop's column names differ."""
    names = {name: f'"{name}"' for name in pq.read_schema(file).names}
    columns = _selected(names | {k: f"({v})" for k, v in (mapping or {}).items()})
    return Relation(f"read_parquet({sql_literal(file)})", columns)


def _selected(columns: Mapping[str, str]) -> dict[str, str]:
    return {name: column for name, column in columns.items() if name in (*KEY_COLUMNS, *TEXT_COLUMNS, "row_content")}


def _is_readable(connection: duckdb.DuckDBPyConnection, source: str) -> bool:
    try:
        connection.execute(f"select * from {source} limit 0").fetchall()
    except duckdb.Error:  # a view whose raw tables were removed
        return False
    return True


def _contains_id(relation: Relation, ids: tuple[str, ...]) -> str:
    column = relation.columns["customer_id"]
    contains = " or ".join(f"contains(cast({column} as varchar), {sql_literal(i)})" for i in ids)
    return f"({contains}) and not {is_theirs(relation)}"


def _only_theirs(connection: duckdb.DuckDBPyConnection, relation: Relation, column: str) -> set[str]:
    customers = Relation(relation.source, {"customer_id": relation.columns["customer_id"]})
    query = (
        f"select cast({column} as varchar) from {relation.source} where {column} is not null "
        f"group by 1 having bool_and({is_theirs(customers)})"
    )
    return {row[0] for row in connection.execute(query).fetchall()}


def _passages_of(connection: duckdb.DuckDBPyConnection, relations: list[Relation]) -> tuple[set[str], tuple[str, ...]]:
    """Texts of the person, and passages of them that are in no text of others."""
    connection.execute("create or replace temp table all_texts (content varchar, is_theirs boolean)")
    for relation in relations:
        for name in TEXT_COLUMNS:
            if column := relation.columns.get(name):
                each = f"unnest({column})" if name == "texts" else column
                connection.execute(
                    f"insert into all_texts select distinct cast({each} as varchar), {is_theirs(relation)} "
                    f"from {relation.source}"
                )
    rows = connection.execute("select distinct content from all_texts where is_theirs").fetchall()
    own = {content for (content,) in rows if content}
    candidates = sorted({passage for text in own for passage in _passages(text) if len(passage) >= MIN_PASSAGE})
    if not candidates:
        return own, ()
    squeezed = r"regexp_replace({}, '\s+', ' ', 'g')"
    rows = connection.execute(
        f"""
        with others as (select distinct {squeezed.format("content")} as content from all_texts where not is_theirs)
        select passage from (select unnest(?) as passage)
        where not exists (select 1 from others where contains(content, {squeezed.format("passage")}))
        """,
        [candidates],
    ).fetchall()
    return own, tuple(passage for (passage,) in rows)


def _passages(text: str) -> list[str]:
    """Forms in which a text is stored: whole, cleaned, masked, as quotes, and in sentences."""
    cleaned = clean_text(text)
    shown = mask(cleaned)
    # quotes are shortened at a word and end in an ellipsis
    parts = [text, text[:MAX_READ_CHARACTERS], cleaned, shown, shorten(shown, MAX_SHOWN_CHARACTERS).rstrip("…")]
    return [part.strip() for part in parts] + [whole[a:b] for whole in (cleaned, shown) for a, b in sentences(whole)]


def _encoded_forms(text: str) -> list[str]:
    """Forms of a text whose vectors are cached: whole, and with each sentence left out."""
    forms = [clean_text(text), clean_text(text[:MAX_READ_CHARACTERS])]
    return [part for form in forms for part in (form, *(without_sentence(form, *span) for span in sentences(form)))]
