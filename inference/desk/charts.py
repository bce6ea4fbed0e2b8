"""Charts of the desk, beside those that it shares with the report."""

import altair as alt
import pandas as pd

from inference.desk.scores import BANDS
from inference.desk.timeline import KINDS
from inference.reporting.charts import DARK, DASHES, LABELS, OURS, THEIRS, line

#: From dark red to blue, darker where riskier; the badges of desk.css have the same colours.
BAND_COLOURS = ("#8c2d19", "#c4561f", "#e9b44c", "#3f7f9c")
#: Okabe and Ito's palette, which colour-blind people can tell apart.
KIND_COLOURS = ("#0072b2", "#8a8f98", "#e69f00", "#d55e00", "#009e73")
KIND_SHAPES = ("circle", "cross", "diamond", "triangle-up", "square")

DAYS = alt.Axis(title=None, format="%-d %b %y", labelOverlap=True, grid=False)
DATES = alt.X("as_of_date:T", axis=DAYS)
AS_OF = alt.Tooltip("as_of_date:T", title="as of")
CUSTOMERS = alt.Tooltip("customers:Q", format=",")
PERCENT = alt.Axis(format=".0%", tickCount=4)
#: Population stability index from which on a distribution counts as drifted.
DRIFTED = 0.25


def trend(by_date: pd.DataFrame) -> alt.Chart:
    """Stacked areas of ``value_at_risk`` by date and band."""
    value = alt.Y("value_at_risk:Q", title="value at risk", axis=alt.Axis(format=",.0f", tickCount=4))
    bands = alt.Color(
        "risk_band:N",
        legend=alt.Legend(orient="top", title=None, columns=4),
        scale=alt.Scale(domain=BANDS, range=BAND_COLOURS),
    )
    tooltip = [
        AS_OF,
        alt.Tooltip("risk_band:N", title="band"),
        CUSTOMERS,
        alt.Tooltip("value_at_risk:Q", title="value at risk", format=",.2f"),
    ]
    area = alt.Chart(by_date).mark_area(point=False)
    return area.encode(x=DATES, y=value, color=bands, order=alt.Order("place:Q"), tooltip=tooltip)


def score_over_time(scores: pd.DataFrame) -> alt.Chart:
    """Churn probability of one customer by the date of the score."""
    y = alt.Y("churn_probability:Q", title="churn probability", axis=PERCENT, scale=alt.Scale(domain=[0, 1]))
    tooltip = [
        AS_OF,
        alt.Tooltip("churn_probability:Q", title="churn", format=".1%"),
        alt.Tooltip("risk_band:N", title="band"),
        alt.Tooltip("model_version:N", title="model version"),
    ]
    return line(scores, DATES, y, tooltip)


def life(events: pd.DataFrame) -> alt.Chart:
    """One lane per kind of a customer's events."""
    return (
        alt.Chart(events)
        .mark_point(filled=True, size=70, opacity=0.75)
        .encode(
            x=alt.X("happened_at:T", axis=DAYS),
            y=alt.Y("kind:N", sort=KINDS, axis=LABELS, scale=alt.Scale(domain=KINDS)),
            color=alt.Color("kind:N", legend=None, scale=alt.Scale(domain=KINDS, range=KIND_COLOURS)),
            shape=alt.Shape("kind:N", legend=None, scale=alt.Scale(domain=KINDS, range=KIND_SHAPES)),
            tooltip=[
                alt.Tooltip("happened_at:T", title="when", format="%-d %B %Y"),
                alt.Tooltip("kind:N", title="what"),
                alt.Tooltip("about:N", title="details"),
            ],
        )
    )


def ranking_over_time(performance: pd.DataFrame) -> alt.LayerChart:
    """AUROC by date with its 95 % interval, and the AUROC of the validation."""
    base = alt.Chart(performance).encode(x=DATES)
    scale, axis = alt.Scale(zero=False), alt.Axis(format=".2f", tickCount=5)
    tooltip = [
        AS_OF,
        CUSTOMERS,
        alt.Tooltip("auroc:Q", title="AUROC", format=".3f"),
        alt.Tooltip("promised_auroc:Q", title="promised", format=".3f"),
    ]
    interval = alt.Y("auroc_low:Q", title="AUROC", scale=scale, axis=axis)
    return (
        base.mark_rule(color=OURS).encode(y=interval, y2="auroc_high:Q")
        + base.mark_line(color=THEIRS, strokeDash=DASHES).encode(y=alt.Y("promised_auroc:Q", scale=scale))
        + line(performance, DATES, alt.Y("auroc:Q", scale=scale), tooltip)
    )


def rate_over_time(performance: pd.DataFrame) -> alt.Chart:
    """Predicted and observed churn rate by date."""
    names = {"churn_rate": "really left", "mean_probability": "predicted"}
    table = performance.melt(["as_of_date", "customers"], list(names), "which", "rate").replace({"which": names})
    rate = alt.Y("rate:Q", title="share of customers", axis=PERCENT, scale=alt.Scale(domainMin=0))
    which = alt.Color(
        "which:N",
        legend=alt.Legend(orient="top", title=None),
        scale=alt.Scale(domain=list(names.values()), range=[DARK, OURS]),
    )
    tooltip = [AS_OF, alt.Tooltip("which:N", title=""), alt.Tooltip("rate:Q", title="share", format=".1%"), CUSTOMERS]
    return alt.Chart(table).mark_line(point=True).encode(x=DATES, y=rate, color=which, tooltip=tooltip)


def drift_over_time(drift: pd.DataFrame) -> alt.LayerChart:
    """Population stability index of the scores by date, and the value that counts as drifted."""
    y = alt.Y("psi:Q", title="drift of the scores (PSI)")
    limit = alt.Chart().mark_rule(color=DARK, strokeDash=DASHES).encode(y=alt.Y(datum=DRIFTED))
    return line(drift, DATES, y, [AS_OF, alt.Tooltip("psi:Q", format=".3f"), alt.Tooltip("band:N")]) + limit


def drift_by_feature(drift: pd.DataFrame) -> alt.LayerChart:
    """Bars of the population stability index of features, unusual ones in red, and the value that counts as drifted."""
    bars = (
        alt.Chart(drift)
        .mark_bar(cornerRadiusEnd=3)
        .encode(
            x=alt.X("psi:Q", title="drift (PSI)", axis=alt.Axis(tickCount=5), scale=alt.Scale(type="sqrt")),
            y=alt.Y("feature:N", sort="-x", axis=LABELS),
            color=alt.condition("datum.is_unusual", alt.value(OURS), alt.value(THEIRS)),
            tooltip=[
                "feature:N",
                alt.Tooltip("psi:Q", title="drift now", format=".3f"),
                alt.Tooltip("usual_psi:Q", title="largest before", format=".3f"),
                alt.Tooltip("missing_rate:Q", title="unknown now", format=".1%"),
                alt.Tooltip("reference_missing_rate:Q", title="unknown then", format=".1%"),
            ],
        )
    )
    return bars + alt.Chart().mark_rule(color=DARK, strokeDash=DASHES).encode(x=alt.X(datum=DRIFTED))
