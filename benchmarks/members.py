"""Whether the transformer makes the average worse on real purchases, and whether any member alone is better.

    python benchmarks/members.py --as-of 2017-12-01

The Complete Journey is cut off at a date and built by dbt. Training then judges the transformer on the newest
rolling cut-offs, the one before them deciding how long it learns, and every average and member is compared with
the score at each of them. It has no texts: what words add is measured by ``words.py``.
"""

import argparse
import os
import tempfile
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from rich.table import Table
from scipy.special import expit

from inference.evaluation.metrics import auroc_interval, expected_calibration_error, paired_gain
from inference.model.members import MEMBERS
from inference.reporting import tables
from inference.reporting.backtest import truncate_raw
from inference.reporting.report import champion_labels
from inference.training.rows import training_rows
from inference.training.settings import TrainingSettings
from inference.training.train import train
from inference.training.validation import losses_at_true_level
from inference.warehouse import dbt


def labels_at(as_of_date: date, home: Path) -> pd.DataFrame:
    """Labels and features that a build of the truncated data gives."""
    source = home / "everything"
    os.environ |= dbt.environment(home)
    if not (home / "features" / "churn_labels.parquet").exists():
        from examples.complete_journey import write

        write(source)
        truncate_raw(source, home / "raw", as_of_date)
        variables = {"churn__as_of_date": as_of_date.isoformat(), "churn__transformer": False}
        dbt.run("build", "--exclude-resource-type=unit_test", variables=variables, quiet=True)
    return champion_labels()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--as-of", type=date.fromisoformat, default=date(2017, 12, 1))
    parser.add_argument("--cut-offs", type=int, default=5)
    parser.add_argument("--home", type=Path, help="keep the shop here; what is there is not built again")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="churn-radar-members-") as folder:
        rows = training_rows(labels_at(arguments.as_of, arguments.home or Path(folder)))
        settings = TrainingSettings(
            validation_snapshots=arguments.cut_offs + 1, transformer_snapshots=arguments.cut_offs
        )
        model = train(rows, int(rows.horizon_days.iloc[0]), settings)
    validation = model.validation.dropna(subset="transformer_events").reset_index(drop=True)
    tabular = [name for name in MEMBERS if name in validation]
    scores = {"Churn Radar": validation[model.names].mean(axis=1)}
    scores["average without transformer"] = validation[tabular].mean(axis=1)
    scores["average with transformer"] = validation[[*tabular, "transformer_events"]].mean(axis=1)
    scores |= {name: validation[name] for name in tabular} | {"transformer": validation.transformer_events}
    ours = next(iter(scores.values()))
    loss = losses_at_true_level(validation.assign(it=ours), ["it"])
    table = Table(title=f"{validation.as_of_date.nunique()} rolling cut-offs, {len(validation):,} predictions")
    for heading in ("", "AUROC", "ECE", "log-loss", "worse by (paired, 95 %)"):
        table.add_column(heading, justify="left" if heading == "" else "right")
    positions = validation.groupby("as_of_date").indices
    for name, logit in scores.items():
        aurocs = [auroc_interval(validation.churned.to_numpy()[p], logit.to_numpy()[p])[0] for p in positions.values()]
        losses = losses_at_true_level(validation.assign(it=logit), ["it"])
        worse = paired_gain(losses - loss, validation.customer_id.to_numpy())
        table.add_row(
            name,
            f"{np.mean(aurocs):.4f}",
            f"{expected_calibration_error(validation.churned.to_numpy(), expit(logit.to_numpy())):.4f}",
            f"{losses.mean():.5f}",
            "" if logit is ours else f"{worse['mean']:+.5f} ({worse['low']:+.5f} to {worse['high']:+.5f})",
        )
    console = tables.console()
    console.print(table)
    console.print(
        f"Churn Radar is the average of {', '.join(model.names)}; worse by: log-loss at the true level, in nats"
    )


if __name__ == "__main__":
    main()
