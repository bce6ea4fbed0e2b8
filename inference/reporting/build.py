"""``dbt build`` for people: a line when a stage is done, and at the end what came of it.

dbt runs as ever, in a process of its own that writes its log as JSON; what Python models write stays as it is.
"""

import json
import queue
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Sequence

import duckdb

from inference.errors import ChurnRadarError, printable
from inference.home import old_scores, published, sql_literal
from inference.warehouse import dbt
from inference.warehouse.manifest import Manifest, warehouse_file

#: The model that ends a stage, and what is done then.
STAGES = {
    "int_raw_tables": "raw tables are checked",
    "int_customer_snapshots": "orders and events are counted by customer and day",
    "review_embeddings": "texts are read",
    "model_features": "features are made",
    "churn_model": "the model is trained, or kept",
    "churn_scores": "customers are scored",
    "retention_actions": "actions are recommended",
    "online_scores": "online tables are made",
    "churn_alerts": "alerts are made",
}
#: After so many seconds without a line, one says what is still running.
SILENCE = 30.0


def build(arguments: Sequence[str]) -> Iterator[str]:
    """Run ``dbt build`` with arguments of dbt; yield lines for a reader.

    Raises
    ------
    ChurnRadarError
        If dbt fails, after its messages were yielded.
    """
    started = time.monotonic()
    scored = False
    with dbt.start("build", *arguments, "--log-format", "json", "--no-use-colors") as process:
        for line in retell(_lines(process), started):
            scored |= STAGES["churn_scores"] in line
            yield line
    if process.returncode:
        raise ChurnRadarError("dbt build failed; the lines above say why, and what was published before is as it was")
    yield f"{_clock(started)}  done"
    if scored:
        yield from outcome()


def retell(lines: Iterable[str | None], started: float) -> Iterator[str]:
    """Turn lines of dbt's log into lines for a reader: stages, warnings and errors; None stands for silence."""
    running: dict[str, float] = {}
    checks = 0
    for line in lines:
        if line is None:
            longest = min(running, key=running.__getitem__, default="dbt")
            yield f"{_clock(started)}  … {longest} is still running"
            continue
        try:
            event = json.loads(line)
            name, level, message = (event["info"][key] for key in ("name", "level", "msg"))
            node = event["data"].get("node_info", {})
        except (ValueError, KeyError, TypeError):  # a line of a Python model
            yield f"{'':8}{printable(line.rstrip())}"
            continue
        if name == "LogStartLine":
            running[node["node_name"]] = time.monotonic()
        elif name in ("LogModelResult", "LogTestResult", "LogSeedResult"):
            running.pop(node["node_name"], None)
            checks += name == "LogTestResult" and node["node_status"] == "pass"
            if node["node_status"] == "success" and node["node_name"] in STAGES:
                place = f"{event['data']['index']} of {event['data']['total']} steps"
                yield f"{_clock(started)}  {STAGES[node['node_name']]} ({place}, {checks} checks passed)"
        if level in ("warn", "error") and message.strip():
            yield f"{level.upper()}: {printable(message.strip())}"


def outcome() -> Iterator[str]:
    """Say whom the newest build scored, by which model, what changed and what it set aside."""
    scores, models = published("churn_scores"), published("churn_model")
    if not scores.exists():
        return
    with duckdb.connect() as connection:
        connection.execute(
            f"""
            create view scores as
            select * from read_parquet({sql_literal(scores)})
            qualify row_number() over (partition by customer_id, as_of_date order by scored_at desc) = 1
            """
        )
        [(as_of, before, horizon)] = connection.execute(
            "select max(as_of_date), max(as_of_date) filter (where as_of_date < newest), max(horizon_days) "
            "from (select *, max(as_of_date) over () as newest from scores)"
        ).fetchall()
        [(customers, leaving, urgent)] = connection.execute(
            "select count(*), sum(churn_probability), count(case when risk_band in ('critical', 'high') then 1 end) "
            "from scores where as_of_date = ?",
            [as_of],
        ).fetchall()
        yield (
            f"{customers:,} customers scored as of {as_of}: {leaving:,.0f} are expected to order nothing in the next "
            f"{horizon} days; risk is high or critical for {urgent:,}"
        )
        if before is not None:
            [(joined, left, moved)] = connection.execute(
                "select count(case when old.customer_id is null then 1 end), "
                "count(case when new.customer_id is null then 1 end), "
                "count(case when old.risk_band <> new.risk_band then 1 end) "
                "from (select * from scores where as_of_date = ?) as new "
                "full join (select * from scores where as_of_date = ?) as old on new.customer_id = old.customer_id",
                [as_of, before],
            ).fetchall()
            yield f"since {before}: {joined:,} became active, {left:,} are so no more, {moved:,} changed risk band"
        champion = connection.execute(
            f"select model_version, strftime(trained_at, '%Y-%m-%d'), reason from read_parquet({sql_literal(models)}) "
            "where is_champion order by decided_at desc limit 1"
        ).fetchone()
        if champion:
            version, trained_on, reason = champion
            yield f"champion: version {version}, trained on {trained_on}; {reason}"
    yield from _set_aside()
    yield old_scores(as_of) or (
        f"next: feast -c feature_repo apply; feast -c feature_repo materialize {as_of}T00:00:00 {as_of}T00:00:00"
    )


def _set_aside() -> Iterator[str]:
    """Rows that the newest build set aside, by table, where the warehouse is a DuckDB file."""
    manifest, file = Manifest.load(), warehouse_file()
    if manifest.warehouse != "duckdb" or not file.exists():
        return
    with duckdb.connect(file, read_only=True) as connection:
        table = f'"{manifest.schema or "main"}".stg_rejected_rows'
        for name, rows, reason in connection.execute(
            f"select source_table, count(*), mode(rejection_reason) from {table} group by source_table order by 1"
        ).fetchall():
            yield f"set aside: {rows:,} rows of {name}, most as {reason}; see stg_rejected_rows"


def _lines(process: subprocess.Popen[str]) -> Iterator[str | None]:
    """Lines of a process's output; None after each silence."""
    waiting: queue.Queue[str | None] = queue.Queue()  # None at its end

    def read() -> None:
        for line in process.stdout or ():
            waiting.put(line)
        waiting.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = waiting.get(timeout=SILENCE)
        except queue.Empty:
            yield None
            continue
        if line is None:
            return
        yield line


def _clock(started: float) -> str:
    minutes, seconds = divmod(int(time.monotonic() - started), 60)
    return f"{minutes:>3}:{seconds:02}"
