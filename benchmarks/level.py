"""How far the level of the scores is off at rolling cut-offs of a simulated shop with a season.

    python benchmarks/level.py --season strong --seed 31
    python benchmarks/level.py --season none --customers 6000

A shop is simulated and built by dbt up to its features and labels (its texts are left out: the level does
not depend on them). Then, at each of the last cut-offs, four weeks apart, everything is decided from what was
known at it: members, anchor and level by the functions that ``churn-radar train`` and scoring call. Each
fold of the rolling validation is trained on the rows whose label windows had closed at its snapshot, so the fold
of a cut-off is what a model trained at that cut-off predicts, and the folds before it are its validation; every
fold is trained once. Features and labels come from one build; a feature at a date uses only rows before it.
"""

import argparse
import os
import tempfile
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
from rich.table import Table
from scipy.special import expit
from sklearn.metrics import log_loss

from inference.feature_store.client import apply, historical_features
from inference.model.level import anchored_shift, level_history, level_shift
from inference.reporting import tables
from inference.simulation.shop import SimulationSettings, simulate
from inference.training.rows import training_data
from inference.training.settings import TrainingSettings
from inference.training.train import choose_level, choose_members
from inference.training.validation import rolling_validation
from inference.warehouse import dbt


def build_shop(home: Path, settings: SimulationSettings | None) -> pd.DataFrame:
    """Simulate where there is no shop yet, build features and labels, read them as training does.

    Returns
    -------
    DataFrame
        One row per customer and snapshot, sorted; ``churned`` is null where the window is open.
    """
    os.environ |= dbt.environment(home)
    if not (home / "raw" / "orders.parquet").exists():
        simulate(settings, home / "raw", home / "truth")
        for name in ("reviews", "support_tickets"):
            (home / "raw" / f"{name}.parquet").unlink()
    dbt.run("seed", quiet=True)
    dbt.run("run", "--exclude", "churn_model+", quiet=True)
    apply()
    with duckdb.connect(home / "churn_radar.duckdb", read_only=True) as connection:
        labels = connection.sql("select * from churn_labels").df()
    rows = historical_features(labels).assign(as_of_date=lambda r: pd.to_datetime(r.as_of_date))
    return rows.sort_values(["as_of_date", "customer_id"], ignore_index=True)


def roll(rows: pd.DataFrame, horizon_days: int, cut_offs: int) -> pd.DataFrame:
    """Set the level at each of the last labelled snapshots from what was known at it.

    Returns
    -------
    DataFrame
        Indexed by cut-off: ``customers``, ``churn_rate``, ``predicted`` level, its ``error``, ``log_loss``,
        ``true_level_log_loss`` of the same ranking, ``anchor``.
    """
    labelled = rows[rows.churned.notna()].reset_index(drop=True)
    every_fold = TrainingSettings(validation_snapshots=labelled.as_of_date.nunique())
    folds = rolling_validation(training_data(labelled), horizon_days, every_fold)
    horizon = pd.Timedelta(days=horizon_days)
    results = {}
    for cut_off in sorted(folds.as_of_date.unique())[-cut_offs:]:
        known = rows[rows.as_of_date <= cut_off]
        known = known.assign(churned=known.churned.where(known.as_of_date + horizon <= cut_off))
        past = folds[folds.as_of_date + horizon <= cut_off]
        newest = sorted(past.as_of_date.unique())[-TrainingSettings().validation_snapshots :]
        validation = past[past.as_of_date.isin(newest)].dropna(axis="columns", how="all")
        names, _ = choose_members(validation)
        _, anchor, _ = choose_level(validation, names, known, horizon_days, cut_off)
        now = folds[folds.as_of_date == cut_off]
        logit, churned = now[names].mean(axis=1).to_numpy(), now.churned.to_numpy(dtype=int)
        shift = anchored_shift(anchor, cut_off, level_history(known, horizon_days), logit, now.no_order_probability)
        probability, rate = expit(logit + shift), churned.mean()
        results[cut_off] = {
            "customers": len(now),
            "churn_rate": rate,
            "predicted": probability.mean(),
            "error": probability.mean() - rate,
            "log_loss": log_loss(churned, probability),
            "true_level_log_loss": log_loss(churned, expit(logit + level_shift(logit, rate))),
            "anchor": anchor,
        }
    return pd.DataFrame.from_dict(results, orient="index")


def results_table(results: pd.DataFrame, title: str) -> Table:
    """One line per cut-off, and the means."""
    table = Table(title=title)
    headings = ("as of", "rows", "churned", "predicted", "error", "log-loss", "at true level", "more", "anchor")
    for heading in headings:
        words = heading in ("as of", "anchor")
        table.add_column(heading, justify="left" if words else "right", no_wrap=words)
    more = results.log_loss - results.true_level_log_loss
    for cut_off, row in results.iterrows():
        table.add_row(
            f"{cut_off:%Y-%m-%d}",
            f"{row.customers:,}",
            *(f"{v:.4f}" for v in (row.churn_rate, row.predicted)),
            f"{row.error:+.4f}",
            *(f"{v:.4f}" for v in (row.log_loss, row.true_level_log_loss, more[cut_off])),
            row.anchor,
        )
    means = results.drop(columns="anchor").astype(float).mean()
    table.add_section()
    table.add_row(
        "mean",
        f"{means.customers:,.0f}",
        *(f"{v:.4f}" for v in (means.churn_rate, means.predicted)),
        f"{results.error.abs().mean():.4f}*",
        *(f"{v:.4f}" for v in (means.log_loss, means.true_level_log_loss, more.mean())),
        "",
    )
    low, high = results.churn_rate.min(), results.churn_rate.max()
    table.caption = f"* mean absolute error of the level. The churn rate moves from {low:.3f} to {high:.3f}: " + (
        f"by {(high - low) / np.mean(results.churn_rate):.0%} of its mean"
    )
    return table


def main() -> None:
    """Read the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--customers", type=int, default=12000)
    parser.add_argument("--days", type=int, default=792, help="days of history; 792 are 26 months")
    parser.add_argument("--seed", type=int, default=31)
    parser.add_argument("--season", choices=["none", "mild", "strong"], default="strong")
    parser.add_argument("--cut-offs", type=int, default=12)
    parser.add_argument("--home", type=Path, help="folder of the shop, kept; raw tables that are there are used")
    arguments = parser.parse_args()
    settings = SimulationSettings(arguments.customers, arguments.days, arguments.seed, "en", arguments.season)
    with tempfile.TemporaryDirectory(prefix="churn-radar-level-") as folder:
        rows = build_shop((arguments.home or Path(folder)).resolve(), settings)
    results = roll(rows, int(rows.horizon_days.iloc[0]), arguments.cut_offs)
    where = arguments.home or f"season {arguments.season}, {arguments.customers:,} customers, seed {arguments.seed}"
    tables.console().print(results_table(results, f"The level at rolling cut-offs: {where}"))


if __name__ == "__main__":
    main()
