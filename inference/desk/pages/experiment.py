"""The experiment: customers who were contacted beside those who were held out, and what a contact earns."""

import pandas as pd
import streamlit as st

from inference.desk import components as parts
from inference.desk import data
from inference.home import published
from inference.reporting.charts import intervals

#: How tables and charts call what stands for all.
ALL = "all"
NOBODY = (
    "No experiment yet: {file} is not there or empty. Hold some customers of a campaign out (action holdout in "
    "campaign_touches), wait for the horizon to pass, then run dbt build."
)


def show() -> None:
    """Draw the page."""
    least = parts.settings().min_group
    results = parts.fresh(data.experiment, of=[published("retention_experiment_results")])
    parts.heading(
        "Experiment", "What contacts change: customers who were contacted beside those who were held out by chance."
    )
    if results is None:
        parts.line(NOBODY.format(file=published("retention_experiment_results")))
    else:
        _results(results, least)
    _recommended(least)


def _results(results: pd.DataFrame, least: int) -> None:
    left, right, download = st.columns([2, 2, 1], vertical_alignment="bottom")
    campaign = left.selectbox("Campaign", _all_first(results.campaign_id), format_func=_name)
    segment = right.selectbox("Customers", _all_first(results.segment), format_func=_name)
    asked = results[(results.campaign_id == campaign) & (results.segment == segment)]
    shown, small = data.hide_small(asked, ["contacts", "holdouts"], least)
    download.download_button(
        "Download as CSV",
        data.hide_small(results, ["contacts", "holdouts"], least)[0].to_csv(index=False),
        "retention_experiment_results.csv",
        "text/csv",
        on_click="ignore",
        width="stretch",
    )
    parts.hidden(small, least)
    if shown.empty:
        if not small:
            parts.line("No contacts of this kind yet: choose another campaign or other customers.")
        return
    through = pd.to_datetime(shown.through_date).max()
    parts.section(
        "Customers kept by a contact",
        f"Churn of those held out less churn of those contacted, until {parts.day(through)}.",
    )
    height = 60 + 45 * len(shown)
    parts.chart(intervals(_estimates(shown, "effect"), "customers kept per contact", "+.1%"), height)
    parts.section("Profit of a contact", "What kept customers spend less what contacts cost, in the shop's currency.")
    profit = _estimates(shown, "profit", "profit_per_contact").dropna(subset=["value"])
    if profit.empty:
        parts.line("No profit is known: contacts have no cost, or customers no expected spend.")
    else:
        parts.chart(intervals(profit, "profit per contact", "+.2f"), height)
    parts.plain_table(
        (
            "Action",
            "Contacted",
            "Held out",
            "Left, contacted",
            "Left, held out",
            "Kept by a contact",
            "95 % interval",
            "Verdict",
        ),
        [
            (
                parts.plain(r.action),
                f"{r.contacts:,}",
                f"{r.holdouts:,}",
                parts.percent(r.churn_rate_contacted),
                parts.percent(r.churn_rate_holdout),
                f"{parts.points(r.effect)} points",
                f"{parts.points(r.effect_low)} to {parts.points(r.effect_high)}",
                _verdict(r.effect_low, r.effect_high),
            )
            for r in shown.itertuples()
        ],
    )


def _recommended(least: int) -> None:
    parts.section("What is recommended now", "Customers by action, and what it is expected to bring.")
    counted = parts.fresh(data.recommended, of=[published("retention_actions")])
    if counted is None:
        parts.line(f"No recommendations yet: {published('retention_actions')} is not there or empty; run dbt build.")
        return
    shown, small = data.hide_small(counted, ["customers"], least)
    parts.hidden(small, least)
    parts.plain_table(
        ("Action", "Customers", "Expected profit", "Cost of contacts"),
        [
            (parts.plain(row.action), f"{row.customers:,}", _money(row.expected_profit), _money(row.contact_cost))
            for row in shown.itertuples()
        ],
    )


def _estimates(rows: pd.DataFrame, name: str, value: str | None = None) -> pd.DataFrame:
    columns = {value or name: "value", f"{name}_low": "low", f"{name}_high": "high"}
    return rows[list(columns)].rename(columns=columns).assign(name=rows.action.map(parts.plain))


def _verdict(low: float, high: float) -> str:
    if pd.isna(low) or low <= 0 <= high:
        return "not told from chance"
    return "keeps customers" if low > 0 else "loses customers"


def _all_first(values: pd.Series) -> list[str]:
    return sorted(values.dropna().unique(), key=lambda value: (value != ALL, value))


def _name(value: str) -> str:
    return "all together" if value == ALL else value


def _money(value: float) -> str:
    return "unknown" if pd.isna(value) else f"{value:,.2f}"
