"""Erase a person from every file of Churn Radar, verify it by a search, and write a receipt without their name.

An interrupted run can be repeated: the customer is put on the list of erased customers first, files are replaced as a
whole, the tables that say which texts and orders are theirs are changed last, and the receipt is written only when
nothing is found.
"""

import json
import os
import shutil
from collections.abc import Collection, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from inference.erasure.files import all_files, display_name, folders, kind_of, open_duckdb, target_dir, warehouse_file
from inference.erasure.person import (
    Relation,
    count_rows,
    find_person,
    is_theirs,
    parquet_relation,
    store_keys,
    warehouse_relations,
)
from inference.erasure.scrubbing import (
    count_in_sqlite,
    redis_keys,
    scrub_duckdb,
    scrub_parquet,
    scrub_sqlite,
    scrub_text,
)
from inference.erasure.traces import Traces
from inference.errors import ChurnRadarError
from inference.event_log.export import export_home
from inference.event_log.opening import open_log, used
from inference.home import EFFECTS, GRAPHS, PROJECT_DIR, home, raw_dir, whole_file
from inference.notifications.sent_log import merge_write_ahead_file
from inference.progress import track
from inference.pseudonyms import ERASED_CUSTOMERS, erased_customers, pseudonym, salted_hash
from inference.warehouse.manifest import WAREHOUSE_NOTE, Manifest

#: Partial files of killed processes, which earlier versions of an erasure named ``.erasing``; damaged files.
LEFTOVERS = ("*.partial", "*.partial.wal", "*.erasing", "*.erasing.wal", "*.damaged")
#: How often DuckDB files are rewritten at most: blocks of a new file may hold what DuckDB's memory held before.
MAX_REWRITES = 3
LIST_SCHEMA = pa.schema([("customer_hash", pa.string()), ("erased_at", pa.timestamp("us"))])


@dataclass
class Erasure:
    """Contents of the receipt, and its file once it is written."""

    #: Salted hash of the customer's id.
    customer_hash: str
    #: Removed rows, keys or passages by file or table.
    removed: dict[str, int] = field(default_factory=dict)
    #: Numbers of files, bytes and tables that were searched afterwards.
    searched: dict[str, int] = field(default_factory=lambda: {"files": 0, "bytes": 0, "tables": 0})
    #: What the shop has to do itself.
    notes: list[str] = field(default_factory=list)
    receipt: Path | None = None

    def add(self, place: str, count: int) -> None:
        """Add what was removed from a place."""
        if count:
            self.removed[place] = self.removed.get(place, 0) + count


def erase(customer_id: str, variables: Mapping | None = None) -> Erasure:
    """Erase a customer from the home folder and dbt's target and logs, verify it and write a receipt.

    Parameters
    ----------
    customer_id : str
        The shop's own id, whether or not ids are pseudonymised.
    variables : mapping, optional
        dbt vars in addition to those of ``dbt_project.yml``: ``churn__<table>_source`` and ``churn__<table>_columns``
        are read.

    Raises
    ------
    ChurnRadarError
        If the customer is unknown, a file is in use, something is left of them, or tables are in PostgreSQL or Spark.
    """
    _check(customer_id)
    variables = _project_vars() | dict(variables or {})
    export_home()  # so that events which are only in the log are searched as well
    merge_write_ahead_file()
    done = Erasure(salted_hash("erased", customer_id))
    with open_duckdb(warehouse_file() or ":memory:") as connection:
        person = find_person(connection, (customer_id, pseudonym(customer_id)), _relations(connection, variables))
        n_online = sum(count_in_sqlite(file, person) for file in all_files() if kind_of(file) == "sqlite")
        n_online += redis_keys(person, "exists") + _logged_on_server(person.ids)
        if not person.n_rows and not n_online and done.customer_hash not in erased_customers():
            raise ChurnRadarError(f"customer {customer_id} is not in {home()}; nothing was changed")
        _put_on_list(done.customer_hash)
        store_keys(connection, person)
        traces = Traces(person)
        raw = _raw_tables(variables)
        own_raw = {file: relation for file, relation in raw.items() if file.is_relative_to(home().resolve())}
        done.notes = _notes(connection, {f: r for f, r in raw.items() if f not in own_raw}, variables)
        _scrub_files(connection, done, traces, own_raw.keys())
        if file := warehouse_file():
            _scrub_database(connection, done, file)
    _rewrite_until_clean(done, traces, own_raw.keys())
    with open_duckdb(warehouse_file() or ":memory:", person) as connection:
        # an interrupted run needs the raw tables to find orders and texts again: order items go before orders
        columns = {file: relation.columns for file, relation in own_raw.items()}
        for file in sorted(own_raw, key=lambda file: ("customer_id" in columns[file], "order_id" in columns[file])):
            done.add(display_name(file), scrub_parquet(connection, file, own_raw[file]))
        _refuse_remains(_search(connection, done, traces, list(own_raw), own_raw))
    done.receipt = _write_receipt(done)
    return done


def _check(customer_id: str) -> None:
    """Refuse what cannot be erased."""
    if not customer_id.strip():
        raise ChurnRadarError("--customer is empty; expected the shop's own id of a customer")
    if not home().is_dir():
        raise ChurnRadarError(f"{home()}: no such folder; expected the shop's state: set CHURN_HOME")
    if Manifest.load().warehouse != "duckdb" or os.environ.get("CHURN_ONLINE_SCHEMA"):
        raise ChurnRadarError(
            "customers are erased from DuckDB, Parquet, SQLite and Redis alone; "
            "expected no dbt or Feast in PostgreSQL, and no dbt in Spark"
        )
    if (home() / WAREHOUSE_NOTE).exists():
        raise ChurnRadarError(
            f"{home() / WAREHOUSE_NOTE}: the warehouse belongs to another project; expected that of this project's "
            "profile. Delete the customer in that project's own tables and build again"
        )


def _scrub_files(
    connection: duckdb.DuckDBPyConnection, done: Erasure, traces: Traces, raw_files: Collection[Path]
) -> None:
    """Remove the person from all files except the warehouse and the raw tables."""
    for partial in [file for pattern in LEFTOVERS for folder in folders() for file in folder.rglob(pattern)]:
        partial.unlink(missing_ok=True)
    for name in (EFFECTS, GRAPHS):  # caches without customers, but with numbers and words that may look like an id
        shutil.rmtree(home() / name, ignore_errors=True)
    done.add("redis", redis_keys(traces.person, "delete"))
    if used() not in (None, "sqlite"):  # the file of SQLite is scrubbed with the others
        with closing(open_log()) as log:
            done.add("event log", log.forget(traces.person.ids))
    files = [file for file in all_files() if file not in raw_files and file != warehouse_file()]
    for file in track(files, "Erasing"):
        kind = kind_of(file)
        if kind == "parquet":
            done.add(display_name(file), _scrub_or_remove(connection, file))
        elif kind == "duckdb":
            with open_duckdb(file, traces.person) as other:
                _scrub_database(other, done, file)
        elif kind == "sqlite":
            done.add(display_name(file), scrub_sqlite(file, traces.person))
        elif kind == "text":
            done.add(display_name(file), scrub_text(file, traces))
        elif file.is_relative_to(target_dir()) and traces.count_in_file(file, kind):
            file.unlink()  # dbt creates it again
            done.add(display_name(file), 1)


def _scrub_database(connection: duckdb.DuckDBPyConnection, done: Erasure, file: Path) -> None:
    for table, count in scrub_duckdb(connection, file).items():
        done.add(f"{display_name(file)}:{table}", count)


def _scrub_or_remove(connection: duckdb.DuckDBPyConnection, file: Path) -> int:
    """Scrub a Parquet file, or remove one that a killed build left incomplete."""
    if relation := _readable(file):
        return scrub_parquet(connection, file, relation)
    if not file.name.startswith("tmp_"):
        raise ChurnRadarError(f"{file}: cannot be read as Parquet; remove it and run again")
    file.unlink()
    return 0


def _search(
    connection: duckdb.DuckDBPyConnection,
    done: Erasure,
    traces: Traces,
    files: list[Path],
    raw: Mapping[Path, Relation],
) -> dict[Path, int]:
    """Count what is left of the person by file, by value and by byte; ``raw`` are raw tables."""
    remains: dict[Path, int] = {}
    for file in track(files, "Searching"):
        kind = kind_of(file)
        count = traces.count_in_file(file, kind)
        if kind == "parquet":
            count += _count_in_relations(connection, done, traces, [raw.get(file) or parquet_relation(file)])
        elif kind == "duckdb":
            is_open = file == warehouse_file()
            with nullcontext(connection) if is_open else open_duckdb(file, traces.person) as database:
                count += _count_in_relations(database, done, traces, warehouse_relations(database, with_views=False))
        elif kind == "sqlite":
            count += traces.count_in_sqlite(file) + count_in_sqlite(file, traces.person)
        done.searched["files"] += 1
        done.searched["bytes"] += file.stat().st_size
        if count:
            remains[file] = count
    if keys := redis_keys(traces.person, "exists"):
        remains[Path("redis")] = keys
    if events := _logged_on_server(traces.person.ids):
        remains[Path("event log")] = events
    return remains


def _logged_on_server(customer_ids: Collection[str]) -> int:
    """Count the person's events, and 1 for removed ones, in a log that no file of the home has."""
    if used() in (None, "sqlite"):
        return 0
    with closing(open_log()) as log:
        return sum(len(list(log.since(0, own))) + bool(log.newest_dropped(own)) for own in customer_ids)


def _refuse_remains(remains: Mapping[Path, int]) -> None:
    if remains:
        places = ", ".join(f"{display_name(file)} ({count})" for file, count in list(remains.items())[:5])
        raise ChurnRadarError(
            f"the customer is still found in {len(remains)} places, and no receipt was written: {places}; "
            "run again, and remove what churn-radar did not make"
        )


def _rewrite_until_clean(done: Erasure, traces: Traces, raw_files: Collection[Path]) -> None:
    """Search all files but the raw tables, and rewrite DuckDB files in which bytes of the person are left.

    Raises ChurnRadarError if anything is left after ``MAX_REWRITES``, or in another file.
    """
    for rewritten in range(MAX_REWRITES + 1):
        done.searched = dict.fromkeys(done.searched, 0)
        with open_duckdb(warehouse_file() or ":memory:", traces.person) as connection:
            files = [file for file in all_files() if file not in raw_files]
            remains = _search(connection, done, traces, files, {})
            databases = [file for file in remains if file.is_file() and kind_of(file) == "duckdb"]
            if rewritten == MAX_REWRITES or not databases or len(databases) < len(remains):
                _refuse_remains(remains)
                break
            for file in databases:
                with nullcontext(connection) if file == warehouse_file() else open_duckdb(file, traces.person) as other:
                    scrub_duckdb(other, file)


def _count_in_relations(
    connection: duckdb.DuckDBPyConnection, done: Erasure, traces: Traces, relations: list[Relation]
) -> int:
    done.searched["tables"] += len(relations)
    return sum(traces.count_in_relation(connection, relation) for relation in relations)


def _relations(connection: duckdb.DuckDBPyConnection, variables: Mapping) -> list[Relation]:
    """All tables, views and Parquet files that may hold the customer."""
    raw = _raw_tables(variables)
    others = [_readable(file) for file in all_files() if file not in raw and kind_of(file) == "parquet"]
    return [*warehouse_relations(connection, with_views=True), *raw.values(), *(r for r in others if r)]


def _readable(file: Path) -> Relation | None:
    try:
        return parquet_relation(file)
    except pa.ArrowInvalid:
        return None


def _raw_tables(variables: Mapping) -> dict[Path, Relation]:
    """Raw Parquet files by resolved path, with the column names of the data contract."""
    files = sorted(file.resolve() for file in raw_dir().glob("*.parquet"))
    return {file: parquet_relation(file, variables.get(f"churn__{file.stem}_columns")) for file in files}


def _notes(connection: duckdb.DuckDBPyConnection, raw: Mapping[Path, Relation], variables: Mapping) -> list[str]:
    """Name the shop's own tables that hold the customer, or may: raw files outside the home folder, and sources."""
    places = [str(file) for file in sorted(raw) if count_rows(connection, raw[file], is_theirs(raw[file]))]
    places += sorted(
        str(v) for name, v in variables.items() if name.startswith("churn__") and name.endswith("_source") and v
    )
    if not places:
        return []
    return [
        f"The shop's own tables may still hold this customer: {', '.join(places)}. "
        "Staging leaves them out from now on; remove them there."
    ]


def _project_vars() -> dict:
    """The vars of ``dbt_project.yml``."""
    variables = yaml.safe_load((PROJECT_DIR / "dbt_project.yml").read_text()).get("vars") or {}
    return variables | (variables.get("churn_radar") or {})


def _put_on_list(customer_hash: str) -> None:
    """Add a customer to the list of erased customers, whom staging leaves out."""
    if customer_hash in erased_customers():
        return
    file, now = home() / ERASED_CUSTOMERS, datetime.now(UTC).replace(tzinfo=None)
    new = pa.Table.from_pylist([{"customer_hash": customer_hash, "erased_at": now}], LIST_SCHEMA)
    table = pa.concat_tables([pq.read_table(file), new]) if file.exists() else new
    with whole_file(file) as partial:
        pq.write_table(table, partial)


def _write_receipt(done: Erasure) -> Path:
    now = datetime.now(UTC)
    file = home() / "erasures" / f"{now:%Y%m%dT%H%M%S}-{done.customer_hash[:8]}.json"
    receipt = {
        "customer_hash": done.customer_hash,
        "erased_at": now.isoformat(timespec="seconds"),
        "churn_radar_version": version("churn-radar"),
        "removed": done.removed,
        "searched": done.searched,
        "found_afterwards": 0,
        "notes": done.notes,
    }
    with whole_file(file) as partial:
        partial.write_text(json.dumps(receipt, indent=2) + "\n")
    return file
