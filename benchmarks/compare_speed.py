"""Whether two commits are equally fast: each benchmark by both, in turns, as ratios.

    python benchmarks/compare_speed.py --before FOLDER --folder /tmp/speed

``--before`` is a checkout of the earlier commit with a virtual environment of its own (as ``compare_commits.py`` makes
one). Every round runs each benchmark once in each checkout, the order of the two reversed each time. A ratio is the
median over the rounds of the working tree's figure divided by the earlier commit's in the same round.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

from rich.table import Table

from inference.home import PROJECT_DIR
from inference.reporting import tables

#: Benchmark and its arguments: small enough for several rounds. ``{home}`` keeps a shop between the rounds.
BENCHMARKS = {
    "encoding": "encoding.py --texts 600 --runs 1 --forget",
    "scoring": "scoring.py --customers 700 --runs 3 --forget --home {home}",
    "lookups": "serving.py --customers 2000 --requests 1000 --seconds 4",
    "re-scoring": "rescoring.py --home {home} --requests 500",
    "one more day": "daily.py --customers 700 --days 365 --new-days 4 --forget",
}
NUMBER = re.compile(r"-?[\d,]*\.?\d+(?:e-?\d+)?")


def figures(output: str) -> dict[str, list[float]]:
    """Return the numbers of each row of the printed tables, by table and row."""
    rows: dict[str, list[float]] = {}
    for line in output.splitlines():
        cells = [cell.strip() for cell in re.split("[│┃|]", line)[1:-1]]
        if len(cells) > 1 and cells[0] and (numbers := [NUMBER.match(cell) for cell in cells[1:]]):
            values = [float(number[0].replace(",", "")) for number in numbers if number]
            if values:
                rows[f"{len(rows) + 1} {cells[0]}"] = values
    return rows


def run(checkout: Path, script: str, home: Path) -> dict[str, list[float]]:
    """Run a benchmark in a checkout."""
    name, *arguments = script.format(home=home).split()
    env = os.environ | {"PYTHONPATH": str(checkout), "COLUMNS": "140", "CHURN_SALT": "0" * 64}
    command = [checkout / ".venv/bin/python", checkout / "benchmarks" / name, *arguments]
    done = subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name} failed in {checkout}:\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}")
    return figures(done.stdout)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, required=True, help="a checkout of the earlier commit, installed")
    parser.add_argument("--folder", type=Path, required=True, help="where shops are kept between the rounds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=BENCHMARKS, action="append")
    arguments = parser.parse_args()
    checkouts = {"before": arguments.before.resolve(), "after": PROJECT_DIR}
    for benchmark in arguments.only or BENCHMARKS:
        taken: dict[str, list[dict[str, list[float]]]] = {name: [] for name in checkouts}
        for number in range(arguments.rounds):
            for name in sorted(checkouts, reverse=bool(number % 2)):
                # re-scoring takes the shop that scoring has built
                kept = "scoring" if benchmark == "re-scoring" else benchmark
                home = (arguments.folder / kept / name).resolve()
                taken[name].append(run(checkouts[name], BENCHMARKS[benchmark], home))
        table = Table(title=f"{benchmark}: {BENCHMARKS[benchmark]}, {arguments.rounds} rounds")
        for heading in ("row", "before", "after", "after / before, median"):
            table.add_column(heading)
        for label in [row for row in taken["after"][0] if all(row in rows for runs in taken.values() for rows in runs)]:
            pairs = [(b[label], a[label]) for b, a in zip(taken["before"], taken["after"], strict=True)]
            columns = zip(*(zip(b, a, strict=False) for b, a in pairs), strict=False)
            ratios = [statistics.median(a / b if b else float("nan") for b, a in column) for column in columns]
            middle = [
                " ".join(f"{statistics.median(v):.4g}" for v in zip(*side, strict=False))
                for side in zip(*pairs, strict=True)
            ]
            table.add_row(label, *middle, " ".join(f"{ratio:.3f}" for ratio in ratios))
        tables.console().print(table)


if __name__ == "__main__":
    main()
