"""Charts of the report and the desk, in Altair."""

from io import StringIO
from typing import Any

import altair as alt
import pandas as pd
from markupsafe import Markup

#: Colours of Churn Radar, of what it is compared with, and of axes through zero.
OURS, THEIRS, DARK = "#b3402a", "#8a8f98", "#1c2128"

LABELS = alt.Axis(title=None, labelLimit=260, ticks=False, domain=False)
DASHES = [5, 4]


def line(rows: pd.DataFrame, x: alt.X, y: alt.Y, tooltip: list[alt.Tooltip]) -> alt.Chart:
    """Line with a point for each row, in the colour of Churn Radar."""
    mark = alt.Chart(rows).mark_line(color=OURS, point=alt.OverlayMarkDef(color=OURS, size=50))
    return mark.encode(x=x, y=y, tooltip=tooltip)


def calibration(bins: list[dict]) -> alt.LayerChart:
    """Observed by predicted churn rate, and the diagonal; ``bins`` is ``curves.calibration`` of a report."""
    rows = pd.DataFrame(bins)
    top = float(rows[["predicted", "observed"]].max(axis=None)) * 1.05
    scale, axis = alt.Scale(domain=[0, top], nice=False), alt.Axis(format=".0%", tickCount=5)
    x = alt.X("predicted:Q", title="predicted churn", scale=scale, axis=axis)
    y = alt.Y("observed:Q", title="observed churn", scale=scale, axis=axis)
    ends = pd.DataFrame({"predicted": [0, top], "observed": [0, top]})
    tooltip = [alt.Tooltip("predicted:Q", format=".1%"), alt.Tooltip("observed:Q", format=".1%"), "customers:Q"]
    return alt.Chart(ends).mark_line(color=THEIRS, strokeDash=DASHES).encode(x=x, y=y) + line(rows, x, y, tooltip)


def lift(points: list[dict]) -> alt.LayerChart:
    """Churners among the customers at highest risk, relative to all; ``points`` is ``curves.lift`` of a report."""
    x = alt.X("share:Q", title="share of customers, riskiest first", axis=alt.Axis(format=".0%", tickCount=5))
    y = alt.Y("lift:Q", title="lift", scale=alt.Scale(zero=False))
    tooltip = [alt.Tooltip("share:Q", format=".0%"), alt.Tooltip("lift:Q", format=".2f")]
    random_order = alt.Chart().mark_rule(color=THEIRS, strokeDash=DASHES).encode(y=alt.Y(datum=1))
    return random_order + line(pd.DataFrame(points), x, y, tooltip)


def comparison(scores: list[dict]) -> alt.LayerChart:
    """AUROC of members and baselines with its 95 % interval; the first has the colour of Churn Radar."""
    columns = {"auroc": "value", "auroc_low": "low", "auroc_high": "high"}
    rows = pd.DataFrame(scores)[["name", *columns]].rename(columns=columns)
    ours = alt.datum.name == scores[0]["name"]
    return _intervals(
        rows, "AUROC with its 95 % interval", ".3f", alt.condition(ours, alt.value(OURS), alt.value(THEIRS))
    )


def intervals(rows: pd.DataFrame, x: str, number_format: str) -> alt.LayerChart:
    """Estimates with their 95 % intervals, beside zero.

    ``rows`` have ``name``, ``value``, ``low`` and ``high``; ``x`` is the title of the axis (what is estimated, with its
    unit), and ``number_format`` a d3 format.
    """
    zero = alt.Chart().mark_rule(color=DARK).encode(x=alt.X(datum=0))
    return zero + _intervals(rows, x, number_format, alt.value(OURS))


def svg(chart: alt.Chart | alt.LayerChart, width: int, height: int) -> Markup:
    """Render a chart as SVG without a browser or network; sizes in pixels."""
    text = StringIO()
    chart.properties(width=width, height=height).save(text, format="svg")
    return Markup(text.getvalue())  # safe: Vega escapes texts


def _intervals(rows: pd.DataFrame, x: str, number_format: str, colour: Any) -> alt.LayerChart:
    y = alt.Y("name:N", sort=None, axis=LABELS)
    axis, scale = alt.Axis(format=number_format, tickCount=5, grid=True), alt.Scale(zero=False, padding=6)
    tooltip = [alt.Tooltip("name:N", title="")]
    tooltip += [alt.Tooltip(f"{name}:Q", format=number_format) for name in ("value", "low", "high")]
    base = alt.Chart(rows).encode(y=y, color=colour)
    return base.mark_rule(strokeWidth=3).encode(
        x=alt.X("low:Q", title=x, axis=axis, scale=scale), x2="high:Q"
    ) + base.mark_point(filled=True, size=110, opacity=1).encode(x="value:Q", tooltip=tooltip)
