"""What a new day costs: its build against one of the whole history.

    python benchmarks/daily.py
    python benchmarks/daily.py --customers 5000 --days 365 --new-days 3

A simulated shop is built from nothing up to a day, its model trained; then its next days arrive one by one, and
``dbt build`` runs on each, as it would every night. Printed are the wall time of each build, the whole command with
its data tests, and its share of the full build; and, for comparison, a build that makes every table anew with the
model that is there (``--full-refresh``).
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import duckdb
from rich.table import Table

from inference import dbt, simulation, terminal
from inference.backtest import truncate_raw
from inference.home import PROJECT_DIR


def build(home: Path, day: str, *arguments: str) -> float:
    """Run ``dbt build``, which must find that it is this day, and return its seconds."""
    command = [Path(sys.executable).with_name("dbt"), "build", "--exclude-resource-type", "unit_test", *arguments]
    started = time.monotonic()
    with (home / "benchmark.log").open("a") as log:
        subprocess.run(
            command,
            cwd=PROJECT_DIR,
            env=os.environ | dbt.environment(home),
            stdout=log,
            stderr=log,
            check=True,
        )
    seconds = time.monotonic() - started
    scores = home / "published" / "churn_scores.parquet"
    (as_of_date,) = duckdb.sql(f"select max(as_of_date)::varchar from '{scores}'").fetchone()
    if as_of_date != day:
        raise SystemExit(f"{scores}: scores as of {as_of_date}; expected {day}, the day after the last order")
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--customers", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=365, help="days of history before the new ones")
    parser.add_argument("--new-days", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--home", type=Path, help="keep the shop here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="churn-radar-daily-") as folder:
        home = (arguments.home or Path(folder)).resolve()
        settings = simulation.SimulationSettings(
            arguments.customers, arguments.days + arguments.new_days, arguments.seed
        )
        everything = home / "everything"
        simulation.simulate(settings, everything, home / "truth")
        (last,) = duckdb.sql(f"select max(ordered_at)::date from '{everything}/orders.parquet'").fetchone()
        days = [last + timedelta(days=1 - n) for n in range(arguments.new_days, -1, -1)]

        def arrive(day) -> str:
            truncate_raw(everything, home / "raw", day)
            return day.isoformat()

        full = build(home, arrive(days[0]))
        daily = [build(home, arrive(day)) for day in days[1:]]
        anew = build(home, days[-1].isoformat(), "--full-refresh")
    table = Table(title=f"{arguments.customers:,} customers, {arguments.days} days of history, {os.cpu_count()} cores")
    for heading, justify in (("build", "left"), ("seconds", "right"), ("of the full build", "right")):
        table.add_column(heading, justify=justify)
    table.add_row("everything from nothing, training included", f"{full:.0f}", "100%")
    table.add_row("every table anew, the model as it is", f"{anew:.0f}", f"{anew / full:.1%}")
    for day, seconds in zip(days[1:], daily, strict=True):
        table.add_row(f"the new day before {day}", f"{seconds:.0f}", f"{seconds / full:.1%}")
    middle = statistics.median(daily)
    table.add_row(f"median of {len(daily)} new days", f"{middle:.0f}", f"{middle / full:.1%}")
    terminal.console().print(table)


if __name__ == "__main__":
    main()
