"""What it costs to bring a build to the online store: ``feast materialize`` against a bare pipelined write.

    python benchmarks/materialise.py

Needs ``redis-server`` (Debian package of that name). A simulated shop is built as of one day and of the next; its
customers are taken several times, so that there are more of them without another build. Rows of every view then go to
an empty Redis on loopback, and those of the next day on top of them. The bare write sends the same bytes of the same
rows, one HSET each, by redis-py's pipeline, which does not have to make them. Feast's own engine and store are timed
beside.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import suite
from redis import Redis
from serving import BIN, free_port, listening

from inference.home import PROJECT_DIR, home
from inference.reporting.backtest import truncate_raw
from inference.simulation.shop import SimulationSettings, simulate
from inference.warehouse import dbt

#: Files that Feast brings online, and whose rows they hold.
FILES = {
    "features/model_features": "customer_id",
    "features/online_histories": "customer_id",
    "features/online_shop": "",
    "features/sequence_features": "customer_id",
    "published/online_scores": "customer_id",
    "published/newcomer_scores": "customer_id",
}
#: How often the customers are taken.
FEW, MANY = 1, 10
#: Commands of one bare pipeline.
AT_ONCE = 1000
#: Redis's databases: of Churn Radar, of the bare write, of Feast's own store.
OURS, BARE, FEASTS = range(3)


def build(folder: Path, customers: int) -> list[str]:
    """Build a shop as of a day and the next, keep the files of both, and return the days."""
    everything = folder / "everything"
    simulate(SimulationSettings(customers, 540), everything, folder / "simulated")
    (last,) = duckdb.sql(f"select max(ordered_at)::date from '{everything}/orders.parquet'").fetchone()
    days = [last, last + timedelta(days=1)]
    for number, day in enumerate(days):
        truncate_raw(everything, home() / "raw", day)
        without = ("--exclude-resource-type", "unit_test", "--exclude-resource-type", "test")
        dbt.run("build", *without, variables={"churn__transformer": False}, env=dbt.environment(home()), quiet=True)
        for name in FILES:
            place = folder / str(number) / f"{name}.parquet"
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(home() / f"{name}.parquet", place)
    return [f"{day}T00:00:00" for day in days]


def tile(source: Path, times: int) -> None:
    """Put the rows of a day, so many times, where the build exported them."""
    for name, key in FILES.items():
        rows = f"select * from '{source / name}.parquet'"
        if key:
            rows = f"select * exclude (i) replace ({key} || '-' || i as {key}) from ({rows}), range({times}) as r(i)"
        (home() / name).parent.mkdir(parents=True, exist_ok=True)
        duckdb.sql(f"copy ({rows}) to '{home() / name}.parquet'")


def seconds(call: Callable[[], object]) -> float:
    """Time a call, whatever it prints."""
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        call()
    return time.perf_counter() - started


def rows_of(client: Redis, moment: datetime, views: list) -> list[tuple[bytes, dict]]:
    """Read what Redis holds of each row of a day: its key, and its fields with their values."""
    from google.protobuf.timestamp_pb2 import Timestamp

    from inference.feature_store.redis_store import _fields

    stamp = Timestamp(seconds=int(moment.timestamp())).SerializeToString()

    fields = {view.name: [*_fields(view.name, tuple(f.name for f in view.features))] for view in views}
    names = [[f if isinstance(f, bytes) else f.encode() for f in of_view] for of_view in fields.values()]
    rows, keys = [], list(client.scan_iter(count=AT_ONCE))
    for start in range(0, len(keys), AT_ONCE):
        with client.pipeline(transaction=False) as pipeline:
            for key in keys[start : start + AT_ONCE]:
                pipeline.hgetall(key)
            for key, held in zip(keys[start : start + AT_ONCE], pipeline.execute(), strict=True):
                rows += [(key, {f: held[f] for f in of_view}) for of_view in names if held.get(of_view[-1]) == stamp]
    return rows


def bare(client: Redis, rows: list[tuple[bytes, dict]]) -> None:
    """Write rows as redis-py does."""
    for start in range(0, len(rows), AT_ONCE):
        with client.pipeline(transaction=False) as pipeline:
            for key, fields in rows[start : start + AT_ONCE]:
                pipeline.hset(key, mapping=fields)
            pipeline.execute()


def load(folder: Path, days: list[str], times: int, runs: int) -> None:
    """Materialise both days so often and print the figures, for a process of its own."""
    warnings.simplefilter("ignore")
    from feast.infra.online_stores.redis import RedisOnlineStoreConfig

    from inference.feature_store.client import open_store

    address, port = os.environ["CHURN_REDIS"], int(os.environ["CHURN_REDIS"].split(":")[1])
    clients = {number: Redis(port=port, db=number) for number in (OURS, BARE, FEASTS)}
    store, feasts = open_store(), open_store()
    feasts.config.batch_engine_config = "local"
    feasts.config.materialization_config.online_write_batch_size = None
    feasts.config._online_store = RedisOnlineStoreConfig(connection_string=f"{address},db={FEASTS}")
    views = [view for view in store.list_feature_views() if view.online]
    measured: dict = {"ours": [[], []], "bare": [[], []], "feasts": [[], []], "sent": [{}, {}], "rows": [0, 0]}
    for _ in range(runs):
        clients[OURS].flushall()
        for number, day in enumerate(days):
            tile(folder / str(number), times)
            moment = datetime.fromisoformat(day).replace(tzinfo=UTC)
            taken = 0.0
            for view in views:
                before = clients[OURS].info("stats")["total_net_input_bytes"]
                taken += seconds(lambda view=view, moment=moment: store.materialize(moment, moment, [view.name]))
                measured["sent"][number][view.name] = clients[OURS].info("stats")["total_net_input_bytes"] - before
            measured["ours"][number].append(taken)
            rows = rows_of(clients[OURS], moment, views)
            measured["rows"][number] = len(rows)
            measured["bare"][number].append(seconds(lambda rows=rows: bare(clients[BARE], rows)))
            measured["feasts"][number].append(seconds(lambda moment=moment: feasts.materialize(moment, moment)))
    print(json.dumps(measured))


def main() -> None:
    """Measure, print, keep."""
    parser = suite.arguments_of(__doc__)
    parser.add_argument("--customers", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--load", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--days", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        folder, times, runs = arguments.load
        load(Path(folder), arguments.days, int(times), int(runs))
        return
    if shutil.which("redis-server") is None:
        raise SystemExit("redis-server is not installed; expected Debian's package of that name")
    port, figures = free_port(), []
    with tempfile.TemporaryDirectory(prefix="churn-radar-materialise-") as temporary:
        folder = Path(temporary)
        os.environ |= dbt.environment(folder / "home") | {"CHURN_REDIS": f"127.0.0.1:{port}"}
        days = build(folder, arguments.customers)
        server = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        with listening(server, port, dict(os.environ)):
            apply = [BIN / "feast", "-c", "feature_repo", "apply", "--skip-source-validation"]
            subprocess.run(apply, cwd=PROJECT_DIR, check=True, stdout=subprocess.DEVNULL)
            measured, command = {}, {}
            for times in (FEW, MANY):
                log = folder / f"{times}.log"
                script = [sys.executable, __file__, "--load", str(folder), str(times), str(arguments.runs)]
                suite.measure([*script, "--days", *days], {}, log)
                measured[times] = json.loads(log.read_text().splitlines()[-1])
                redis_cli = [BIN / "python", "-c", f"from redis import Redis; Redis(port={port}).flushall()"]
                subprocess.run(redis_cli, check=True)
                feast = [BIN / "feast", "-c", "feature_repo", "materialize", days[1], days[1]]
                command[times] = suite.measure(feast, {}, folder / "feast.log")
    middle = {
        times: {side: [statistics.median(taken) for taken in of[side]] for side in ("ours", "bare", "feasts")}
        for times, of in measured.items()
    }
    many = middle[MANY]
    for number, day in enumerate(("first load", "next day")):
        n_rows = measured[MANY]["rows"][number]
        ours, peer, feasts = (n_rows / many[side][number] for side in ("ours", "bare", "feasts"))
        figures += [
            suite.Figure(f"{day}, {n_rows:,} rows", ours, peer, "rows/s", ours / peer),
            suite.Figure("  by Feast's own engine and store", feasts, peer, "rows/s", feasts / peer),
        ]
    first, following = measured[MANY]["sent"]
    all_sent = sum(following.values()), sum(first.values())
    figures.append(suite.Figure("next day, sent, of the first load", *_megabytes(*all_sent), all_sent[0] / all_sent[1]))
    for view, sent in sorted(following.items(), key=lambda item: -first[item[0]]):
        figures.append(suite.Figure(f"  {view}", *_megabytes(sent, first[view]), sent / first[view]))
    few = middle[FEW]
    n_many, n_few = arguments.customers * MANY, arguments.customers * FEW
    for number, day in enumerate(("first load", "next day")):
        ours, peer = many["ours"][number], few["ours"][number]
        what = f"{n_many:,} customers against {n_few:,}, {day}"
        figures.append(suite.Figure(what, ours, peer, "s", ours / peer, "at most 11"))
    figures += [
        suite.Figure(
            "  the command, with what starting Feast takes",
            command[MANY].seconds,
            command[FEW].seconds,
            "s",
            command[MANY].seconds / command[FEW].seconds,
            "at most 11",
        ),
        suite.Figure(
            "  its memory",
            command[MANY].peak_mb,
            command[FEW].peak_mb,
            "MB",
            command[MANY].peak_mb / command[FEW].peak_mb,
        ),
    ]
    title = f"Materialising the views of {n_many:,} customers into Redis"
    suite.report("materialise", title, "bare HSET, first load or few", figures, arguments.runs, arguments.forget)


def _megabytes(ours: float, peer: float) -> tuple[float, float, str]:
    return ours / 1e6, peer / 1e6, "MB"


if __name__ == "__main__":
    main()
