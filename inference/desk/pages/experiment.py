"""The experiment: customers who were contacted compared with those held out, and the profit of a contact."""

import pandas as pd
import pyarrow as pa
import streamlit as st

from inference.desk import components, data
from inference.desk.format import csv, day, money, percent, plain, points
from inference.home import published
from inference.reporting.charts import intervals

#: Campaign or segment that stands for all.
ALL = "all"
NOBODY = (
    "No experiment yet: {file} is not there or empty. Hold some customers of a campaign out (action holdout in "
    "campaign_touches), wait for the horizon to pass, then run dbt build."
)


def show() -> None:
    """Draw the page."""
    min_group = components.settings().min_group
    results = components.cached(data.experiment, files=[published("retention_experiment_results")])
    components.heading(
        "Experiment", "What contacts change: customers who were contacted compared with those held out at random."
    )
    if results is None:
        components.line(NOBODY.format(file=published("retention_experiment_results")))
    else:
        _results(results, min_group)
    _recommended(min_group)


def _results(results: pd.DataFrame, min_group: int) -> None:
    left, right, download = st.columns([2, 2, 1], vertical_alignment="bottom")
    campaign = left.selectbox("Campaign", _all_first(results.campaign_id), format_func=_name)
    segment = right.selectbox("Customers", _all_first(results.segment), format_func=_name)
    chosen = results[(results.campaign_id == campaign) & (results.segment == segment)]
    shown, small = data.hide_small(chosen, ["contacts", "holdouts"], min_group)
    open_results = data.hide_small(results, ["contacts", "holdouts"], min_group)[0]
    download.download_button(
        "Download as CSV",
        csv(pa.Table.from_pandas(open_results, preserve_index=False)),
        "retention_experiment_results.csv",
        "text/csv",
        on_click="ignore",
        width="stretch",
    )
    components.hidden_groups(small, min_group)
    if shown.empty:
        if not small:
            components.line("No contacts of this kind yet: choose another campaign or other customers.")
        return
    through = pd.to_datetime(shown.through_date).max()
    components.section(
        "Customers kept by a contact",
        f"Churn rate of those held out minus that of those contacted, until {day(through)}.",
    )
    height = 60 + 45 * len(shown)
    components.chart(intervals(_estimates(shown, "effect"), "customers kept per contact", "+.1%"), height)
    components.section(
        "Profit of a contact", "Spend of the customers kept minus the cost of contacts, in the shop's currency."
    )
    profit = _estimates(shown, "profit", "profit_per_contact").dropna(subset=["value"])
    if profit.empty:
        components.line("No profit is known: contacts have no cost, or customers no expected spend.")
    else:
        components.chart(intervals(profit, "profit per contact", "+.2f"), height)
    components.plain_table(
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
                plain(r.action),
                f"{r.contacts:,}",
                f"{r.holdouts:,}",
                percent(r.churn_rate_contacted),
                percent(r.churn_rate_holdout),
                f"{points(r.effect)} points",
                f"{points(r.effect_low)} to {points(r.effect_high)}",
                _verdict(r.effect_low, r.effect_high),
            )
            for r in shown.itertuples()
        ],
    )


def _recommended(min_group: int) -> None:
    components.section("What is recommended now", "Customers and expected profit by action.")
    counted = components.cached(data.recommended, files=[published("retention_actions")])
    if counted is None:
        components.line(
            f"No recommendations yet: {published('retention_actions')} is not there or empty; run dbt build."
        )
        return
    shown, small = data.hide_small(counted, ["customers"], min_group)
    components.hidden_groups(small, min_group)
    components.plain_table(
        ("Action", "Customers", "Expected profit", "Cost of contacts"),
        [
            (plain(row.action), f"{row.customers:,}", money(row.expected_profit), money(row.contact_cost))
            for row in shown.itertuples()
        ],
    )


def _estimates(rows: pd.DataFrame, name: str, value: str | None = None) -> pd.DataFrame:
    columns = {value or name: "value", f"{name}_low": "low", f"{name}_high": "high"}
    return rows[list(columns)].rename(columns=columns).assign(name=rows.action.map(plain))


def _verdict(low: float, high: float) -> str:
    if pd.isna(low) or low <= 0 <= high:
        return "no clear effect"
    return "keeps customers" if low > 0 else "loses customers"


def _all_first(values: pd.Series) -> list[str]:
    return sorted(values.dropna().unique(), key=lambda value: (value != ALL, value))


def _name(value: str) -> str:
    return "all together" if value == ALL else value
