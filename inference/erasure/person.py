"""Who is to be erased: their ids, and what is known by other keys than those or has no key at all."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from inference.text.cleaning import clean_text, hash_text
from inference.text.masking import MAX_SHOWN_CHARACTERS, mask, shorten
from inference.text.sentences import sentences, without_sentence

#: Columns by which a row belongs to somebody.
KEYS = ("customer_id", "order_id", "text_id", "text_hash")
#: Columns that hold what customers wrote, whole or in part, and what the seed says that they may write.
WORDS = ("review_text", "ticket_text", "text", "texts", "quote", "description")
#: A shorter passage may be anybody's.
LEAST_PASSAGE = 16
#: The transformer reads as much of a text (models/features/sequence_features.sql).
MOST_READ = 2000


@dataclass(frozen=True)
class Relation:
    """A table, view or Parquet file, and SQL for the columns that matter here, by the contract's names."""

    source: str
    columns: Mapping[str, str]


@dataclass(frozen=True)
class Person:
    """One customer, as they may be met.

    Parameters
    ----------
    ids : tuple of str
        The shop's id first, then the pseudonym.
    orders, texts, hashes : frozenset of str
        ``order_id``, ``text_id`` and ``text_hash`` of what is theirs alone.
    passages : tuple of str
        What they wrote, whole and in sentences, that nobody else did.
    is_part_of_other : bool
        Whether another customer's id contains one of theirs.
    n_rows : int
        How many rows were found.
    """

    ids: tuple[str, ...]
    orders: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()
    hashes: frozenset[str] = frozenset()
    passages: tuple[str, ...] = ()
    is_part_of_other: bool = False
    n_rows: int = 0
    keys: dict[str, Iterable[str]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        found = (self.ids, self.orders, self.texts, self.hashes)
        object.__setattr__(self, "keys", dict(zip(KEYS, found, strict=True)))


def find_person(connection: duckdb.DuckDBPyConnection, ids: tuple[str, ...], relations: list[Relation]) -> Person:
    """Look a customer up in all relations.

    Parameters
    ----------
    connection : DuckDBPyConnection
        Where the relations can be read; temporary tables are made in it.
    ids : tuple of str
        What they may be called.
    relations : list of Relation
        Those with ``customer_id``, and others with words.
    """
    person = Person(ids)
    remember(connection, person)
    n_rows, part_of_other, orders, texts, hashes = 0, False, set(), set(), set()
    for relation in relations:
        if "customer_id" not in relation.columns:
            continue
        n_rows += _one(connection, f"select count(*) from {relation.source} where {is_theirs(relation)}")
        part_of_other |= _one(connection, _contained(relation, ids)) > 0
        for name, found in (("order_id", orders), ("text_id", texts), ("text_hash", hashes)):
            if name in relation.columns:
                found |= _theirs_alone(connection, relation, relation.columns[name])
    remember(connection, Person(ids, frozenset(orders), frozenset(texts)))
    own, passages = _words(connection, relations)
    hashes |= {hash_text(part) for text in own for part in _as_encoded(text)}
    for relation in relations:
        if {"customer_id", "text_hash"} <= relation.columns.keys():
            column = relation.columns["text_hash"]
            others = f"select distinct {column} from {relation.source} where not {is_theirs(relation)}"
            hashes -= {row[0] for row in connection.execute(others).fetchall()}
    return Person(ids, frozenset(orders), frozenset(texts), frozenset(hashes), passages, part_of_other, n_rows)


def remember(connection: duckdb.DuckDBPyConnection, person: Person) -> None:
    """Put a person's keys into temporary tables, for ``is_theirs``."""
    for name, values in person.keys.items():
        connection.execute(f"create or replace temp table their_{name} (key varchar)")
        if values:
            connection.execute(f"insert into their_{name} select unnest(?)", [list(values)])


def is_theirs(relation: Relation) -> str:
    """SQL that tells whether a row belongs to the person; never null."""
    conditions = [
        f"coalesce(cast({column} as varchar) in (select key from temp.main.their_{name}), false)"
        for name, column in relation.columns.items()
        if name in KEYS
    ]
    if row := relation.columns.get("row_content"):  # impossible rows, as JSON
        conditions += [
            f"coalesce(json_extract_string({row}, '$.{name}') in (select key from temp.main.their_{name}), false)"
            for name in ("customer_id", "order_id")
        ]
    return f"({' or '.join(conditions) or 'false'})"


def of_warehouse(connection: duckdb.DuckDBPyConnection, with_views: bool) -> list[Relation]:
    """List the tables of the open database, and the views that can be read."""
    found = connection.execute(
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
    for schema, table, columns, is_view in found:
        source = f'"{schema}"."{table}"'
        if not is_view or (with_views and _is_readable(connection, source)):
            relations.append(Relation(source, _known({name: f'"{name}"' for name in columns})))
    return relations


def of_parquet(file: Path, mapping: Mapping[str, str] | None = None) -> Relation:
    """Describe a Parquet file; ``mapping`` is ``churn__<table>_columns`` where the shop names things otherwise."""
    names = {name: f'"{name}"' for name in pq.read_schema(file).names}
    path = str(file).replace("'", "''")
    return Relation(f"read_parquet('{path}')", _known(names | {k: f"({v})" for k, v in (mapping or {}).items()}))


def _known(columns: Mapping[str, str]) -> dict[str, str]:
    return {name: column for name, column in columns.items() if name in (*KEYS, *WORDS, "row_content")}


def _is_readable(connection: duckdb.DuckDBPyConnection, source: str) -> bool:
    try:
        connection.execute(f"select * from {source} limit 0").fetchall()
    except duckdb.Error:  # a view whose raw tables are gone
        return False
    return True


def _contained(relation: Relation, ids: tuple[str, ...]) -> str:
    column = relation.columns["customer_id"]
    holds = " or ".join("contains(cast({} as varchar), '{}')".format(column, i.replace("'", "''")) for i in ids)
    return f"select count(*) from {relation.source} where ({holds}) and not {is_theirs(relation)}"


def _theirs_alone(connection: duckdb.DuckDBPyConnection, relation: Relation, column: str) -> set[str]:
    customers = Relation(relation.source, {"customer_id": relation.columns["customer_id"]})
    query = (
        f"select cast({column} as varchar) from {relation.source} where {column} is not null "
        f"group by 1 having bool_and({is_theirs(customers)})"
    )
    return {row[0] for row in connection.execute(query).fetchall()}


def _words(connection: duckdb.DuckDBPyConnection, relations: list[Relation]) -> tuple[set[str], tuple[str, ...]]:
    """What the person wrote, and the passages of it that are in no text of others."""
    connection.execute("create or replace temp table said (words varchar, is_theirs boolean)")
    for relation in relations:
        for name in WORDS:
            if column := relation.columns.get(name):
                each = f"unnest({column})" if name == "texts" else column
                connection.execute(
                    f"insert into said select distinct cast({each} as varchar), {is_theirs(relation)} "
                    f"from {relation.source}"
                )
    own = {row[0] for row in connection.execute("select distinct words from said where is_theirs").fetchall() if row[0]}
    candidates = sorted({passage for text in own for passage in _passages(text) if len(passage) >= LEAST_PASSAGE})
    if not candidates:
        return own, ()
    squeezed = r"regexp_replace({}, '\s+', ' ', 'g')"
    found = connection.execute(
        f"""
        with others as (select distinct {squeezed.format("words")} as words from said where not is_theirs)
        select passage from (select unnest(?) as passage)
        where not exists (select 1 from others where contains(words, {squeezed.format("passage")}))
        """,
        [candidates],
    )
    return own, tuple(row[0] for row in found.fetchall())


def _passages(text: str) -> list[str]:
    cleaned = clean_text(text)
    shown = mask(cleaned)
    # quotes stop at a word and end in an ellipsis
    parts = [text, text[:MOST_READ], cleaned, shown, shorten(shown, MAX_SHOWN_CHARACTERS).rstrip("…")]
    return [part.strip() for part in parts] + [whole[a:b] for whole in (cleaned, shown) for a, b in sentences(whole)]


def _as_encoded(text: str) -> list[str]:
    """The forms in which a text's vectors are kept: whole, and with each sentence left out."""
    forms = [clean_text(text), clean_text(text[:MOST_READ])]
    return [part for form in forms for part in (form, *(without_sentence(form, *span) for span in sentences(form)))]


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    return connection.execute(query).fetchone()[0]
