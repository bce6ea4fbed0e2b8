"""How long fine-tuning the transformer takes, in its default mode, on rows of customers who wrote.

    python benchmarks/fine_tuning.py
    python benchmarks/fine_tuning.py --rows 2000 --mode lora

A shop is simulated and built by dbt up to its features and labels. The transformer then learns from rows with
words as ``churn-radar train`` has it learn, by the default settings: from events, then from words as the encoder
reads them as it comes, of which one pass is timed, then all passes with an encoder that learns as well. Nobody looks
at later rows in between. A progress bar shows on a terminal; the loss curve is printed below the table.
"""

import argparse
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import torch
from rich.table import Table

from inference.feature_store.client import apply
from inference.model.members import BoostingMember, LogisticMember
from inference.model.sequences import read_sequences
from inference.model.transformer.batches import Tokens
from inference.model.transformer.checkpoints import History, forget_checkpoints
from inference.model.transformer.member import TransformerMember, device
from inference.model.transformer.settings import TransformerSettings
from inference.reporting import tables
from inference.simulation.shop import SimulationSettings, simulate
from inference.text.encoder.encoder import Encoder
from inference.training.rows import training_data, training_rows
from inference.training.validation import cross_fitted_logit
from inference.warehouse import dbt

#: A simulated shop with just over 10,000 labelled rows of customers who wrote.
SHOP = SimulationSettings(customers=2500, days=540, seed=1)


@dataclass(frozen=True)
class Measured:
    """What was read, and the two trainings that are compared.

    Parameters
    ----------
    rows, texts : int
        Rows learned from and different texts that their customers wrote.
    texts_read, tokens_read : int
        Texts and tokens within the budget of each row, all in all: what an encoder that learns reads in a pass.
    frozen, fine_tuned : History
        Curves and seconds.
    settings : TransformerSettings
        How it was trained.
    """

    rows: int
    texts: int
    texts_read: int
    tokens_read: int
    frozen: History
    fine_tuned: History
    settings: TransformerSettings


def rows_with_words(home: Path, n_rows: int) -> pd.DataFrame:
    """Simulate where there is no shop yet, build it, and draw labelled rows of customers who wrote."""
    os.environ |= dbt.environment(home)
    if not (home / "raw" / "orders.parquet").exists():
        simulate(SHOP, home / "raw", home / "truth")
    dbt.run("seed", quiet=True)
    dbt.run("run", "--exclude", "churn_model+", quiet=True)
    apply()
    with duckdb.connect(home / "churn_radar.duckdb", read_only=True) as connection:
        labels = connection.sql("select * from churn_labels").df()
    rows = training_rows(labels)
    wrote = rows[[texts is not None and np.ndim(texts) == 1 and len(texts) > 0 for texts in rows.texts]]
    print(f"{len(rows):,} labelled rows, {len(wrote):,} of them of customers who wrote")
    return wrote.sample(min(n_rows, len(wrote)), random_state=0).sort_values(["as_of_date", "customer_id"])


def measure(rows: pd.DataFrame, settings: TransformerSettings) -> Measured:
    """Train on all rows, one variant on from the other."""
    data, sequences = training_data(rows), read_sequences(rows)
    tabular = cross_fitted_logit(data, [LogisticMember.name, BoostingMember.name])
    data = replace(data, sequences=sequences, tabular_logit=tabular)
    encoder = Encoder()

    def train(title: str, n_epochs: float, **how: object) -> TransformerMember:
        return TransformerMember(settings).fit(data, n_epochs=n_epochs, title=title, **how)

    forget_checkpoints()  # a run that was stopped would be resumed, and its seconds counted
    events = train("Events", 1)
    frozen = train("Frozen words", 1, encoder=encoder, start=events)
    fine_tuned = train("Fine-tuning", settings.max_epochs_fine_tuning, encoder=encoder, start=frozen, fine_tuned=True)
    tokens = Tokens(sequences.words, encoder.tokenizer, settings)
    within = tokens.within_budget(sequences.texts)
    read = within[within >= 0]
    return Measured(
        rows=len(rows),
        texts=len(sequences.words),
        texts_read=len(read),
        tokens_read=int(tokens.lengths[read].sum()),
        frozen=frozen.history_,
        fine_tuned=fine_tuned.history_,
        settings=settings,
    )


def results_table(measured: Measured) -> Table:
    """Cost and losses of both, side by side."""
    settings, threads = measured.settings, torch.get_num_threads()
    table = Table(
        title=f"Fine-tuning on {measured.rows:,} rows with words, mode {settings.fine_tuning}, "
        f"on {device()} with {threads} threads"
    )
    table.add_column("")
    table.add_column("frozen encoder", justify="right")
    table.add_column("fine-tuned", justify="right")
    both = (measured.frozen, measured.fine_tuned)
    passes = (1, settings.max_epochs_fine_tuning)
    seconds = [history.seconds / n for history, n in zip(both, passes, strict=True)]
    table.add_row("rows", *[f"{measured.rows:,}"] * 2)
    table.add_row("different texts", *[f"{measured.texts:,}"] * 2)
    table.add_row("texts read a pass", "none: vectors are kept", f"{measured.texts_read:,}")
    table.add_row("tokens read a pass", "", f"{measured.tokens_read:,}")
    table.add_row("passes", *map(str, passes))
    table.add_row("steps", *(f"{history.steps[-1]['step']:,}" for history in both))
    table.add_row("seconds", *(f"{history.seconds:,.1f}" for history in both))
    table.add_row("seconds a pass", *(f"{s:,.1f}" for s in seconds))
    table.add_row("  against one of the frozen encoder", "1", f"{seconds[1] / seconds[0]:,.0f}")
    table.add_row("loss at the beginning", *(f"{history.steps[0]['loss']:.4f}" for history in both))
    table.add_row("loss at the end", *(f"{history.steps[-1]['loss']:.4f}" for history in both))
    table.caption = "Losses of training; each the mean of some steps."
    return table


def curve_table(history: History) -> Table:
    """The loss curve, one line for each fifth of a pass."""
    table = Table(title="Loss while fine-tuning")
    for heading in ("passes", "loss", ""):
        table.add_column(heading, justify="left" if heading == "" else "right")
    points = pd.DataFrame(history.steps)
    fifths = points.groupby((points.epoch * 5).round().clip(lower=1)).loss.mean()
    lowest, highest = fifths.min(), fifths.max()
    for fifth, loss in fifths.items():
        length = 1 + round(39 * (loss - lowest) / max(highest - lowest, 1e-9))
        table.add_row(f"{fifth / 5:.1f}", f"{loss:.4f}", "█" * length)
    return table


def main() -> None:
    """Read the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--mode", choices=["top", "lora", "full"], default=TransformerSettings().fine_tuning)
    parser.add_argument("--home", type=Path, help="folder of the shop, kept; raw tables that are there are used")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="churn-radar-fine-tuning-") as folder:
        rows = rows_with_words((arguments.home or Path(folder)).resolve(), arguments.rows)
        settings = replace(TransformerSettings(), fine_tuning=arguments.mode, max_rows_with_words=arguments.rows)
        measured = measure(rows, settings)
    console = tables.console()
    console.print(results_table(measured))
    console.print(curve_table(measured.fine_tuned))


if __name__ == "__main__":
    main()
