"""Tables for the terminal, at most 100 columns wide."""

from collections.abc import Sequence
from datetime import date
from itertools import zip_longest
from statistics import fmean
from typing import TYPE_CHECKING, Any

import duckdb
import pandas as pd
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from inference.errors import ChurnRadarError, printable
from inference.home import published, sql_literal

if TYPE_CHECKING:  # scikit-learn takes seconds to import
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


class PlainConsole(Console):
    """A console on which every string is text: customers' words may look like mark-up or command a terminal."""

    def __init__(self, width: int | None = None) -> None:
        super().__init__(width=width, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Turn a string, such as a table's cell, into text."""
        return super().render_str(printable(text), **options)


def console() -> Console:
    """Terminal output, 100 columns wide unless the terminal is narrower."""
    terminal = PlainConsole()
    return terminal if terminal.is_terminal and terminal.width <= 100 else PlainConsole(width=100)


def events_table(events: Sequence[dict[str, str]], title: str) -> Table:
    """Accepted events, with what they are about and their own ids."""
    table = Table("accepted", "kind", "customer", "about", "event", title=title, show_header=bool(events))
    for event in events:
        moment = event["accepted"][:19].replace("T", " ")
        table.add_row(moment, event["kind"], event["customer_id"], event["id"], event["event_id"])
    return table


def backtest_table(results: "Sequence[Backtest]") -> Table:
    """Metrics of the model beside recency alone: of one cut-off, or the mean of several."""
    dates = [r.as_of_date.isoformat() for r in results]
    title = (
        f"Backtest at {dates[0]}" if len(dates) == 1 else f"Mean of {len(dates)} backtests, {dates[0]} to {dates[-1]}"
    )
    table = Table("", *_right("Churn Radar", "recency alone"), title=title)
    columns = [r.model for r in results], [r.recency for r in results]
    customers = f"{fmean(r.model.n_customers for r in results):,.0f}"
    table.add_row("customers", customers, customers)
    for name, label, pattern in FIGURES:
        table.add_row(label, *(pattern.format(fmean(getattr(e, name) for e in column)) for column in columns))
    naive = f"{fmean(r.naive_spend_error for r in results):,.2f} (last 90 days)"
    table.add_row("absolute error of spend", f"{fmean(r.spend_error for r in results):,.2f}", naive)
    drops = [r.promised_auroc - r.model.auroc for r in results if r.promised_auroc is not None]
    if drops:
        table.add_row("AUROC below validation's by", f"{fmean(drops):+.4f}")
    if len(results) > 1:
        errors = (f"{fmean(abs(e.level_error) for e in column):.4f}" for column in columns)
        table.add_row("absolute error of the level", *errors)
    return table


def rolling_table(results: "Sequence[Backtest]") -> Table:
    """One line per cut-off."""
    names = ("n", "churned", "predicted", "AUROC", "promised", "recency", "ECE", "log-loss", "lift")
    table = Table("as of", *_right(*names), title="Rolling backtest")
    for r in results:
        m = r.model
        figures = m.churn_rate, m.mean_probability, m.auroc, r.promised_auroc, r.recency.auroc, m.ece, m.log_loss
        shown = ("" if figure is None else f"{figure:.4f}" for figure in figures)
        table.add_row(r.as_of_date.isoformat(), f"{m.n_customers:,}", *shown, f"{m.top_decile_lift:.2f}")
    return table


def top_scores(top: int) -> tuple[Table, date]:
    """Customers at highest risk of the newest published date, and that date."""
    file = published("churn_scores")
    if not file.exists():
        raise ChurnRadarError(f"{file}: no scores yet; run dbt build first")
    scores = duckdb.sql(
        f"""
        select * from read_parquet({sql_literal(file)})
        qualify dense_rank() over (order by as_of_date desc) = 1
            and row_number() over (partition by customer_id order by scored_at desc) = 1
        order by churn_probability desc, customer_id
        """
    ).df()
    title = (
        f"The {min(top, len(scores))} customers at highest risk of {len(scores):,}, as of "
        f"{scores.as_of_date.iloc[0]:%Y-%m-%d}: no order in the next {scores.horizon_days.iloc[0]} days"
    )
    return scores_table(scores.head(top), title), scores.as_of_date.iloc[0].date()


def scores_table(scores: pd.DataFrame, title: str) -> Table:
    """Customers with risk, value and reasons."""
    customer, band = (Column(heading, no_wrap=True) for heading in ("customer", "band"))
    churn, at_risk = _right("churn", "at risk")
    table = Table(customer, churn, band, at_risk, "why", title=title)
    for row in scores.itertuples():
        reasons = "; ".join(r for r in (row.reason_1, row.reason_2, row.reason_3) if isinstance(r, str))
        table.add_row(
            row.customer_id, f"{row.churn_probability:.0%}", row.risk_band, f"{row.value_at_risk:,.2f}", reasons
        )
    return table


def similar_table(texts: pd.DataFrame, title: str) -> Table:
    """Texts from a similarity search, the most similar first."""
    fixed = (Column(heading, no_wrap=True) for heading in ("kind", "date", "customer"))
    table = Table(*_right("cosine"), *fixed, "what they wrote", title=title)
    for row in texts.itertuples():
        table.add_row(f"{row.similarity:.2f}", row.kind, f"{row.written_at:%Y-%m-%d}", row.customer_id, row.quote)
    return table


def model_table(version: pd.Series) -> Table:
    """The champion and its metrics on later snapshots."""
    rows = {
        "members": version.members.replace("+", " + "),
        "reads texts": "yes" if version.reads_words else "no",
        # which of the two is read, only the model knows; the report says it
        "single words tried": _gain(version.lexical_gain, True, "texts"),
        "text vectors tried": _gain(version.words_gain, True, "texts"),
        "what the transformer adds": _gain(
            version.transformer_gain, "transformer" in version.members, "customers or snapshots", "not significant"
        ),
        "trained on": f"{version.training_rows:,} rows of {version.training_customers:,} customers, "
        f"{version.first_snapshot:%Y-%m-%d} to {version.last_snapshot:%Y-%m-%d}",
        "AUROC on later snapshots": _figure(version.validation_auroc),
        "log-loss on later snapshots": _figure(version.validation_log_loss),
        "ECE on later snapshots": _figure(version.validation_ece),
        "level set by": f"{version.level_anchor}; its error over past snapshots: {_figure(version.level_error)}",
        "why champion": version.reason,
    }
    return record_table(rows, f"Champion: version {version.model_version}")


def report_table(report: dict) -> Table:
    """Members, baselines and ablations on the same later snapshots."""
    snapshots = report["model"]["snapshots"]
    title = f"{report['model']['customers']:,} predictions at {len(snapshots)} later snapshots"
    names = ("AUROC", "95 %", "EMPC", "lift", "PR-AUC", "log-loss", "Brier", "ECE")
    table = Table("", *(Column(name, justify="right", no_wrap=True) for name in names), title=title)
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


def explanation_tables(explanation: "Explanation") -> list[Table]:
    """A stored score beside the same score computed again, its lineage, and its features."""
    stored, again = explanation.stored, explanation.recomputed
    title = f"Customer {stored.customer_id} as of {stored.as_of_date:%Y-%m-%d}, version {stored.model_version}"
    scores = Table("", *_right("stored", "computed again", "difference"), title=title)
    for name in COMPUTED:
        if pd.notna(stored[name]):
            difference = abs(stored[name] - again[name])
            scores.add_row(name, f"{stored[name]:.6f}", f"{again[name]:.6f}", f"{difference:.1e}")
    lineage = {}
    for name in ("reason_1", "reason_2", "reason_3"):
        was, now = (score[name] or "" for score in (stored, again))
        lineage[name] = was if was == now else f"{stored[name]}; computed again: {again[name]}"
    lineage["scored at"] = f"{stored.scored_at:%Y-%m-%d %H:%M:%S} UTC"
    for name, was, now in (
        ("features", stored.features_hash, again.features_hash),
        ("dbt project", stored.manifest_hash, explanation.manifest_hash),
    ):
        lineage[name] = f"{was}: {'the same now' if was == now else f'now {now}'}"
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
    return [scores, record_table(lineage, "Reasons and lineage"), features]


def _right(*headings: str) -> list[Column]:
    """Right-aligned columns."""
    return [Column(heading, justify="right") for heading in headings]


def _gain(gain: float, is_used: bool, too_few: str, verdict: str = "") -> str:
    if pd.isna(gain):
        return f"not tried: too few {too_few}"
    drop = f"log-loss {-gain:+.4f} on later snapshots"
    return drop if is_used else f"{verdict} ({drop}): left out"


def _figure(value: float | None) -> str:
    return "not measured: too few snapshots" if pd.isna(value) else f"{value:.4f}"
