"""Accepted events as Parquet, which builds read besides the shop's own tables."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from inference.event_log.events import COLUMNS, MOMENTS, NUMBERS, LoggedEvent, utc
from inference.event_log.log import EventLog
from inference.event_log.opening import existing_log
from inference.home import home, whole_file

_TYPES = {**dict.fromkeys(MOMENTS, pa.timestamp("us")), **dict.fromkeys(NUMBERS, pa.float64())}


def export_home() -> None:
    """Export the log of the home, where it has one."""
    with existing_log() as log:
        if log is not None:
            export(log, home() / "events")


def export(log: EventLog, folder: Path) -> dict[str, int]:
    """Write a log's rows as Parquet, a file per raw table.

    ``through.parquet``, written last, has the log's last position as of these files; unless the log has a later one,
    nothing is written. Damaged files are written again.

    Returns
    -------
    dict of str to int
        Number of rows written, by table. In tables with ``loaded_at``, which is then the time of arrival, all versions
        of a key are written; in others only the newest version.
    """
    newest, through = log.newest(), folder / "through.parquet"
    exported = _exported(folder)
    # a log that is behind was lost, or an older one put back: what the files hold is all that there is
    if exported is not None and exported >= newest:
        return {}
    rows = _versions(event for event in log.since() if event.sequence <= newest)
    for table, columns in COLUMNS.items():
        if rows[table]:
            schema = pa.schema([(column, _TYPES.get(column, pa.string())) for column in columns])
            _write(pa.Table.from_pylist(rows[table], schema), folder / f"{table}.parquet")
        else:
            (folder / f"{table}.parquet").unlink(missing_ok=True)
    _write(pa.table({"through": [newest]}), through)
    return {table: len(written) for table, written in rows.items()}


def _exported(folder: Path) -> int | None:
    """Position of the newest event in the files; None where there are none or one is damaged."""
    try:
        for table in COLUMNS:
            if (file := folder / f"{table}.parquet").exists():
                pq.read_metadata(file)
        return pq.read_table(folder / "through.parquet")["through"][0].as_py()
    except (pa.ArrowException, OSError, KeyError):
        return None


def _versions(events: Iterable[LoggedEvent]) -> dict[str, list[dict]]:
    """Rows to export by table, with the types of the data contract."""
    versions: dict[str, dict] = {table: {} for table in COLUMNS}
    for event in events:
        arrived = event.received_at.replace(tzinfo=None)
        for table, rows in event.rows.items():
            key, dated = COLUMNS[table][0], "loaded_at" in COLUMNS[table]
            for own in {row[key] for row in rows}:
                versions[table][(own, arrived) if dated else own] = [
                    _typed(row) | ({"loaded_at": arrived} if dated else {}) for row in rows if row[key] == own
                ]
    return {table: [row for version in keys.values() for row in version] for table, keys in versions.items()}


def _typed(row: Mapping) -> dict:
    return {name: utc(value) if name in MOMENTS and value else value for name, value in row.items()}


def _write(table: pa.Table, file: Path) -> None:
    with whole_file(file) as beside:
        pq.write_table(table, beside)
