"""Erasing a person: out of every file, searched for afterwards, with a receipt that does not name them.

Killed at any moment, another run finishes: the person is on the list of erased customers first, files are replaced
whole, what tells which texts and orders are theirs goes last, and the receipt is written when nothing was found.
"""

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from inference.erasure.person import Relation, find_person, is_theirs, of_parquet, of_warehouse, remember
from inference.erasure.scrubbing import (
    BESIDE,
    held_in_sqlite,
    left_in_redis,
    put_in_place,
    scrub_duckdb,
    scrub_parquet,
    scrub_redis,
    scrub_sqlite,
    scrub_text,
)
from inference.erasure.traces import Traces, kind_of
from inference.errors import ChurnRadarError
from inference.home import EFFECTS, GRAPHS, PROJECT_DIR, home, raw_dir
from inference.notifications.sent_log import merge_write_ahead_file
from inference.progress import track
from inference.pseudonyms import ERASED_CUSTOMERS, duckdb_salt_sql, erased_customers, pseudonym, salt, salted_hash
from inference.warehouse.event_log import export
from inference.warehouse.manifest import Manifest, manifest_path

#: What a killed build or erasure leaves beside a file.
LEFTOVERS = ("*.partial", f"*{BESIDE}", f"*{BESIDE}.wal")
#: The words that an encoder knows, and their numbers: of no customer, though an id may be among them.
VOCABULARY = "tokenizer.json"
LIST_SCHEMA = pa.schema([("customer_hash", pa.string()), ("erased_at", pa.timestamp("us"))])


@dataclass
class Erasure:
    """What was done, for the receipt.

    Parameters
    ----------
    customer_hash : str
        Salted hash of the customer's id.
    removed : dict of str to int
        Rows, keys or places that are gone, by file or table.
    searched : dict of str to int
        How many ``files``, ``bytes`` and ``tables`` were searched.
    notes : list of str
        What the shop has to do itself.
    receipt : Path, optional
        The file that says so.
    """

    customer_hash: str
    removed: dict[str, int] = field(default_factory=dict)
    searched: dict[str, int] = field(default_factory=lambda: {"files": 0, "bytes": 0, "tables": 0})
    notes: list[str] = field(default_factory=list)
    receipt: Path | None = None

    def add(self, place: str, count: int) -> None:
        """Note what was removed from a place."""
        if count:
            self.removed[place] = self.removed.get(place, 0) + count


def erase(customer_id: str, variables: Mapping | None = None) -> Erasure:
    """Erase a customer from the home folder and dbt's target and logs, verify it and write a receipt.

    Parameters
    ----------
    customer_id : str
        The shop's own id, whether or not ids are pseudonymised.
    variables : mapping, optional
        dbt vars beside those of ``dbt_project.yml``: ``churn__<table>_source`` and ``churn__<table>_columns`` matter.

    Returns
    -------
    Erasure

    Raises
    ------
    ChurnRadarError
        If nobody knows the customer, a file is in use, something is left of them, or PostgreSQL or Spark holds them.
    """
    if not customer_id.strip():
        raise ChurnRadarError("--customer is empty; expected the shop's own id of a customer")
    if not home().is_dir():
        raise ChurnRadarError(f"{home()}: no such folder; expected the shop's state: set CHURN_HOME")
    if Manifest.load().warehouse != "duckdb" or os.environ.get("CHURN_ONLINE_SCHEMA"):
        raise ChurnRadarError(
            "customers are erased from DuckDB, Parquet, SQLite and Redis alone; "
            "expected no dbt or Feast in PostgreSQL, and no dbt in Spark"
        )
    variables = _vars() | dict(variables or {})
    export(home() / "events")  # what only the log knows is looked for as well
    merge_write_ahead_file()
    done = Erasure(salted_hash("erased", customer_id))
    with _warehouse() as connection:
        person = find_person(connection, (customer_id, pseudonym(customer_id)), _relations(connection, variables))
        online = sum(held_in_sqlite(f, person) for f in _files() if kind_of(f) == "sqlite") + left_in_redis(person)
        if not person.n_rows and not online and done.customer_hash not in erased_customers():
            raise ChurnRadarError(f"customer {customer_id} is not in {home()}; nothing was changed")
        _put_on_list(done.customer_hash)
        remember(connection, person)
        traces = Traces(person)
        raw = _raw_tables(variables)
        inside = {file: relation for file, relation in raw.items() if file.is_relative_to(home().resolve())}
        done.notes = _notes(connection, raw.keys() - inside.keys(), raw, variables)
        _scrub_files(connection, done, traces, inside.keys())
        if file := _warehouse_file():
            for table, count in scrub_duckdb(connection, file).items():
                done.add(f"{_name(file)}:{table}", count)
    with _warehouse() as connection:
        remember(connection, person)
        _verify(connection, done, traces, [file for file in _files() if file not in inside], {})
        # the raw tables say which orders and texts are whose: they go last, order items before the orders
        for file in sorted(inside, key=lambda f: ["customer_id" in inside[f].columns, "order_id" in inside[f].columns]):
            done.add(_name(file), scrub_parquet(connection, file, inside[file]))
        _verify(connection, done, traces, list(inside), inside)
    done.receipt = _write_receipt(done)
    return done


def _scrub_files(connection: duckdb.DuckDBPyConnection, done: Erasure, traces: Traces, but: set[Path]) -> None:
    """Take the person out of all files except the warehouse and the raw tables."""
    for file in [file for pattern in LEFTOVERS for folder in _folders() for file in folder.rglob(pattern)]:
        file.unlink(missing_ok=True)
    for name in (EFFECTS, GRAPHS):  # nobody is named there, but numbers and words may look like an id
        shutil.rmtree(home() / name, ignore_errors=True)
    done.add("redis", scrub_redis(traces.person))
    for file in track([file for file in _files() if file not in but and file != _warehouse_file()], "Erasing"):
        kind = kind_of(file)
        if kind == "parquet":
            done.add(_name(file), _scrub_or_drop(connection, file))
        elif kind == "duckdb":
            with _open(file) as other:
                remember(other, traces.person)
                for table, count in scrub_duckdb(other, file).items():
                    done.add(f"{_name(file)}:{table}", count)
        elif kind == "sqlite":
            done.add(_name(file), scrub_sqlite(file, traces.person))
        elif kind == "text":
            done.add(_name(file), scrub_text(file, kind, traces))
        elif file.is_relative_to(_target()) and traces.in_file(file, kind):
            file.unlink()  # dbt makes it again
            done.add(_name(file), 1)


def _scrub_or_drop(connection: duckdb.DuckDBPyConnection, file: Path) -> int:
    try:
        relation = of_parquet(file)
    except pa.ArrowInvalid:
        if not file.name.startswith("tmp_"):
            raise ChurnRadarError(f"{file}: cannot be read as Parquet; remove it and run again") from None
        file.unlink()  # a killed build left it half written
        return 0
    return scrub_parquet(connection, file, relation)


def _verify(
    connection: duckdb.DuckDBPyConnection,
    done: Erasure,
    traces: Traces,
    files: list[Path],
    raw: Mapping[Path, Relation],
) -> None:
    """Search files by value and by byte.

    Raises
    ------
    ChurnRadarError
        If anything is left.
    """
    found: dict[str, int] = {}
    for file in track(files, "Searching"):
        kind = kind_of(file)
        count = traces.in_file(file, kind)
        if kind == "parquet":
            count += traces.in_relation(connection, raw.get(file) or of_parquet(file))
            done.searched["tables"] += 1
        elif kind == "duckdb":
            count += _left_in_duckdb(connection, done, traces, file)
        elif kind == "sqlite":
            with closing(sqlite3.connect(file)) as other:
                count += traces.in_sqlite(other)
            count += held_in_sqlite(file, traces.person)
        done.searched["files"] += 1
        done.searched["bytes"] += file.stat().st_size
        if count:
            found[_name(file)] = count
    if keys := left_in_redis(traces.person):
        found["redis"] = keys
    if found:
        places = ", ".join(f"{name} ({count})" for name, count in list(found.items())[:5])
        raise ChurnRadarError(
            f"the customer is still found in {len(found)} places, and no receipt was written: {places}; "
            "run again, and remove what churn-radar did not make"
        )


def _left_in_duckdb(connection: duckdb.DuckDBPyConnection, done: Erasure, traces: Traces, file: Path) -> int:
    if file != _warehouse_file():
        with _open(file) as other:
            remember(other, traces.person)
            return _left_in_tables(other, done, traces)
    return _left_in_tables(connection, done, traces)


def _left_in_tables(connection: duckdb.DuckDBPyConnection, done: Erasure, traces: Traces) -> int:
    tables = of_warehouse(connection, with_views=False)
    done.searched["tables"] += len(tables)
    return sum(traces.in_relation(connection, table) for table in tables)


def _relations(connection: duckdb.DuckDBPyConnection, variables: Mapping) -> list[Relation]:
    """Everything that may tell of the customer: warehouse, raw tables, Parquet files."""
    raw = _raw_tables(variables)
    others = [file for file in _files() if file not in raw and kind_of(file) == "parquet"]
    readable = [_readable(file) for file in others]
    return [*of_warehouse(connection, with_views=True), *raw.values(), *(r for r in readable if r)]


def _readable(file: Path) -> Relation | None:
    try:
        return of_parquet(file)
    except pa.ArrowInvalid:
        return None


def _raw_tables(variables: Mapping) -> dict[Path, Relation]:
    """Raw Parquet files, wherever they lie, by the contract's names."""
    found = sorted(file.resolve() for file in raw_dir().glob("*.parquet"))
    return {file: of_parquet(file, variables.get(f"churn__{file.stem}_columns")) for file in found}


def _notes(
    connection: duckdb.DuckDBPyConnection, outside: set[Path], raw: Mapping[Path, Relation], variables: Mapping
) -> list[str]:
    """What of the person lies in tables of the shop that are not Churn Radar's to change."""
    places = [
        str(file)
        for file in sorted(outside)
        if connection.execute(f"select count(*) from {raw[file].source} where {is_theirs(raw[file])}").fetchone()[0]
    ]
    places += sorted(
        str(v) for name, v in variables.items() if name.startswith("churn__") and name.endswith("_source") and v
    )
    if not places:
        return []
    return [
        f"The shop's own tables may still hold this customer: {', '.join(places)}. "
        "Staging leaves them out from now on; remove them there."
    ]


def _vars() -> dict:
    """Read the vars of ``dbt_project.yml``."""
    given = yaml.safe_load((PROJECT_DIR / "dbt_project.yml").read_text()).get("vars") or {}
    return given | (given.get("churn_radar") or {})


def _put_on_list(customer_hash: str) -> None:
    if customer_hash in erased_customers():
        return
    file = home() / ERASED_CUSTOMERS
    new = pa.Table.from_pylist(
        [{"customer_hash": customer_hash, "erased_at": _now().replace(tzinfo=None)}], LIST_SCHEMA
    )
    table = pa.concat_tables([pq.read_table(file), new]) if file.exists() else new
    beside = file.with_name(file.name + BESIDE)
    pq.write_table(table, beside)
    put_in_place(beside, file)


def _write_receipt(done: Erasure) -> Path:
    moment = _now()
    file = home() / "erasures" / f"{moment:%Y%m%dT%H%M%S}-{done.customer_hash[:8]}.json"
    file.parent.mkdir(exist_ok=True)
    receipt = {
        "customer_hash": done.customer_hash,
        "erased_at": moment.isoformat(timespec="seconds"),
        "churn_radar_version": version("churn-radar"),
        "removed": done.removed,
        "searched": done.searched,
        "found_afterwards": 0,
        "notes": done.notes,
    }
    beside = file.with_name(file.name + BESIDE)
    beside.write_text(json.dumps(receipt, indent=2) + "\n")
    put_in_place(beside, file)
    return file


def _now() -> datetime:
    return datetime.now(UTC)


@contextmanager
def _warehouse() -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the warehouse, or an empty database where nothing was built; nobody else can open it meanwhile."""
    with _open(_warehouse_file() or ":memory:") as connection:
        yield connection


@contextmanager
def _open(file: Path | str) -> Iterator[duckdb.DuckDBPyConnection]:
    try:
        connection = duckdb.connect(file)
    except duckdb.IOException as error:
        reason = str(error).splitlines()[0]
        raise ChurnRadarError(f"{file} is in use or damaged; expected nobody to build meanwhile ({reason})") from None
    with closing(connection):
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(duckdb_salt_sql(salt()))
        yield connection


def _warehouse_file() -> Path | None:
    file = home().resolve() / "churn_radar.duckdb"
    return file if file.exists() else None


def _target() -> Path:
    return manifest_path().parent.resolve()


def _folders() -> list[Path]:
    """The home folder, and dbt's target and logs where they lie elsewhere."""
    found = [home().resolve()]
    for folder in (_target(), (PROJECT_DIR / os.environ.get("DBT_LOG_PATH", "logs")).resolve()):
        if folder.is_dir() and not any(folder.is_relative_to(other) for other in found):
            found.append(folder)
    return found


def _files() -> list[Path]:
    files = [file for folder in _folders() for file in folder.rglob("*") if file.name != VOCABULARY]
    return sorted(file for file in files if file.is_file() and not file.is_symlink())


def _name(file: Path) -> str:
    for folder in _folders():
        if file.is_relative_to(folder):
            inside = file.relative_to(folder)
            return str(inside if folder == home().resolve() else Path(folder.name) / inside)
    return str(file)
