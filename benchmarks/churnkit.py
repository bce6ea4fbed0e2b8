"""Churn Radar against the PyPI package churnkit: time, memory and AUROC on real purchases.

    python benchmarks/churnkit.py
    python benchmarks/churnkit.py --runs 3 --without-transformer

Both get the raw tables of The Complete Journey, cut off before 2017-12-01, and score the customers who had ordered in
the 90 days before. Truth is who did not order in the 30 days from then on. Seconds are of the whole command, from raw
tables to written scores, training included; CPU seconds depend less on what else the machine does. Memory is the most
that its processes held at once, the sum of their resident sets, looked at every tenth of a second.

Churn Radar is ``dbt build`` without unit tests, as it comes: with features, data tests, training, scores, reasons,
actions, recommendations and monitoring; once with the transformer, its default, and once without.

churnkit is a library and notebooks for a data scientist, who edits cells and in the end generates a pipeline. Its
notebook of events (01d) takes one label per customer and counts back from the newest event, and its local scoring (11)
is of customers whose label was hidden, not of a later date. So ``churnkit_pipeline.py`` makes the library calls of
those notebooks, at each date with the rows before it. It was given

* the same training dates as Churn Radar, four weeks apart (it suggests weekly ones), labels by the same definition;
* orders, order items (with customer and time of their order) and campaign contacts as tables of events, and customers
  as a table of attributes; the columns of money and quantity as values;
* the windows that it recommends for each table (01a), its aggregations, recency, tenure, lifecycle and lagged features
  (01d), its transformations (04, 08), its selection (05), its three models and its choice between them (08).

Where it had a choice, it got what serves it: lagged features count back from the as-of date, where its default is each
customer's last event, which hides recency; missing values are filled with medians when scoring, as in training, where
its loader fills zeros. Counts of orders with a coupon, which it makes when asked, made its model no better on the
customers that it holds out, so it was not asked. Left out is what changes no score or costs it: charts, MLflow,
cross-validation that nothing is chosen by, selectors for more than 500 features, and the drop of every pair of related
columns (05 "consider dropping one"). Not tried are caps of outliers (02), ratios of windows by cohort (01c) and
products of columns (05, 06). Its split keeps a fifth of the customers and all rows within 44 days of the newest fifth
from training (a gap that it suggests for this horizon). So there is a second line: the model that it chose, fitted once
more to all labelled rows, which its pipelines can be set to do (``production_full_panel_fit``).

churnkit and what it needs, about 2 GB, are installed once to a cache folder; see ``environment``.
"""

import json
import os
import runpy
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import suite
from sklearn.metrics import roc_auc_score

from inference.evaluation.metrics import auroc_interval
from inference.home import PROJECT_DIR
from inference.reporting.backtest import spend_in_horizon, truncate_raw
from inference.warehouse import dbt

PACKAGE = "churnkit[ml]==1.3.4a5"
AS_OF, HORIZON_DAYS = date(2017, 12, 1), 30
TITLES = {
    "churnkit": "churnkit 1.3.4a5",
    "churnkit_full_panel": "churnkit, fitted to all rows",
    "churn_radar_without_transformer": "Churn Radar, without transformer",
    "churn_radar": "Churn Radar",
}


def environment() -> Path:
    """Make churnkit's virtual environment where there is none, and return its Python.

    It lies in ``$XDG_CACHE_HOME``, or else in the folder for temporary files, and shares the project's constraints, so
    that pandas, scikit-learn and the like are of one version on both sides.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or tempfile.gettempdir()) / "churn-radar-churnkit-1.3.4a5"
    python, done = folder / "bin" / "python", folder / "installed"
    if not done.exists():
        print(f"installing {PACKAGE} to {folder}")
        venv.create(folder, clear=True, with_pip=True)
        constraints = PROJECT_DIR / "constraints.txt"
        subprocess.run([python, "-m", "pip", "install", "-qq", "--constraint", constraints, PACKAGE], check=True)
        done.touch()
    return python


def churnkit(raw: Path, home: Path, python: Path, full_panel: bool) -> dict[str, dict]:
    """Score with churnkit; what was measured, and ``scores``, by name."""
    scores = home / "scores.parquet"
    script = Path(__file__).with_name("churnkit_pipeline.py")
    command = [python, script, raw, AS_OF.isoformat(), scores, *(["--full-panel"] if full_panel else [])]
    measured = suite.measure(command, {"PYTHONHASHSEED": "0"}, home / "churnkit.log")
    name = "churnkit_full_panel" if full_panel else "churnkit"
    return {name: asdict(measured) | {"scores": pd.read_parquet(scores).set_index("customer_id").score}}


def churn_radar(raw: Path, home: Path, transformer: bool) -> dict[str, dict]:
    """Score with Churn Radar; what was measured, and ``scores``, by name."""
    variables = {"churn__as_of_date": AS_OF.isoformat(), "churn__transformer": transformer}
    build = [Path(sys.executable).with_name("dbt"), "build", "--exclude-resource-type", "unit_test"]
    env = dbt.environment(home) | {
        "CHURN_RAW_DIR": str(raw),
        "MLFLOW_TRACKING_URI": f"sqlite:///{home / 'mlflow.db'}",
    }
    measured = suite.measure([*build, "--vars", json.dumps(variables)], env, home / "dbt.log")
    scores = pd.read_parquet(home / "published" / "churn_scores.parquet").set_index("customer_id").churn_probability
    name = "churn_radar" if transformer else "churn_radar_without_transformer"
    return {name: asdict(measured) | {"scores": scores}}


def gap(churned: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float, float]:
    """By how much the first AUROC is higher, with the 95 % interval of 1,000 resamples of the customers."""
    draws = np.random.default_rng(0).integers(0, len(churned), (1000, len(churned)))
    gaps = [roc_auc_score(churned[d], ours[d]) - roc_auc_score(churned[d], theirs[d]) for d in draws]
    low, high = np.quantile(gaps, [0.025, 0.975])
    return roc_auc_score(churned, ours) - roc_auc_score(churned, theirs), float(low), float(high)


def compare(contestants: Sequence[Callable[[Path, Path], dict[str, dict]]]) -> dict:
    """Run each contestant once on the same raw tables.

    Returns
    -------
    dict
        ``customers``, ``churn_rate``, and by name ``tools`` with what was measured, ``auroc`` and its 95 % interval,
        ``auroc_low`` and ``auroc_high``; of churnkit ``behind`` as well, how much lower its AUROC is than the last
        contestant's, ``behind_low`` and ``behind_high``.
    """
    with tempfile.TemporaryDirectory(prefix="churn-radar-churnkit-") as folder:
        everything, raw = Path(folder) / "everything", Path(folder) / "raw"
        runpy.run_path(str(PROJECT_DIR / "examples" / "complete_journey.py"))["write"](everything)
        truncate_raw(everything, raw, AS_OF)
        buyers = spend_in_horizon(everything / "orders.parquet", AS_OF, HORIZON_DAYS).index
        tools = {}
        for number, contestant in enumerate(contestants):
            home = Path(folder) / str(number)
            home.mkdir()
            tools |= contestant(raw, home)
    customers = next(iter(tools.values()))["scores"].index.sort_values()
    churned = (~customers.isin(buyers)).astype(int)
    scores = {name: tool.pop("scores").sort_index() for name, tool in tools.items()}
    ours = list(scores.values())[-1].to_numpy()
    for name, tool in tools.items():
        if not scores[name].index.equals(customers):
            raise SystemExit(f"{name} scored {len(scores[name])} customers, not the same {len(customers)} as the first")
        theirs = scores[name].to_numpy()
        tool |= dict(zip(("auroc", "auroc_low", "auroc_high"), auroc_interval(churned, theirs), strict=True))
        if name.startswith("churnkit"):
            tool |= dict(zip(("behind", "behind_low", "behind_high"), gap(churned, ours, theirs), strict=True))
    return {"customers": len(customers), "churn_rate": float(churned.mean()), "tools": tools}


def medians(runs: Sequence[dict]) -> dict:
    """Take the median of every figure of the tools."""
    tools = {
        name: {figure: statistics.median(run["tools"][name][figure] for run in runs) for figure in figures}
        for name, figures in runs[0]["tools"].items()
    }
    return runs[0] | {"runs": len(runs), "tools": tools}


def figures_of(compared: dict) -> list[suite.Figure]:
    """Churn Radar without and with its transformer, each against both of churnkit's models."""
    tools, figures = compared["tools"], []
    for mine in [name for name in TITLES if name.startswith("churn_radar") and name in tools]:
        for theirs in ("churnkit", "churnkit_full_panel"):
            ours, peer = tools[mine], tools[theirs]
            figures.append(suite.Figure(f"{TITLES[mine]} / {TITLES[theirs]}", ours["auroc"], peer["auroc"], "AUROC",
                                        ours["auroc"] / peer["auroc"]))  # fmt: skip
            for measured, unit in (("seconds", "s"), ("cpu_seconds", "CPU s"), ("peak_mb", "MB")):
                ratio = ours[measured] / peer[measured]
                figures.append(suite.Figure(f"  {measured}", ours[measured], peer[measured], unit, ratio))
    for name in ("churnkit", "churnkit_full_panel"):
        low, high = tools[name]["behind_low"], tools[name]["behind_high"]
        what = f"AUROC of the last less that of {TITLES[name]}, 95 % from {low:+.4f} to {high:+.4f}"
        figures.append(suite.Figure(what, tools[name]["behind"], 0.0, "", tools[name]["behind"]))
    return figures


def main() -> None:
    """Measure, print, keep."""
    parser = suite.arguments_of(__doc__)
    parser.add_argument("--runs", type=int, default=1, help="medians of so many runs")
    parser.add_argument("--without-transformer", action="store_true", help="leave Churn Radar's default out: faster")
    arguments = parser.parse_args()
    python = environment()
    contestants = [
        lambda raw, home: churnkit(raw, home, python, full_panel=False),
        lambda raw, home: churnkit(raw, home, python, full_panel=True),
        lambda raw, home: churn_radar(raw, home, transformer=False),
    ]
    if not arguments.without_transformer:
        contestants.append(lambda raw, home: churn_radar(raw, home, transformer=True))
    compared = medians([compare(contestants) for _ in range(arguments.runs)])
    customers, rate = compared["customers"], compared["churn_rate"]
    title = f"The Complete Journey, {customers:,} customers as of {AS_OF}, {rate:.1%} churned: to scores"
    suite.report("churnkit", title, "churnkit", figures_of(compared), arguments.runs, arguments.forget)


if __name__ == "__main__":
    main()
