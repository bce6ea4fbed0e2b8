"""Charts of the desk: few marks, plain words, one palette that colour-blind people can tell apart."""

import altair as alt
import pandas as pd

from inference.desk.scores import BANDS
from inference.desk.timeline import KINDS
from inference.reporting.page import OURS, THEIRS

#: From dark red to blue, darker where riskier; the badges of desk.css are the same.
BAND_COLOURS = ("#8c2d19", "#c4561f", "#e9b44c", "#3f7f9c")
#: Okabe and Ito's palette: what happened with a customer.
KIND_COLOURS = ("#0072b2", "#8a8f98", "#e69f00", "#d55e00", "#009e73")
KIND_SHAPES = ("circle", "cross", "diamond", "triangle-up", "square")

LABELS = alt.Axis(title=None, labelLimit=260, ticks=False, domain=False)
DAYS = alt.Axis(title=None, format="%-d %b %y", labelOverlap=True, grid=False)
MONEY = alt.Axis(format=",.0f", tickCount=4)
PERCENT = alt.Axis(format=".0%", tickCount=4)


def trend(by_date: pd.DataFrame) -> alt.Chart:
    """Stacked areas of ``value_at_risk`` by date and band."""
    return (
        alt.Chart(by_date)
        .mark_area(point=False)
        .encode(
            x=alt.X("as_of_date:T", axis=DAYS),
            y=alt.Y("value_at_risk:Q", title="value at risk", axis=MONEY),
            color=alt.Color(
                "risk_band:N",
                legend=alt.Legend(orient="top", title=None, columns=4),
                scale=alt.Scale(domain=BANDS, range=BAND_COLOURS),
            ),
            order=alt.Order("place:Q"),
            tooltip=[
                alt.Tooltip("as_of_date:T", title="as of"),
                alt.Tooltip("risk_band:N", title="band"),
                alt.Tooltip("customers:Q", format=","),
                alt.Tooltip("value_at_risk:Q", title="value at risk", format=",.2f"),
            ],
        )
    )


def score_over_time(said: pd.DataFrame) -> alt.Chart:
    """Churn probability of one customer by the date of the score."""
    return (
        alt.Chart(said)
        .mark_line(color=OURS, point=alt.OverlayMarkDef(color=OURS, size=45))
        .encode(
            x=alt.X("as_of_date:T", axis=DAYS),
            y=alt.Y("churn_probability:Q", title="churn probability", axis=PERCENT, scale=alt.Scale(domain=[0, 1])),
            tooltip=[
                alt.Tooltip("as_of_date:T", title="as of"),
                alt.Tooltip("churn_probability:Q", title="churn", format=".1%"),
                alt.Tooltip("risk_band:N", title="band"),
                alt.Tooltip("model_version:N", title="model version"),
            ],
        )
    )


def life(events: pd.DataFrame) -> alt.Chart:
    """One lane per kind of thing that happened with a customer."""
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
    """AUROC by date with its 95 % interval, and what was promised."""
    base = alt.Chart(performance).encode(x=alt.X("as_of_date:T", axis=DAYS))
    scale, axis = alt.Scale(zero=False), alt.Axis(format=".2f", tickCount=5)
    tooltip = [
        alt.Tooltip("as_of_date:T", title="as of"),
        alt.Tooltip("customers:Q", format=","),
        alt.Tooltip("auroc:Q", title="AUROC", format=".3f"),
        alt.Tooltip("promised_auroc:Q", title="promised", format=".3f"),
    ]
    return (
        base.mark_rule(color=OURS).encode(
            y=alt.Y("auroc_low:Q", title="AUROC", scale=scale, axis=axis), y2="auroc_high:Q"
        )
        + base.mark_line(color=THEIRS, strokeDash=[5, 4]).encode(y=alt.Y("promised_auroc:Q", scale=scale))
        + base.mark_line(color=OURS, point=alt.OverlayMarkDef(color=OURS, size=50)).encode(
            y=alt.Y("auroc:Q", scale=scale), tooltip=tooltip
        )
    )


def rate_over_time(performance: pd.DataFrame) -> alt.Chart:
    """Predicted and real churn rate by date."""
    names = {"churn_rate": "really left", "mean_probability": "predicted"}
    table = performance.melt(["as_of_date", "customers"], list(names), "which", "rate").replace({"which": names})
    return (
        alt.Chart(table)
        .mark_line(point=True)
        .encode(
            x=alt.X("as_of_date:T", axis=DAYS),
            y=alt.Y("rate:Q", title="share of customers", axis=PERCENT, scale=alt.Scale(domainMin=0)),
            color=alt.Color(
                "which:N",
                legend=alt.Legend(orient="top", title=None),
                scale=alt.Scale(domain=list(names.values()), range=["#1c2128", OURS]),
            ),
            tooltip=[
                alt.Tooltip("as_of_date:T", title="as of"),
                alt.Tooltip("which:N", title=""),
                alt.Tooltip("rate:Q", title="share", format=".1%"),
                alt.Tooltip("customers:Q", format=","),
            ],
        )
    )


def drift_over_time(drift: pd.DataFrame) -> alt.LayerChart:
    """Population stability index of the scores by date, and where a shift begins to count."""
    x = alt.X("as_of_date:T", axis=DAYS)
    return (
        alt.Chart(drift)
        .mark_line(color=OURS, point=alt.OverlayMarkDef(color=OURS, size=50))
        .encode(
            x=x,
            y=alt.Y("psi:Q", title="drift of the scores (PSI)"),
            tooltip=[alt.Tooltip("as_of_date:T", title="as of"), alt.Tooltip("psi:Q", format=".3f"), "band:N"],
        )
    ) + _limit(alt.Y(datum=0.25))


def drift_by_feature(drift: pd.DataFrame) -> alt.LayerChart:
    """Bars of the population stability index of features, those beyond what is usual in red."""
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
    return bars + _limit(alt.X(datum=0.25))


def intervals(rows: pd.DataFrame, x: str, number_format: str) -> alt.LayerChart:
    """Estimates with their 95 % intervals beside nothing, which is zero.

    Parameters
    ----------
    rows : DataFrame
        ``name``, ``value``, ``low`` and ``high``.
    x : str
        What is estimated, with its unit.
    number_format : str
        How numbers are written, in d3's way.
    """
    y = alt.Y("name:N", sort=None, axis=LABELS)
    axis = alt.Axis(format=number_format, tickCount=5, grid=True)
    tooltip = [alt.Tooltip("name:N", title="")]
    tooltip += [alt.Tooltip(f"{name}:Q", format=number_format) for name in ("value", "low", "high")]
    base = alt.Chart(rows)
    return (
        alt.Chart().mark_rule(color="#1c2128").encode(x=alt.X(datum=0))
        + base.mark_rule(color=OURS, strokeWidth=3).encode(x=alt.X("low:Q", title=x, axis=axis), x2="high:Q", y=y)
        + base.mark_point(color=OURS, filled=True, size=110, opacity=1).encode(x="value:Q", y=y, tooltip=tooltip)
    )


def _limit(encoding: alt.X | alt.Y) -> alt.Chart:
    """Draw where an index counts as drifted, as everywhere."""
    rule = alt.Chart().mark_rule(color="#1c2128", strokeDash=[5, 4])
    return rule.encode(x=encoding) if isinstance(encoding, alt.X) else rule.encode(y=encoding)
