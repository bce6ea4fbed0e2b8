"""Today's risk: customers and value at risk by band, and changes since last week."""

import pandas as pd
import streamlit as st

from inference.desk import charts, components, data
from inference.desk.format import day
from inference.desk.scores import BANDS, Filters, Scores

#: Customers with a higher band that are listed.
MAX_RISEN = 6


def show() -> None:
    """Draw the page."""
    scores, min_group = components.scores(), components.settings().min_group
    since = f"changes since {day(scores.earlier)}" if scores.earlier else "no scores of a week before yet"
    components.heading(
        "Risk by the newest scores",
        f"As of {day(scores.as_of)}: who will not order in the next {scores.horizon_days} days; {since}.",
        scores.as_of,
    )
    if scores.customers < min_group:
        components.line(f"{scores.customers} customers were scored: figures of fewer than {min_group} are not shown.")
        return
    by_date = scores.by_date()
    dates = pd.to_datetime(by_date.as_of_date)
    now = by_date[dates == pd.Timestamp(scores.as_of)]
    then = by_date[dates == pd.Timestamp(scores.earlier)] if scores.earlier else by_date.head(0)
    if then.customers.sum() < min_group:
        then = then.head(0)
    _figures(now, then)
    left, right = st.columns(2, gap="large")
    with left:
        components.section("Where the value is", "Value at risk by risk band: churn probability times expected spend.")
        _bands(now, then, min_group)
    with right:
        components.section("The last weeks", "Value at risk by risk band and date.")
        _trend(by_date, min_group)
    _risen(scores)


def _figures(now: pd.DataFrame, then: pd.DataFrame) -> None:
    figures = {
        "Customers": lambda table: table.customers.sum(),
        "Expected to leave": lambda table: table.expected_churners.sum(),
        "High or critical": lambda table: table.customers[table.risk_band.isin(BANDS[:2])].sum(),
        "Value at risk": lambda table: table.value_at_risk.sum(),
    }
    cards = []
    for name, count in figures.items():
        change = f"{count(now) - count(then):+,.0f} since last week" if len(then) else ""
        cards.append((name, f"{count(now):,.0f}", change))
    components.cards(cards)


def _bands(now: pd.DataFrame, then: pd.DataFrame, min_group: int) -> None:
    before = then.set_index("risk_band").customers
    shown, small = data.hide_small(now, ["customers"], min_group)
    rows = []
    for row in shown.sort_values("risk_band", key=lambda bands: bands.map(BANDS.index)).itertuples():
        known = before.get(row.risk_band, 0) >= min_group
        change = f" ({row.customers - before[row.risk_band]:+,})" if known else ""
        name = f"{row.risk_band}: {row.customers:,} customers{change}"
        rows.append((row.risk_band, name, row.value_at_risk / shown.value_at_risk.max(), f"{row.value_at_risk:,.0f}"))
    components.bars(rows)
    components.hidden_groups(small, min_group)


def _trend(by_date: pd.DataFrame, min_group: int) -> None:
    shown, _ = data.hide_small(by_date, ["customers"], min_group)
    if shown.as_of_date.nunique() < 2:
        components.line("One date was scored so far: the trend begins with the next build.")
        return
    components.chart(charts.trend(shown.assign(place=[-BANDS.index(band) for band in shown.risk_band])), 240)


def _risen(scores: Scores) -> None:
    title = "Moved to a higher band since last week"
    if scores.earlier is None:
        components.section(title)
        components.line("No scores of a week before: build a week's scores to see who moved.")
        return
    risen = Filters(bands=BANDS[:2], only_risen=True)
    number, _ = scores.total(risen)
    if not number:
        components.section(title)
        components.line("Nobody moved to the bands high or critical.")
        return
    components.section(title, f"{number:,} customers moved to high or critical; those with the highest value at risk:")
    rows = scores.page(risen, "value at risk", 0, MAX_RISEN)
    components.customers_table(rows, earlier=True, actions=bool(scores.actions))
