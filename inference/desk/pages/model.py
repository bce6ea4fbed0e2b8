"""The model: quality of its scores, changes over time, members, and the gain from texts."""

import pandas as pd
import streamlit as st

from inference.desk import charts, components, data
from inference.desk.format import day, percent
from inference.home import published
from inference.reporting.charts import calibration, comparison, intervals, lift

#: Features in the chart of drift.
MAX_FEATURES = 12
NO_REPORT = "No report yet: churn-radar report measures calibration, lift, members and texts, and writes report.json."


def show() -> None:
    """Draw the page."""
    min_group = components.settings().min_group
    champion = components.cached(data.champion, files=[published("churn_model")])
    if champion is None:
        components.heading("Model", "How good the scores are.")
        components.line(f"{published('churn_model')}: no model yet; run dbt build first.")
        return
    components.heading(
        f"Model, version {champion.model_version}",
        f"Trained on {champion.training_rows:,} rows of {champion.training_customers:,} customers, "
        f"{day(champion.first_snapshot)} to {day(champion.last_snapshot)}. "
        f"Champion because: {champion.reason}.",
    )
    report = components.cached(data.report, files=[published("report").with_suffix(".json")])
    if report is not None and report["model"]["version"] != champion.model_version:
        components.line(f"The report is of version {report['model']['version']}: run churn-radar report again.")
        report = None
    if report is not None and report["model"]["customers"] < min_group:
        components.line(
            f"The report is of fewer than {min_group} predictions, the minimum of churn__min_group: it is not shown."
        )
        report = None
    _figures(champion, report)
    _curves(report)
    _over_time(min_group)
    _drift(min_group)
    _members(champion, report)
    _words(champion, report)


def _figures(champion: pd.Series, report: dict | None) -> None:
    lift = report["members"][0]["top_decile_lift"] if report else None
    figures = (
        ("Ranking (AUROC)", champion.validation_auroc, "{:.3f}", "1 is perfect, 0.5 is random"),
        ("Calibration error (ECE)", champion.validation_ece, "{:.3f}", "distance of predicted from observed churn"),
        ("Log-loss", champion.validation_log_loss, "{:.3f}", "lower is better"),
        ("Lift of the riskiest 10 %", lift, "{:.1f} ×", "their churn rate over the average"),
    )
    components.cards(
        [(n, "not measured" if pd.isna(v) else pattern.format(v), about) for n, v, pattern, about in figures]
    )
    st.html('<p class="lead">Measured on later snapshots, which were not used in training.</p>')


def _curves(report: dict | None) -> None:
    if report is None:
        components.section("Calibration and lift")
        components.line(NO_REPORT)
        return
    left, right = st.columns(2, gap="large")
    with left:
        components.section(
            "Calibration", "Of customers scored 30 %, about 30 % should leave: perfect scores lie on the line."
        )
        components.chart(calibration(report["curves"]["calibration"]), 380)
    with right:
        components.section("Lift", "Churn rate of the riskiest customers over the average churn rate.")
        components.chart(lift(report["curves"]["lift"]), 380)


def _over_time(min_group: int) -> None:
    left, right = st.columns(2, gap="large")
    known = components.cached(data.by_date, "churn_model_performance", files=[published("churn_model_performance")])
    shown, small = (known, 0) if known is None else data.hide_small(known, ["customers"], min_group)
    nothing = "No horizon has passed since the first score: its outcome is known then."
    with left:
        components.section(
            "Performance over time", "AUROC of past scores with its 95 % interval; dashed: in validation."
        )
        if shown is None or shown.empty:
            components.line(nothing)
        else:
            components.chart(charts.ranking_over_time(shown), 240)
    with right:
        components.section("Predicted and real churn", "Share of the customers who were scored at each date.")
        if shown is None or shown.empty:
            components.line(nothing)
        else:
            components.chart(charts.rate_over_time(shown), 240)
    components.hidden_groups(small, min_group)


def _drift(min_group: int) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        components.section("Drift of the scores", "Distance from the scores of the training data; above 0.25 is large.")
        known = components.cached(data.by_date, "churn_score_drift", files=[published("churn_score_drift")])
        known = None if known is None else known.dropna(subset=["psi"])
        shown, small = (known, 0) if known is None else data.hide_small(known, ["customers"], min_group)
        if shown is None or shown.empty:
            components.line("No drift is known: this version has no reference data.")
        else:
            components.chart(charts.drift_over_time(shown), 320)
        components.hidden_groups(small, min_group)
    with right:
        components.section(
            "Drift of the inputs", "The inputs that changed most; red: beyond sampling error and earlier drift."
        )
        known = components.cached(data.feature_drift, MAX_FEATURES, files=[published("churn_feature_drift")])
        if known is None or known.customers.min() < min_group:
            components.line("No drift of inputs is known.")
            return
        components.chart(charts.drift_by_feature(known.assign(feature=known.feature.str.replace("_", " "))), 320)
        read, unusual = int(known.features.iloc[0]), int(known.unusual_features.iloc[0])
        st.html(f'<p class="lead">{unusual} of {read} inputs changed more than usual.</p>')


def _members(champion: pd.Series, report: dict | None) -> None:
    names = champion.members.split("+")
    components.section("Members", f"The score is the mean of the log-odds of {', '.join(names)}, with equal weights.")
    weights = {name: 1 / len(names) for name in names}
    alone = {m["name"]: m for m in report["members"]} if report else {}
    others = [name for name in ("logistic", "boosting", "transformer") if name not in names]
    components.plain_table(
        ("Member", "Weight", "AUROC alone", "Log-loss alone"),
        [
            (
                name,
                percent(weights[name]) if name in weights else "left out",
                f"{alone[name]['auroc']:.3f}" if name in alone else "not measured",
                f"{alone[name]['log_loss']:.3f}" if name in alone else "not measured",
            )
            for name in [*names, *others]
        ],
    )
    if report:
        components.section("Compared with simpler methods", "AUROC with its 95 % interval on the same later snapshots.")
        scores = report["members"] + report["baselines"]
        components.chart(comparison(scores), 60 + 28 * len(scores))


def _words(champion: pd.Series, report: dict | None) -> None:
    components.section(
        "What text adds",
        "Decrease of the log-loss on later snapshots if the model reads reviews and tickets; 95 % intervals.",
    )
    tried = [gain for gain in (champion.words_gain, champion.get("lexical_gain")) if not pd.isna(gain)]
    if not tried:
        components.line("Too few customers wrote texts to learn from them.")
        return
    if not champion.reads_words:
        components.line(
            f"The score does not use texts: a gain of {max(tried):+.4f} is within sampling error or too small."
        )
    if report is None:
        components.line(f"Reading texts lowered the log-loss by {max(tried):+.4f}. {NO_REPORT}")
        return
    by_source = {"single words": report["model"].get("lexical_gain"), "text vectors": report["model"]["words_gain"]}
    if report["control"]:
        by_source["control: texts of other customers"] = report["control"]["shuffled"]
    gains = report["model"]["transformer_gains"] or {}
    by_source |= {
        f"transformer: {name.replace('_', ' ')}": gains[name] for name in ("words", "fine_tuned") if gains.get(name)
    }
    rows = [{"name": n, "value": g["mean"], "low": g["low"], "high": g["high"]} for n, g in by_source.items() if g]
    components.chart(intervals(pd.DataFrame(rows), "gain in log-loss per customer", "+.4f"), 60 + 40 * len(rows))
