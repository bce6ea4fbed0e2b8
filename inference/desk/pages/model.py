"""The model: how far its scores can be trusted, how that changed over time, and what each input adds."""

import pandas as pd
import streamlit as st

from inference.desk import charts, data
from inference.desk import components as parts
from inference.home import published
from inference.reporting.charts import calibration, comparison, intervals, lift

#: Drifting features that are drawn.
MOST_FEATURES = 12
NO_REPORT = "No report yet: churn-radar report measures calibration, lift, members and words, and writes report.json."


def show() -> None:
    """Draw the page."""
    least = parts.settings().min_group
    champion = parts.fresh(data.champion, of=[published("churn_model")])
    if champion is None:
        parts.heading("Model", "How far the scores can be trusted.")
        parts.line(f"{published('churn_model')}: no model yet; run dbt build first.")
        return
    parts.heading(
        f"Model, version {champion.model_version}",
        f"Trained on {champion.training_rows:,} rows of {champion.training_customers:,} customers, "
        f"{parts.day(champion.first_snapshot)} to {parts.day(champion.last_snapshot)}. "
        f"Champion because: {champion.reason}.",
    )
    report = parts.fresh(data.report, of=[published("report").with_suffix(".json")])
    if report is not None and report["model"]["version"] != champion.model_version:
        parts.line(f"The report is of version {report['model']['version']}: run churn-radar report again.")
        report = None
    if report is not None and report["model"]["customers"] < least:
        parts.line(f"The report is of fewer than {least} predictions, the least of churn__min_group: it is not shown.")
        report = None
    _figures(champion, report)
    _curves(report)
    _over_time(least)
    _drift(least)
    _members(champion, report)
    _words(champion, report)


def _figures(champion: pd.Series, report: dict | None) -> None:
    lift = report["members"][0]["top_decile_lift"] if report else None
    figures = (
        ("Ranks right (AUROC)", champion.validation_auroc, "{:.3f}", "1 is perfect, 0.5 is chance"),
        ("Off by (ECE)", champion.validation_ece, "{:.3f}", "predicted from observed churn"),
        ("Log-loss", champion.validation_log_loss, "{:.3f}", "lower is better"),
        ("Lift of the riskiest tenth", lift, "{:.1f} ×", "churners among them, against chance"),
    )
    parts.cards([(n, "not measured" if pd.isna(v) else pattern.format(v), about) for n, v, pattern, about in figures])
    st.html('<p class="lead">All on later snapshots, which the model had not seen.</p>')


def _curves(report: dict | None) -> None:
    if report is None:
        parts.section("Calibration and lift")
        parts.line(NO_REPORT)
        return
    left, right = st.columns(2, gap="large")
    with left:
        parts.section("Calibration", "Of customers to whom it gives 30 %, 30 % should leave: the points on the line.")
        parts.chart(calibration(report["curves"]["calibration"]), 380)
    with right:
        parts.section("Lift", "How many more churners are among the riskiest than among as many customers by chance.")
        parts.chart(lift(report["curves"]["lift"]), 380)


def _over_time(least: int) -> None:
    left, right = st.columns(2, gap="large")
    known = parts.fresh(data.by_date, "churn_model_performance", of=[published("churn_model_performance")])
    shown, small = (known, 0) if known is None else data.hide_small(known, ["customers"], least)
    nothing = "No horizon has passed since the first score: what became of the scores is known then."
    with left:
        parts.section(
            "Performance over time", "AUROC of past scores with its 95 % interval; dashed: what was promised."
        )
        if shown is None or shown.empty:
            parts.line(nothing)
        else:
            parts.chart(charts.ranking_over_time(shown), 240)
    with right:
        parts.section("Predicted and real churn", "Share of the customers who were scored at each date.")
        if shown is None or shown.empty:
            parts.line(nothing)
        else:
            parts.chart(charts.rate_over_time(shown), 240)
    parts.hidden(small, least)


def _drift(least: int) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        parts.section("Drift of the scores", "How far they lie from what the model learned from; beyond 0.25 is much.")
        known = parts.fresh(data.by_date, "churn_score_drift", of=[published("churn_score_drift")])
        known = None if known is None else known.dropna(subset=["psi"])
        shown, small = (known, 0) if known is None else data.hide_small(known, ["customers"], least)
        if shown is None or shown.empty:
            parts.line("No drift is known: this version has no reference to compare with.")
        else:
            parts.chart(charts.drift_over_time(shown), 320)
        parts.hidden(small, least)
    with right:
        parts.section("Drift of what it reads", "The inputs that moved most; red: beyond chance and all that was seen.")
        known = parts.fresh(data.feature_drift, MOST_FEATURES, of=[published("churn_feature_drift")])
        if known is None or known.empty or known.customers.min() < least:
            parts.line("No drift of inputs is known.")
            return
        parts.chart(charts.drift_by_feature(known.assign(feature=known.feature.str.replace("_", " "))), 320)
        read, unusual = int(known.features.iloc[0]), int(known.unusual_features.iloc[0])
        st.html(f'<p class="lead">{unusual} of {read} inputs moved more than usual.</p>')


def _members(champion: pd.Series, report: dict | None) -> None:
    names = champion.members.split("+")
    parts.section("Members", f"The score is the mean of the log-odds of {', '.join(names)}: each weighs as much.")
    weights = {name: 1 / len(names) for name in names}
    alone = {m["name"]: m for m in report["members"]} if report else {}
    others = [name for name in ("logistic", "boosting", "transformer") if name not in names]
    parts.plain_table(
        ("Member", "Weight", "AUROC alone", "Log-loss alone"),
        [
            (
                name,
                parts.percent(weights[name]) if name in weights else "left out",
                f"{alone[name]['auroc']:.3f}" if name in alone else "not measured",
                f"{alone[name]['log_loss']:.3f}" if name in alone else "not measured",
            )
            for name in [*names, *others]
        ],
    )
    if report:
        parts.section("Beside simpler ways", "AUROC with its 95 % interval on the same later snapshots.")
        scores = report["members"] + report["baselines"]
        parts.chart(comparison(scores), 60 + 28 * len(scores))


def _words(champion: pd.Series, report: dict | None) -> None:
    parts.section(
        "What text adds", "How much lower the log-loss of later snapshots is with what customers write; 95 % intervals."
    )
    if pd.isna(champion.words_gain):
        parts.line("Too few customers wrote anything to learn from it.")
        return
    if not champion.reads_words:
        parts.line(
            f"Words are not in the score: {champion.words_gain:+.4f} is not beyond chance, or too little to matter."
        )
    if report is None:
        parts.line(f"Reading words lowered the log-loss by {champion.words_gain:+.4f}. {NO_REPORT}")
        return
    told = {"their own words": report["model"]["words_gain"]}
    if report["control"]:
        told["control: words of others"] = report["control"]["shuffled"]
    gains = report["model"]["transformer_gains"] or {}
    told |= {
        f"transformer: {name.replace('_', ' ')}": gains[name] for name in ("words", "fine_tuned") if gains.get(name)
    }
    rows = [{"name": n, "value": g["mean"], "low": g["low"], "high": g["high"]} for n, g in told.items() if g]
    parts.chart(intervals(pd.DataFrame(rows), "gain in log-loss per customer", "+.4f"), 60 + 40 * len(rows))
