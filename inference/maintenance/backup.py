"""A home folder copied as a whole while its service runs, with a checksum of every file."""

import fcntl
import hashlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

from inference.erasure.files import kind_of
from inference.errors import ChurnRadarError
from inference.event_log.opening import used
from inference.home import home, postgres_schema, raw_dir
from inference.home_format import FORMAT, refuse_newer
from inference.lock import writing
from inference.maintenance.contents import files_of
from inference.progress import track
from inference.warehouse.manifest import Manifest, warehouse_file

#: File of a backup with its checksums, and its folder with the home's files.
MANIFEST, FILES = "backup.json", "home"
#: Ends of the files beside an SQLite file, whose content its own backup includes.
BESIDE_SQLITE = ("-wal", "-shm", "-journal")
#: The event log; copied last, so that it has every event that other files of the backup know.
EVENT_LOG = Path("events", "log.db")
#: Seconds to wait for an SQLite file that another process holds.
SQLITE_WAIT = 60
CHUNK = 1 << 20


@contextmanager
def private_files() -> Iterator[None]:
    """Let new files and folders be readable by their owner alone."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def made_whole(folder: Path) -> Iterator[Path]:
    """Give a folder to fill that takes its name at the end of the block; what a killed process left is removed."""
    beside = folder.with_name(f"{folder.name}.partial")
    try:
        beside.mkdir(parents=True, exist_ok=True)
        with _opened(beside) as number:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for left in beside.iterdir():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            try:
                yield beside
                beside.rename(folder)
            except BaseException:
                shutil.rmtree(beside, ignore_errors=True)
                raise
        with _opened(folder.parent) as number:
            os.fsync(number)  # the new name
    except BlockingIOError:
        raise ChurnRadarError(f"{beside}: another process writes it; expected one at a time") from None
    except OSError as error:
        raise ChurnRadarError(f"{error.filename or folder}: {error.strerror}; nothing was made") from None


def back_up(folder: Path) -> dict:
    """Copy the home folder to a new folder; return the manifest.

    It holds the home's lock, so that no build runs meanwhile; the service goes on. Events that were acknowledged before
    the call are in the backup. It is written to ``<folder>.partial`` and takes its name at the end.

    Raises
    ------
    ChurnRadarError
        If the folder exists, lies in the home or has too little space, another command holds the home's lock, or
        another process a database.
    """
    state, folder = home().resolve(), folder.absolute()
    _check(state, folder)
    with private_files(), writing("churn-radar backup"), _locked_warehouse() as warehouse, made_whole(folder) as beside:
        kinds = {name: kind for name in files_of(state) if (kind := _kind(state / name, warehouse))}
        _check_space(state, kinds, beside)
        written = {}
        for name in track(sorted(kinds, key=lambda name: (name == EVENT_LOG, kinds[name], name)), "Backing up"):
            target = beside / FILES / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if warehouse and kinds[name] == "warehouse":
                written[str(name)] = copy(warehouse, target)
            elif kinds[name] == "sqlite":
                written[str(name)] = _copy_database(state / name, target)
            else:
                with suppress(FileNotFoundError), (state / name).open("rb") as opened:  # an old file, removed since
                    written[str(name)] = copy(opened, target)
        manifest = {
            "format": FORMAT,
            "churn_radar": version("churn-radar"),
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "home": str(state),
            "elsewhere": elsewhere(),
            "files": written,
        }
        with (beside / MANIFEST).open("w") as listed:
            json.dump(manifest, listed, indent=1)
            listed.flush()
            os.fsync(listed.fileno())
    return manifest


def elsewhere() -> list[str]:
    """What belongs to the shop's state and lies outside the home folder, so that no backup holds it."""
    found: list[str] = []
    state, warehouse = home().resolve(), Manifest.load().warehouse
    if warehouse == "postgres":
        found.append(f"the tables in PostgreSQL's schema {postgres_schema()}: see pg_dump")
    elif warehouse == "duckdb" and not warehouse_file().resolve().is_relative_to(state):
        found.append(f"the warehouse {warehouse_file()}")
    if raw_dir().is_dir() and not raw_dir().resolve().is_relative_to(state):
        found.append(f"the raw tables in {raw_dir()}")
    for variable, holds in {
        "CHURN_REDIS": "the online store: feast materialize fills it again",
        "CHURN_ONLINE_SCHEMA": "the online store: feast materialize fills it again",
        "MLFLOW_TRACKING_URI": "the model registry",
        "CHURN_SALT": "the salt: keep it as well, as pseudonyms need it",
        "CHURN_SPARK_CONF": "Spark's tables, where it keeps them outside",
    }.items():
        if os.environ.get(variable):
            found.append(f"{holds} (at {variable})")
    if (log := used()) not in (None, "sqlite"):
        found.append(f"the log of accepted events in {log}: back its server up")
    return found


def copy(opened: BinaryIO, target: Path) -> dict:
    """Copy an open file to a new one, flushed to disk; return its size and SHA-256."""
    digest, size = hashlib.sha256(), 0
    with target.open("xb") as copied:
        while chunk := opened.read(CHUNK):
            digest.update(chunk)
            size += copied.write(chunk)
        copied.flush()
        os.fsync(copied.fileno())
    return {"bytes": size, "sha256": digest.hexdigest()}


def _check(state: Path, folder: Path) -> None:
    if not state.is_dir():
        raise ChurnRadarError(f"{state}: no such folder; expected the CHURN_HOME of a shop that dbt build made")
    refuse_newer()
    if folder.exists():
        raise ChurnRadarError(f"{folder}: there already; expected the name of a new folder")
    if folder.resolve().is_relative_to(state):
        raise ChurnRadarError(f"{folder} lies in the home folder; expected a folder outside of {state}")


def _check_space(state: Path, kinds: dict[Path, str], folder: Path) -> None:
    needed, free = sum((state / name).stat().st_size for name in kinds), shutil.disk_usage(folder).free
    if needed > free:
        raise ChurnRadarError(
            f"{folder.parent}: {free / 1e6:,.0f} MB are free; expected {needed / 1e6:,.0f} MB for the backup"
        )


def _kind(file: Path, warehouse: BinaryIO | None) -> str | None:
    """How a file is copied: as ``file``, by ``sqlite``, or ``warehouse``; None where it is no file of its own."""
    with suppress(OSError):
        if warehouse and file.samefile(warehouse.name):
            return "warehouse"  # not opened again: closing it would give up the lock
        for end in BESIDE_SQLITE:
            if file.name.endswith(end) and kind_of(file.with_name(file.name.removesuffix(end))) == "sqlite":
                return None
        if file.is_file():
            return "sqlite" if kind_of(file) == "sqlite" and file.suffix != ".damaged" else "file"
    return None


def _locked_warehouse() -> AbstractContextManager[BinaryIO | None]:
    """Open the DuckDB file and lock it as a reader does, so that no program can write; None where there is none."""
    file = warehouse_file()
    if not file.exists():
        return nullcontext()
    opened = file.open("rb")
    try:
        fcntl.lockf(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        opened.close()
        raise ChurnRadarError(f"{file}: a program has it open for writing; expected none during a backup") from None
    return opened


def _copy_database(source: Path, target: Path) -> dict:
    """Copy an SQLite file as of one moment by its own backup, also while it is written."""
    try:
        source_uri = f"{source.as_uri()}?mode=rw"
        with closing(sqlite3.connect(source_uri, uri=True)) as opened, closing(sqlite3.connect(target)) as copied:
            copied.execute("pragma synchronous = off")  # flushed below
            opened.backup(copied, progress=_in_time(source))
    except sqlite3.DatabaseError as error:
        raise ChurnRadarError(f"{source}: {error}; expected an SQLite file that can be read") from None
    with target.open("rb") as opened_copy:
        os.fsync(opened_copy.fileno())
        digest = hashlib.file_digest(opened_copy, "sha256").hexdigest()
    return {"bytes": target.stat().st_size, "sha256": digest}


def _in_time(file: Path) -> Callable[[int, int, int], None]:
    """SQLite's backup calls this after each attempt, and tries for ever."""
    deadline = time.monotonic() + SQLITE_WAIT

    def check(_status: int, remaining: int, _total: int) -> None:
        if remaining and time.monotonic() > deadline:
            raise ChurnRadarError(f"{file}: another process holds it; expected it to be free within {SQLITE_WAIT} s")

    return check


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    number = os.open(folder, os.O_RDONLY)
    try:
        yield number
    finally:
        os.close(number)
