"""Tables for the terminal, at most 100 columns wide."""

from collections.abc import Sequence
from itertools import zip_longest
from statistics import fmean

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from inference.reporting.backtest import Backtest
from inference.scoring.explain import Explanation

#: Metrics of an evaluation: attribute, label, format.
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

#: Columns that an explanation computes again.
COMPUTED = (
    "churn_probability",
    "transformer_probability",
    "boosting_probability",
    "logistic_probability",
    "expected_spend",
    "level_shift",
)


def console() -> Console:
    """Terminal output, 100 columns wide unless the terminal is narrower."""
    terminal = Console()
    return terminal if terminal.is_terminal and terminal.width <= 100 else Console(width=100)


def backtest_table(results: Sequence[Backtest]) -> Table:
    """Metrics of the model beside recency alone: of one cut-off, or the mean of several."""
    dates = [r.as_of_date.isoformat() for r in results]
    title = (
        f"Backtest at {dates[0]}" if len(dates) == 1 else f"Mean of {len(dates)} backtests, {dates[0]} to {dates[-1]}"
    )
    table = _table(title, "", "Churn Radar", "recency alone")
    columns = [r.model for r in results], [r.recency for r in results]
    customers = f"{fmean(r.model.n_customers for r in results):,.0f}"
    table.add_row("customers", customers, customers)
    for name, label, pattern in FIGURES:
        table.add_row(label, *(pattern.format(fmean(getattr(e, name) for e in column)) for column in columns))
    naive = f"{fmean(r.naive_spend_error for r in results):,.2f} (last 90 days)"
    table.add_row("absolute error of spend", f"{fmean(r.spend_error for r in results):,.2f}", naive)
    drops = [r.forward_drop for r in results if r.forward_drop is not None]
    if drops:
        table.add_row("AUROC below validation's by", f"{fmean(drops):+.4f}")
    if len(results) > 1:
        errors = (f"{fmean(abs(e.level_error) for e in column):.4f}" for column in columns)
        table.add_row("absolute error of the level", *errors)
    return table


def rolling_table(results: Sequence[Backtest]) -> Table:
    """One line per cut-off."""
    table = _table(
        "Rolling backtest",
        *("as of", "n", "churned", "predicted", "AUROC", "promised", "recency", "ECE", "log-loss", "lift"),
    )
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
    """Customers with risk, value and reasons."""
    table = Table(title=title, show_lines=False)
    table.add_column("customer", no_wrap=True)
    table.add_column("churn", justify="right")
    table.add_column("band", no_wrap=True)
    table.add_column("at risk", justify="right")
    table.add_column("why")
    for row in scores.itertuples():
        reasons = "; ".join(r for r in (row.reason_1, row.reason_2, row.reason_3) if isinstance(r, str))
        table.add_row(
            row.customer_id, f"{row.churn_probability:.0%}", row.risk_band, f"{row.value_at_risk:,.2f}", reasons
        )
    return table


def similar_table(texts: pd.DataFrame, title: str) -> Table:
    """Texts from a similarity search, the most similar first."""
    table = Table(title=Text(title))  # Text, because a customer's words may look like mark-up
    table.add_column("cosine", justify="right")
    for heading in ("kind", "date", "customer"):
        table.add_column(heading, no_wrap=True)
    table.add_column("what they wrote")
    for row in texts.itertuples():
        table.add_row(
            f"{row.similarity:.2f}", row.kind, f"{row.written_at:%Y-%m-%d}", Text(row.customer_id), Text(row.quote)
        )
    return table


def model_table(version: pd.Series) -> Table:
    """The champion and its metrics on later snapshots."""
    table = Table(title=f"Champion: version {version.model_version}", show_header=False)
    rows = {
        "members": version.members.replace("+", " + "),
        "what words add": _words(version),
        "what the transformer adds": _transformer(version),
        "trained on": f"{version.training_rows:,} rows of {version.training_customers:,} customers, "
        f"{version.first_snapshot:%Y-%m-%d} to {version.last_snapshot:%Y-%m-%d}",
        "AUROC on later snapshots": _figure(version.validation_auroc),
        "log-loss on later snapshots": _figure(version.validation_log_loss),
        "ECE on later snapshots": _figure(version.validation_ece),
        "level set by": f"{version.level_anchor}; its error over past snapshots: {_figure(version.level_error)}",
        "why champion": version.reason,
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def report_table(report: dict) -> Table:
    """Members, baselines and ablations on the same later snapshots."""
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
                *(f"{s[name]:.4f}" for name in ("pr_auc", "log_loss", "brier", "ece")),
            )
        table.add_section()
    return table


def record_table(record: dict, title: str) -> Table:
    """One row of a table as names and values."""
    table = Table(title=title, show_header=False)
    for name, value in record.items():
        table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    return table


def explanation_tables(explanation: Explanation) -> list[Table]:
    """A stored score beside the same score computed again, its lineage, and its features."""
    stored, again = explanation.stored, explanation.recomputed
    scores = _table(
        f"Customer {stored.customer_id} as of {stored.as_of_date:%Y-%m-%d}, version {stored.model_version}",
        *("", "stored", "computed again", "difference"),
    )
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
        ("dbt project", stored.manifest_hash, explanation.manifest_hash),
    ):
        lineage.add_row(name, f"{was}: {'the same now' if was == now else f'now {now}'}")
    features = Table(title=f"{len(explanation.features)} features that are known")
    for heading in ("feature", "value") * 2:
        features.add_column(heading, justify="right" if heading == "value" else "left")
    cells = [
        (name, f"{value:,.4g}" if isinstance(value, float) else str(value))
        for name, value in explanation.features.items()
    ]
    half = (len(cells) + 1) // 2
    for left, right in zip_longest(cells[:half], cells[half:], fillvalue=("", "")):
        features.add_row(*left, *right)
    return [scores, lineage, features]


def _table(title: str, first: str, *numbers: str) -> Table:
    """Table with a left-aligned first column and right-aligned columns of numbers."""
    table = Table(title=title)
    table.add_column(first)
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table


def _words(version: pd.Series) -> str:
    if pd.isna(version.words_gain):
        return "not tried: too few texts"
    gain = f"log-loss {-version.words_gain:+.4f} on later snapshots"
    return gain if version.reads_words else f"too little ({gain}): left out"


def _transformer(version: pd.Series) -> str:
    if pd.isna(version.transformer_gain):
        return "not tried: too few customers or snapshots"
    gain = f"log-loss {-version.transformer_gain:+.4f} on later snapshots"
    return gain if "transformer" in version.members else f"not significant ({gain}): left out"


def _figure(value: float | None) -> str:
    return "not measured: too few snapshots" if pd.isna(value) else f"{value:.4f}"
