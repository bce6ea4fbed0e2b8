"""What a new day costs: its build against one of the whole history.

    python benchmarks/daily.py
    python benchmarks/daily.py --customers 5000 --days 365 --new-days 3

A simulated shop is built from nothing up to a day, its model trained; then its next days arrive one by one, and
``dbt build`` runs on each, as it would every night: the whole command with its data tests. Once a week a further
snapshot is labelled, which moves all training dates: their snapshots are built anew. Measured besides is a build that
makes every table anew with the model that is there (``--full-refresh``).
"""

import statistics
import sys
import tempfile
from datetime import date, timedelta
from pathlib import Path

import duckdb
import suite

from inference.reporting.backtest import truncate_raw
from inference.simulation.shop import SimulationSettings, simulate
from inference.warehouse import dbt


def build(home: Path, day: str, *arguments: str) -> tuple[float, list[date]]:
    """Run ``dbt build``, which must find that it is this day; return its seconds and the training dates."""
    command = [Path(sys.executable).with_name("dbt"), "build", "--exclude-resource-type", "unit_test", *arguments]
    measured = suite.measure(command, dbt.environment(home), home / "benchmark.log")
    scores = home / "published" / "churn_scores.parquet"
    (as_of_date,) = duckdb.sql(f"select max(as_of_date)::varchar from '{scores}'").fetchone()
    if as_of_date != day:
        raise SystemExit(f"{scores}: scores as of {as_of_date}; expected {day}, the day after the last order")
    with duckdb.connect(str(home / "churn_radar.duckdb"), read_only=True) as warehouse:
        dates = warehouse.sql("select as_of_date from int_snapshot_dates where is_training order by 1").fetchall()
    return measured.seconds, [as_of_date for (as_of_date,) in dates]


def main() -> None:
    """Measure, print, keep."""
    parser = suite.arguments_of(__doc__)
    parser.add_argument("--customers", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=365, help="days of history before the new ones")
    parser.add_argument("--new-days", type=int, default=8, help="at least a week, in which the training dates move")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--home", type=Path, help="keep the shop here")
    arguments = parser.parse_args()
    if arguments.new_days < 7:
        parser.error("--new-days: expected at least 7, as the training dates move once a week")
    with tempfile.TemporaryDirectory(prefix="churn-radar-daily-") as folder:
        home = (arguments.home or Path(folder)).resolve()
        settings = SimulationSettings(arguments.customers, arguments.days + arguments.new_days, arguments.seed)
        everything = home / "everything"
        simulate(settings, everything, home / "truth")
        (last,) = duckdb.sql(f"select max(ordered_at)::date from '{everything}/orders.parquet'").fetchone()
        days = [last + timedelta(days=1 - n) for n in range(arguments.new_days, -1, -1)]

        def arrive(day: date) -> str:
            truncate_raw(everything, home / "raw", day)
            return day.isoformat()

        full, dates = build(home, arrive(days[0]))
        daily, moved = [], []
        for day in days[1:]:
            before = dates
            seconds, dates = build(home, arrive(day))
            (daily if dates == before else moved).append(seconds)
        anew, _ = build(home, days[-1].isoformat(), "--full-refresh")
    middle, moving = statistics.median(daily), statistics.median(moved)
    figures = [
        suite.Figure("one more day, median", middle, full, "s", middle / full, "at most 0.05"),
        suite.Figure("  the longest", max(daily), full, "s", max(daily) / full),
        suite.Figure("a day that moves the training dates", moving, full, "s", moving / full, "at most 0.15"),
        suite.Figure("every table anew, the model as it is", anew, full, "s", anew / full),
    ]
    title = f"One more day: {arguments.customers:,} customers, {arguments.days} days of history"
    suite.report("daily", title, "everything from nothing", figures, len(daily), arguments.forget)


if __name__ == "__main__":
    main()
