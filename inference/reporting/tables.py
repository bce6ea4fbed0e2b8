"""Tables for people, at most 100 columns wide."""

from collections.abc import Sequence
from itertools import zip_longest

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from inference.reporting.backtest import Backtest
from inference.scoring.explain import Explanation

#: Figures of an evaluation: name, label, format.
FIGURES = (
    ("auroc", "AUROC", "{:.4f}"),
    ("auroc_low", "  95 % interval, from", "{:.4f}"),
    ("auroc_high", "  to", "{:.4f}"),
    ("pr_auc", "PR-AUC", "{:.4f}"),
    ("log_loss", "log-loss", "{:.4f}"),
    ("brier", "Brier", "{:.4f}"),
    ("ece", "ECE, 10 bins", "{:.4f}"),
    ("churn_rate", "real churn rate", "{:.4f}"),
    ("mean_probability", "mean predicted", "{:.4f}"),
    ("level_error", "error of the level", "{:+.4f}"),
    ("threshold", "threshold", "{:.4f}"),
    ("f1", "F1 at the threshold", "{:.4f}"),
    ("recall", "recall at the threshold", "{:.4f}"),
    ("top_decile_lift", "top-decile lift", "{:.2f}"),
)


#: What an explanation computes again.
COMPUTED = (
    "churn_probability",
    "transformer_probability",
    "boosting_probability",
    "logistic_probability",
    "expected_spend",
    "level_shift",
)


def console() -> Console:
    """Terminal output; 100 columns where the terminal does not say."""
    terminal = Console()
    return terminal if terminal.is_terminal and terminal.width <= 100 else Console(width=100)


def backtest_table(results: Sequence[Backtest]) -> Table:
    """Show figures of the model beside recency alone: one cut-off, or the mean of several."""
    dates = [r.as_of_date.isoformat() for r in results]
    title = (
        f"Backtest at {dates[0]}" if len(dates) == 1 else f"Mean of {len(dates)} backtests, {dates[0]} to {dates[-1]}"
    )
    table = Table(title=title)
    table.add_column("")
    table.add_column("Churn Radar", justify="right")
    table.add_column("recency alone", justify="right")
    customers = sum(r.model.n_customers for r in results) / len(results)
    table.add_row("customers", f"{customers:,.0f}", f"{customers:,.0f}")
    for name, label, pattern in FIGURES:
        means = [
            sum(getattr(evaluation, name) for evaluation in column) / len(results)
            for column in ([r.model for r in results], [r.recency for r in results])
        ]
        table.add_row(label, *(pattern.format(mean) for mean in means))
    pairs = [(r.spend_error, r.naive_spend_error) for r in results]
    spend = [sum(column) / len(results) for column in zip(*pairs, strict=True)]
    table.add_row("absolute error of spend", f"{spend[0]:,.2f}", f"{spend[1]:,.2f} (last 90 days)")
    drops = [r.forward_drop for r in results if r.forward_drop is not None]
    if drops:
        table.add_row("AUROC below validation's by", f"{sum(drops) / len(drops):+.4f}")
    if len(results) > 1:
        absolute = [
            sum(abs(evaluation.level_error) for evaluation in column) / len(results)
            for column in ([r.model for r in results], [r.recency for r in results])
        ]
        table.add_row("absolute error of the level", *(f"{mean:.4f}" for mean in absolute))
    return table


def rolling_table(results: Sequence[Backtest]) -> Table:
    """One line per cut-off."""
    table = Table(title="Rolling backtest")
    for heading in (
        "as of",
        "n",
        "churned",
        "predicted",
        "AUROC",
        "promised",
        "recency",
        "ECE",
        "log-loss",
        "lift",
    ):
        table.add_column(heading, justify="left" if heading == "as of" else "right")
    for r in results:
        m = r.model
        table.add_row(
            r.as_of_date.isoformat(),
            f"{m.n_customers:,}",
            f"{m.churn_rate:.4f}",
            f"{m.mean_probability:.4f}",
            f"{m.auroc:.4f}",
            "" if r.promised_auroc is None else f"{r.promised_auroc:.4f}",
            f"{r.recency.auroc:.4f}",
            f"{m.ece:.4f}",
            f"{m.log_loss:.4f}",
            f"{m.top_decile_lift:.2f}",
        )
    return table


def scores_table(scores: pd.DataFrame, title: str) -> Table:
    """Show customers with risk, value and reasons."""
    table = Table(title=title, show_lines=False)
    table.add_column("customer", no_wrap=True)
    table.add_column("churn", justify="right")
    table.add_column("band", no_wrap=True)
    table.add_column("at risk", justify="right")
    table.add_column("why")
    for row in scores.itertuples():
        told = [reason for reason in (row.reason_1, row.reason_2, row.reason_3) if isinstance(reason, str)]
        table.add_row(
            row.customer_id,
            f"{row.churn_probability:.0%}",
            row.risk_band,
            f"{row.value_at_risk:,.2f}",
            "; ".join(told),
        )
    return table


def similar_table(found: pd.DataFrame, title: str) -> Table:
    """Show texts that were found, the most similar first."""
    table = Table(title=Text(title))  # what users write may look like mark-up
    table.add_column("cosine", justify="right")
    table.add_column("kind", no_wrap=True)
    table.add_column("date", no_wrap=True)
    table.add_column("customer", no_wrap=True)
    table.add_column("what they wrote")
    for row in found.itertuples():
        table.add_row(
            f"{row.similarity:.2f}", row.kind, f"{row.written_at:%Y-%m-%d}", Text(row.customer_id), Text(row.quote)
        )
    return table


def model_table(version: pd.Series) -> Table:
    """Show the champion and what was promised of it."""
    table = Table(title=f"Champion: version {version.model_version}", show_header=False)
    error = version.level_error
    rows = {
        "members": version.members.replace("+", " + "),
        "what words add": _words(version),
        "what the transformer adds": _transformer(version),
        "learned from": f"{version.training_rows:,} rows of {version.training_customers:,} customers, "
        f"{version.first_snapshot:%Y-%m-%d} to {version.last_snapshot:%Y-%m-%d}",
        "AUROC on later snapshots": _figure(version.validation_auroc),
        "log-loss on later snapshots": _figure(version.validation_log_loss),
        "ECE on later snapshots": _figure(version.validation_ece),
        "level set by": f"{version.level_anchor}; its error over past snapshots: {_figure(error)}",
        "why champion": version.reason,
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def report_table(report: dict) -> Table:
    """Show members, baselines and ablations on the same later snapshots."""
    snapshots = report["model"]["snapshots"]
    table = Table(title=f"{report['model']['customers']:,} predictions at {len(snapshots)} later snapshots")
    for heading in ("", "AUROC", "95 %", "EMPC", "lift", "PR-AUC", "log-loss", "Brier", "ECE"):
        table.add_column(heading, justify="left" if heading == "" else "right", no_wrap=heading != "")
    for part in ("members", "baselines", "ablations"):
        for s in report[part]:
            table.add_row(
                s["name"],
                f"{s['auroc']:.4f}",
                f"{s['auroc_low']:.3f}-{s['auroc_high']:.3f}",
                f"{s['empc']:.3f}",
                f"{s['top_decile_lift']:.2f}",
                f"{s['pr_auc']:.4f}",
                f"{s['log_loss']:.4f}",
                f"{s['brier']:.4f}",
                f"{s['ece']:.4f}",
            )
        table.add_section()
    return table


def record_table(record: dict, title: str) -> Table:
    """Show one row of a table as names and values."""
    table = Table(title=title, show_header=False)
    for name, value in record.items():
        table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    return table


def explanation_tables(told: Explanation) -> list[Table]:
    """Show a stored score beside the same computed again, its lineage, and the features."""
    stored, again = told.stored, told.recomputed
    scores = Table(
        title=f"Customer {stored.customer_id} as of {stored.as_of_date:%Y-%m-%d}, version {stored.model_version}"
    )
    for heading in ("", "stored", "computed again", "difference"):
        scores.add_column(heading, justify="left" if heading == "" else "right")
    for name in COMPUTED:
        if pd.notna(stored[name]):
            difference = abs(stored[name] - again[name])
            scores.add_row(name, f"{stored[name]:.6f}", f"{again[name]:.6f}", f"{difference:.1e}")
    lineage = Table(title="Reasons and lineage", show_header=False)
    for name in ("reason_1", "reason_2", "reason_3"):
        same = (stored[name] or None) == (again[name] or None)
        lineage.add_row(name, stored[name] if same else f"{stored[name]}; computed again: {again[name]}")
    lineage.add_row("scored at", f"{stored.scored_at:%Y-%m-%d %H:%M:%S} UTC")
    for name, was, now in (
        ("features", stored.features_hash, again.features_hash),
        ("dbt project", stored.manifest_hash, told.manifest_hash),
    ):
        lineage.add_row(name, f"{was}: {'the same now' if was == now else f'now {now}'}")
    features = Table(title=f"{len(told.features)} features that are known")
    for heading in ("feature", "value") * 2:
        features.add_column(heading, justify="right" if heading == "value" else "left")
    cells = [
        (name, f"{value:,.4g}" if isinstance(value, float) else str(value)) for name, value in told.features.items()
    ]
    half = (len(cells) + 1) // 2
    for left, right in zip_longest(cells[:half], cells[half:], fillvalue=("", "")):
        features.add_row(*left, *right)
    return [scores, lineage, features]


def _words(version: pd.Series) -> str:
    if pd.isna(version.words_gain):
        return "nothing: too few texts to learn from"
    gain = f"log-loss {-version.words_gain:+.4f} on later snapshots"
    return gain if version.reads_words else f"nothing that matters ({gain}): left out"


def _transformer(version: pd.Series) -> str:
    if pd.isna(version.transformer_gain):
        return "not tried: too few customers or snapshots"
    gain = f"log-loss {-version.transformer_gain:+.4f} on later snapshots"
    return gain if "transformer" in version.members else f"nothing beyond chance ({gain}): left out"


def _figure(value: float | None) -> str:
    return "not measured: too few snapshots" if pd.isna(value) else f"{value:.4f}"
