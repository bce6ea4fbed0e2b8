"""How far AUROC falls from validation to the next, later test, over a year of rolling cut-offs.

    python benchmarks/forward.py --home .churn/simulated --cut-offs 13

A shop that ``dbt build`` has built, with or without texts. At each cut-off, four weeks apart, the tabular members,
words included where there are any, learn from the rows whose label windows had closed and predict the snapshot;
what the cut-off before it had shown is the validation that the forward test is compared with. Over a year the
seasons, in which customers are easier or harder to tell apart, cancel out.
"""

import argparse
import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from rich.table import Table

from inference.evaluation.metrics import auroc_interval
from inference.model.words import embedding_matrix, enough_words
from inference.reporting import tables
from inference.reporting.report import champion_labels
from inference.training.rows import training_data, training_rows
from inference.training.settings import TrainingSettings
from inference.training.train import choose_members
from inference.training.validation import rolling_validation
from inference.warehouse import dbt


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", type=Path, required=True, help="CHURN_HOME of a shop that was built")
    parser.add_argument("--cut-offs", type=int, default=13)
    arguments = parser.parse_args()
    os.environ |= dbt.environment(arguments.home.resolve())
    rows = training_rows(champion_labels()).sort_values(["as_of_date", "customer_id"], ignore_index=True)
    rows = rows.assign(as_of_date=rows.as_of_date.astype("datetime64[ns]"))
    data, embeddings = training_data(rows), embedding_matrix(rows)
    settings = TrainingSettings(validation_snapshots=arguments.cut_offs)
    data = replace(data, embeddings=embeddings if enough_words(embeddings, data.y) else None)
    validation = rolling_validation(data, int(rows.horizon_days.iloc[0]), settings)
    names, _ = choose_members(validation)
    validation = validation.dropna(subset=names)
    aurocs = {
        date: auroc_interval(part.churned.to_numpy(dtype=int), part[names].mean(axis=1).to_numpy())[0]
        for date, part in validation.groupby("as_of_date")
    }
    table = Table(title=f"{len(aurocs)} rolling cut-offs; the average of {', '.join(names)}")
    for heading in ("cut-off", "validation", "forward test", "drop"):
        table.add_column(heading, justify="left" if heading == "cut-off" else "right")
    drops = []
    for (_, before), (date, now) in pairwise(aurocs.items()):
        drops.append(before - now)
        table.add_row(str(date.date()), f"{before:.4f}", f"{now:.4f}", f"{before - now:+.4f}")
    table.add_row("mean", "", "", f"{np.mean(drops):+.4f}")
    tables.console().print(table)


if __name__ == "__main__":
    main()
