"""Feature SQL at size: from raw Parquet to feature tables and labels, against one pass over the same files.

    python benchmarks/sql.py
    python benchmarks/sql.py --customers 10000

A simulated shop of a year is written (a million customers are about 60 million rows), then dbt makes staging, daily
activity, the spine, all feature tables and the labels: the newest snapshot of all active customers and up to 200,000
rows of training. One process starts dbt once, as a build does; what Python models make (embeddings, forecasts, pools
of texts) is filled in between by SQL, random but of the right shape, and its seconds do not count: they have
benchmarks of their own. Built again with ``churn__transformer: false`` there are no sequences of events. The pass
reads the same files by the same threads, groups each by customer and adds up every group's count, sum and max, for
DuckDB computes nothing that nobody reads. A tenth of the customers is built besides, for how cost grows.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import duckdb
import suite
from dbt.cli.main import dbtRunner

from inference.simulation.shop import SimulationSettings, simulate
from inference.text.aspects import ASPECTS
from inference.warehouse import dbt

#: Sums of the single pass over each file; order items have no customer.
SUMMED = {
    "orders": ("customer_id", "amount"),
    "order_items": ("order_id", "unit_price"),
    "reviews": ("customer_id", "rating"),
    "support_tickets": ("customer_id", "satisfaction"),
    "campaign_touches": ("customer_id", "cost"),
    "events": ("customer_id", "epoch(occurred_at)"),
}
UP_TO_SPINE = (
    "path:models/staging",
    "+int_customer_snapshots",
    "+int_customer_events",
    "+int_texts",
    "+int_customer_attributes",
)
FEATURES = ("path:models/features", "churn_labels")
PYTHON_MODELS = ("review_embeddings", "purchase_forecasts", "text_pools")
PASSES = 5


def random_score(text: str, name: str) -> str:
    """SQL of a pseudo-random number from -1 to 1 that depends only on a text."""
    return f"cast((hash({text} || '{name}') % 2000) / 1000.0 - 1 as double)"


def fill(home: Path) -> None:
    """Fill the tables of Python models, so that the SQL that reads them has rows."""
    scores = ", ".join(f"{random_score('text_id', aspect)} as {aspect}_score" for aspect in ASPECTS)
    with duckdb.connect(str(home / "churn_radar.duckdb")) as connection:
        connection.execute(
            "create table review_embeddings as select text_id, source_table, customer_id, written_at, "
            "'' as text_hash, '' as encoder_revision, '' as aspects_revision, cast(null as float[]) as embedding, "
            f"{scores}, {random_score('text_id', 'complaint')} as complaint_score from int_texts"
        )
        connection.execute(
            "create table purchase_forecasts as select customer_id, as_of_date, "
            "(hash(customer_id) % 1000) / 1000.0 as no_order_probability, 0.5 as alive_logit, 1.0 as expected_orders "
            "from int_customer_snapshots"
        )
        connection.execute(
            "create table text_pools as select customer_id, as_of_date, 1 as texts_60d, "
            "cast(null as float[]) as text_embedding, cast(null as varchar) as encoder_revision "
            "from int_customer_snapshots"
        )


@dataclass(frozen=True)
class Time:
    """Seconds on the clock, and of the processor."""

    wall: float
    processor: float

    @classmethod
    def now(cls) -> Self:
        """Clock and processor time of this process."""
        return cls(time.perf_counter(), time.process_time())

    def __sub__(self, other: Self) -> Self:
        return type(self)(self.wall - other.wall, self.processor - other.processor)


def one_pass(raw: Path) -> tuple[Time, int]:
    """Time of a pass over all files, and their rows."""
    rows, started = 0, Time.now()
    with duckdb.connect() as connection:
        connection.execute("set threads = 2")
        for table, (key, summed) in SUMMED.items():
            n_rows, _, _ = connection.execute(
                "select sum(counted), sum(summed), max(largest) from (select count(*) as counted, "
                f"sum({summed}) as summed, max({summed}) as largest from '{raw}/{table}.parquet' group by {key})"
            ).fetchone()
            rows += int(n_rows)
    return Time.now() - started, rows


def build(home: Path, variables: str) -> None:
    """Build in this process, and store the seconds of filling in and of each model."""
    dbt_runner = dbtRunner(manifest=_invoke(dbtRunner(), "parse", "--vars", variables))
    options = ("--vars", variables, "--exclude", *PYTHON_MODELS)
    seconds = _models(_invoke(dbt_runner, "run", *options, "--select", *UP_TO_SPINE))
    started = Time.now()
    fill(home)
    filling = Time.now() - started
    seconds |= _models(_invoke(dbt_runner, "run", *options, "--select", *FEATURES))
    (home / "seconds.json").write_text(json.dumps({"filling": asdict(filling), "models": seconds}))


def _invoke(runner: dbtRunner, *arguments: str) -> Any:
    done = runner.invoke(list(arguments))
    if not done.success:
        raise SystemExit(f"dbt {arguments[0]} failed: {done.exception}")
    return done.result


def _models(result: Iterable[Any]) -> dict[str, float]:
    return {node.node.name: node.execution_time for node in result}


def measure(customers: int, raw: Path | None, runs: int, transformer: bool = True) -> dict:
    """Build a shop ``runs`` times; medians of times and the maximum of memory."""
    built = []
    with tempfile.TemporaryDirectory(prefix="churn-radar-sql-") as folder:
        if raw is None:
            raw = Path(folder) / "raw"
            settings = SimulationSettings(customers, 365, visit_every_days=60)
            simulate(settings, raw, Path(folder) / "truth")
        passes = [one_pass(raw) for _ in range(PASSES)]
        for run in range(runs):
            home = Path(folder) / str(run)
            home.mkdir()
            (home / "raw").symlink_to(raw.resolve())
            dbt.run("seed", env=dbt.environment(home), quiet=True)
            env = dbt.environment(home) | {"CHURN_MEMORY": "7GB"}
            variables = json.dumps({"churn__transformer": transformer})
            command = [sys.executable, __file__, "--build", home, "--vars", variables]
            measured = suite.measure(command, env, home / "benchmark.log")
            inner = json.loads((home / "seconds.json").read_text())
            filling = Time(**inner["filling"])
            spent = {"wall": measured.seconds - filling.wall, "processor": measured.cpu_seconds - filling.processor}
            built.append(spent | {"peak_mb": measured.peak_mb} | inner["models"])
            shutil.rmtree(home)
        passes += [one_pass(raw) for _ in range(PASSES)]
    taken = {what: statistics.median(run[what] for run in built) for what in built[0]}
    return {
        "rows": passes[0][1],
        "pass": Time(
            *(statistics.median(getattr(spent, kind) for spent, _ in passes) for kind in ("wall", "processor"))
        ),
        "all": Time(taken.pop("wall"), taken.pop("processor")),
        "peak_mb": max(run["peak_mb"] for run in built),
        "models": {model: seconds for model, seconds in taken.items() if model != "peak_mb"},
    }


def main() -> None:
    """Measure, print, keep."""
    parser = suite.arguments_of(__doc__)
    parser.add_argument("--customers", type=int, default=1_000_000)
    parser.add_argument("--raw", type=Path, help="raw tables of so many customers that are there already")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--vars", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.build:
        build(arguments.build, arguments.vars)
        return
    many = measure(arguments.customers, arguments.raw, arguments.runs)
    without = measure(arguments.customers, arguments.raw, arguments.runs, transformer=False)
    few = measure(arguments.customers // 10, None, arguments.runs)
    slowest = sorted(many["models"].items(), key=lambda model: -model[1])[:8]
    sql, one, tenth = many["all"], many["pass"], few["all"]
    less, again = without["all"], without["pass"]
    figures = [
        suite.Figure("all SQL", sql.wall, one.wall, "s", sql.wall / one.wall, "at most 22"),
        suite.Figure(
            "all SQL, processor", sql.processor, one.processor, "s", sql.processor / one.processor, "at most 22"
        ),
        suite.Figure("without a transformer", less.wall, again.wall, "s", less.wall / again.wall, "at most 19"),
        suite.Figure(
            "  the same, processor",
            less.processor,
            again.processor,
            "s",
            less.processor / again.processor,
            "at most 19",
        ),
        suite.Figure("peak memory", many["peak_mb"], 8000, "MB", many["peak_mb"] / 8000, "at most 1"),
        suite.Figure("ten times the customers", sql.wall, tenth.wall, "s", sql.wall / tenth.wall, "at most 11"),
        *(suite.Figure(f"  {name}", s, one.wall, "s", s / one.wall) for name, s in slowest),
    ]
    title = f"Feature SQL: {arguments.customers:,} customers, {many['rows']:,} raw rows"
    suite.report("sql", title, "one pass, a limit or a tenth", figures, arguments.runs, arguments.forget)


if __name__ == "__main__":
    main()
