"""Checks of a home folder and what it depends on, which change nothing in it."""

import os
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from inference.erasure.files import kind_of
from inference.errors import ChurnRadarError
from inference.event_log.events import EventLogDownError
from inference.event_log.opening import agreed, connect_own
from inference.event_log.sqlite_log import SqliteEventLog
from inference.home import home, old_scores, raw_dir, sql_literal
from inference.home_format import read_format, refuse_newer
from inference.maintenance.contents import UNFINISHED, champion, files_of, published_scores, read_sqlite
from inference.pseudonyms import MIN_CHARACTERS
from inference.warehouse.manifest import Manifest, manifest_path, warehouse_file
from inference.warehouse.sqlite_files import is_lost

#: Outcomes of a check, from good to bad.
OK, WARNING, PROBLEM = "ok", "warning", "problem"
#: Free space below which a build is likely to fail, in bytes.
MIN_FREE = 500_000_000
#: How far a clock may be behind.
CLOCK_TOLERANCE = timedelta(minutes=2)
#: Most customers that are looked up online.
MAX_LOOKUPS = 1000
#: SQLite files that are made again where they are damaged; see docs/operations.md.
REPAIRED = ("feast/online.db", "mlflow/mlflow.db")
REPAIR = "the next command that needs it makes it again"
RESTORE = "restore it from a backup"
MATERIALIZE = "run feast -c feature_repo apply, and materialize as in docs/platform-engineer.md"


@dataclass(frozen=True)
class Check:
    """What was checked, its outcome, and what was found and is to be done."""

    name: str
    status: str
    found: str
    todo: str = ""


def examine() -> Iterator[Check]:
    """Check the home folder, each store in it, the disk and the clock; one result at a time."""
    if not home().is_dir():
        yield Check("home", PROBLEM, f"{home()}: no such folder", "set CHURN_HOME, or run dbt build to make it")
        return
    for name, check in CHECKS.items():
        try:
            status, found, *todo = check()
        except EventLogDownError as error:
            status, found, todo = PROBLEM, str(error), ["start it, or correct its address"]
        except ChurnRadarError as error:
            found, _, expected = str(error).partition("; expected ")
            status, todo = PROBLEM, [f"expected {expected}" if expected else RESTORE]
        except Exception as error:
            line = str(error).splitlines()[0] if str(error) else ""
            status, found, todo = PROBLEM, f"{type(error).__name__}: {line}", [RESTORE]
        yield Check(name, status, found, *todo)


Result = tuple[str, str] | tuple[str, str, str]


def _home() -> Result:
    mode = home().stat().st_mode
    if mode & stat.S_IRWXO:
        return WARNING, f"{home()} is open to everybody on this machine", f"chmod o-rwx {home()}"
    return OK, f"{home()}, closed to others"


def _version() -> Result:
    written, here = read_format(home()), f"Churn Radar {version('churn-radar')}"
    try:
        refuse_newer()
    except ChurnRadarError as error:
        return PROBLEM, str(error).removeprefix(f"{home()}: "), "install that version"
    return OK, f"{here}; home of {written['churn_radar'] if written else 'a version before it was noted'}"


def _access() -> Result:
    closed = [path for path in home().rglob("*") if not os.access(path, os.R_OK | os.W_OK) and not path.is_symlink()]
    if closed:
        return PROBLEM, f"{_some(closed)} cannot be read and written", f"chown -R $(id -un) {home()}"
    return OK, "every file can be read and written"


def _disk() -> Result:
    free, used = shutil.disk_usage(home()).free, sum(file.stat().st_size for file in _files())
    found = f"{free / 1e9:,.1f} GB free, the home has {used / 1e9:,.1f} GB"
    if free < MIN_FREE:
        return PROBLEM, found, "free some space before the next build"
    if free < used:
        return WARNING, found, "a build may need as much again: free some space"
    return OK, found


def _clock() -> Result:
    now = datetime.now(UTC)
    times = {file: datetime.fromtimestamp(file.stat().st_mtime, UTC) for file in _files()}
    ahead = [file for file, written in times.items() if written > now + CLOCK_TOLERANCE]
    scores = published_scores(home())
    if ahead:
        newest = max(times.values())
        return PROBLEM, f"{_some(ahead)} written in the future, at {newest:%Y-%m-%d %H:%M} UTC", "set the clock (NTP)"
    if scores and scores.as_of_date > (now + timedelta(days=1)).date():
        return (
            PROBLEM,
            f"scores are as of {scores.as_of_date}, which is to come",
            "set the clock (NTP), then dbt build",
        )
    return OK, f"{now:%Y-%m-%d %H:%M} UTC, after everything in the home"


def _salt() -> Result:
    file = home() / "salt"
    if os.environ.get("CHURN_SALT"):
        secret, source = os.environ["CHURN_SALT"], "CHURN_SALT"
    elif file.exists():
        secret, source = file.read_text().strip(), str(file)
    else:
        return WARNING, f"{file}: no such file", "restore it if there was one; the next build makes another"
    if len(secret) < MIN_CHARACTERS:
        return PROBLEM, f"{source} has {len(secret)} characters", f"expected at least {MIN_CHARACTERS}"
    if file.exists() and file.stat().st_mode & 0o077:
        return WARNING, f"{file} can be read by others", f"chmod 600 {file}"
    return OK, f"{source}, {len(secret)} characters"


def _raw_tables() -> Result:
    names = sorted(file.stem for file in raw_dir().glob("*.parquet"))
    if "orders" not in names and Manifest.load().warehouse == "duckdb":
        return (
            WARNING,
            f"{raw_dir()}: no orders.parquet",
            "set CHURN_RAW_DIR or churn__orders_source",
        )
    return OK, f"{raw_dir()}: {', '.join(names) or 'none'}"


def _manifest() -> Result:
    path, manifest = manifest_path(), Manifest.load()
    if not path.exists():
        return WARNING, f"{path}: no such file", "run dbt parse"
    return OK, f"{path}, {len(manifest.feature_models)} feature tables"


def _warehouse() -> Result:
    manifest, file = Manifest.load(), warehouse_file()
    if manifest.warehouse == "spark":
        return OK, "Spark, which is not checked here"
    if manifest.warehouse == "postgres":
        from inference.warehouse import postgres  # of an extra

        with postgres.connect() as connection:
            rows = postgres.query(connection, "select count(*) as rows from churn_scores")["rows"][0]
        return OK, f"PostgreSQL: {rows} scores"
    if not file.exists():
        return WARNING, f"{file}: no such file", "run dbt build"
    try:
        with duckdb.connect(file, read_only=True) as connection:
            tables = connection.sql("select table_name from duckdb_tables()").fetchall()
            if ("churn_scores",) not in tables:
                return WARNING, f"{file.name}: {len(tables)} tables, none of them churn_scores", "run dbt build"
            schema = manifest.schema or "main"
            ((newest,),) = connection.sql(f'select max(as_of_date) from "{schema}".churn_scores').fetchall()
    except duckdb.IOException as error:
        if "Could not set lock" in str(error):
            return OK, f"{file.name} is held by a build"
        raise
    scores = published_scores(home())
    if scores is None or scores.as_of_date != newest:
        published = scores.as_of_date if scores else "none"
        return WARNING, f"{file.name} has scores as of {newest}, published are {published}", "run dbt build"
    return OK, f"{file.name}: {len(tables)} tables, scores as of {newest}"


def _scores() -> Result:
    scores = published_scores(home())
    if scores is None:
        return WARNING, "none published yet", "run dbt build"
    found = f"{scores.customers:,} customers as of {scores.as_of_date}"
    if old_scores(scores.as_of_date):
        return WARNING, found, "load newer raw tables and run dbt build"
    return OK, found


def _sqlite_files() -> Result:
    files = [file for file in _files() if kind_of(file) == "sqlite" and file.suffix != ".damaged"]
    for file in files:
        try:
            with read_sqlite(file) as connection:
                ((answer,),) = connection.execute("pragma quick_check(1)").fetchall()
        except sqlite3.OperationalError as error:
            if "readonly" in str(error):
                todo = "the next command that writes to it completes it"
                return WARNING, f"{_name(file)}: a killed process left a write unfinished", todo
            if "locked" in str(error):
                return WARNING, f"{_name(file)} is in use", "run doctor again"
            answer = str(error)
        except sqlite3.DatabaseError as error:
            answer = str(error)
        if answer != "ok":
            if _name(file) in REPAIRED:
                return WARNING, f"{_name(file)}: {answer}", REPAIR
            return PROBLEM, f"{_name(file)}: {answer}", RESTORE
    return OK, f"{len(files)} databases are intact"


def _parquet_files() -> Result:
    damaged: list[Path] = []
    # a killed build leaves tmp_*.parquet, which nobody reads
    files = [file for file in _files() if file.suffix == ".parquet" and not file.name.startswith("tmp_")]
    for file in files:
        try:
            pq.read_metadata(file)
        except (pa.ArrowInvalid, OSError):
            damaged.append(file)
    if damaged:
        todo = "dbt build --full-refresh makes tables again; restore raw tables"
        return PROBLEM, f"{_some(damaged)} cannot be read", todo
    return OK, f"{len(files)} files can be read"


def _model() -> Result:
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return OK, f"the registry is {uri}, which is not checked here"
    try:
        registered = champion(home())
    except sqlite3.DatabaseError as error:
        return WARNING, f"mlflow/mlflow.db: {error}", REPAIR
    if registered is None:
        return WARNING, "no champion in the model registry", "run dbt build"
    from inference.model.churn_model import ChurnModel

    number, run = registered
    folder = home() / "mlflow" / "artifacts" / run / "artifacts" / "model"
    try:
        model = ChurnModel.load(folder)
    except Exception as error:  # whatever a damaged file makes a library raise
        found = f"champion {number} in {_name(folder)} cannot be read ({type(error).__name__})"
        return PROBLEM, found, "restore it, or run churn-radar train"
    return OK, f"champion {number}: {'+'.join(model.names)}, {len(model.features)} features"


def _online_store() -> Result:
    from inference.feature_store.client import SCORES_VIEW, definitions_fingerprint

    scores, registry = published_scores(home()), home() / "feast" / "registry.db"
    if scores is None:
        return OK, "no scores to serve yet"
    # opening a store repairs it
    if not registry.exists() or not _is_registry(registry):
        return WARNING, f"{_name(registry)} is missing or damaged", MATERIALIZE
    if not os.environ.get("CHURN_REDIS") and not os.environ.get("CHURN_ONLINE_SCHEMA"):
        database = home() / "feast" / "online.db"
        if database.with_name("online.db-journal").exists():
            return WARNING, "feast/online.db is being written, or its writer was killed", "run doctor again"
        if is_lost(database, thorough=True):
            return WARNING, "feast/online.db is missing or damaged", REPAIR
    from inference.realtime.online_store import OnlineStore, StoreDownError

    file = sql_literal(home() / "published" / "online_scores.parquet")
    # those of the newest build: others keep an older row, or none
    newest = f"feature_snapshot_at = (select max(feature_snapshot_at) from {file})"
    published = duckdb.sql(f"select distinct customer_id, feature_snapshot_at from {file} where {newest} order by 1")
    customers, (moment, *_) = zip(*published.fetchall(), strict=True)
    try:
        rows = OnlineStore().read(SCORES_VIEW, customers[:: len(customers) // MAX_LOOKUPS + 1])
    except StoreDownError as error:
        return PROBLEM, f"{error} ({error.__cause__})".splitlines()[0], MATERIALIZE
    missing = sum(row is None for row in rows)
    old = sum(row is not None and row[0] < moment.replace(tzinfo=UTC) for row in rows)
    if missing or old:
        found = f"of {len(rows):,} customers looked up, {missing:,} are missing and {old:,} older than published"
        return WARNING, found, MATERIALIZE
    if definitions_fingerprint().encode() not in registry.read_bytes():
        return WARNING, "definitions have changed since feast apply", MATERIALIZE
    return OK, f"{len(rows):,} of {len(customers):,} customers looked up, as of {scores.as_of_date} or later"


def _is_registry(file: Path) -> bool:
    from feast.protos.feast.core.Registry_pb2 import Registry
    from google.protobuf.message import DecodeError

    try:
        Registry.FromString(file.read_bytes())
    except DecodeError:
        return False
    return True


def _event_log() -> Result:
    file, exported = home() / "events" / "log.db", home() / "events" / "through.parquet"
    through = pq.read_table(exported)["through"][0].as_py() if exported.exists() else 0
    if agreed() == "sqlite":
        if not file.exists():
            if through:
                return PROBLEM, f"{_name(file)} is gone, builds have read {through:,} events of it", "restore it"
            return OK, "no events were accepted yet"
        with read_sqlite(file) as connection:  # unlike the service, it makes no file
            query = (
                "select count(*), count(*) filter (where sequence > ?), max(received_at), "
                f"coalesce(({SqliteEventLog.last_position}), 0) from events"
            )
            count, unread, received, newest = connection.execute(query, [through]).fetchone()
    else:
        with closing(connect_own()) as log:
            count, newest, last = len(log), log.newest(), next(log.latest(), None)
            unread = sum(1 for _ in log.since(through))
            received = last and last.received_at.isoformat()
    if newest < through:
        found = f"ends at event {newest:,}, and builds have read {through:,}"
        return PROBLEM, found, "an older log was put back: restore the newest one"
    if received and datetime.fromisoformat(received) > datetime.now(UTC) + CLOCK_TOLERANCE:
        return PROBLEM, f"its newest event arrived at {received[:16]}, which is to come", "set the clock (NTP)"
    return OK, f"{count:,} events, {unread:,} of them since the last build"


def _leftovers() -> Result:
    left = [path for path in home().rglob("*") if path.name.endswith(UNFINISHED)]
    if left:
        return WARNING, f"{_some(left)} left by killed processes", "remove them while nothing runs"
    return OK, "none"


CHECKS: dict[str, Callable[[], Result]] = {
    "home": _home,
    "version": _version,
    "access": _access,
    "free disk": _disk,
    "clock": _clock,
    "salt": _salt,
    "raw tables": _raw_tables,
    "dbt manifest": _manifest,
    "warehouse": _warehouse,
    "scores": _scores,
    "SQLite": _sqlite_files,
    "Parquet": _parquet_files,
    "model": _model,
    "online store": _online_store,
    "event log": _event_log,
    "unfinished": _leftovers,
}


def _files() -> list[Path]:
    return [home() / name for name in files_of(home()) if (home() / name).is_file()]


def _name(path: Path) -> str:
    return str(path.relative_to(home()))


def _some(paths: list[Path]) -> str:
    """Name a path, and say how many others there are."""
    others = f" and {len(paths) - 1:,} others" if len(paths) > 1 else ""
    return f"{_name(paths[0])}{others}"
