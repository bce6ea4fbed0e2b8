"""The list of customers with risk, value and reasons; filtered, sorted and paged."""

import streamlit as st

from inference.desk import components
from inference.desk.format import day, plain
from inference.desk.scores import BANDS, ORDERS, Filters, Scores

#: Customers on a page.
PAGE_SIZE = 25


def show() -> None:
    """Draw the page."""
    scores, min_group = components.scores(), components.settings().min_group
    components.heading(
        "Customers",
        f"{scores.customers:,} customers scored as of {day(scores.as_of)}, the most urgent first.",
        scores.as_of,
    )
    filters, order = _filters(scores)
    customers, value = scores.total(filters)
    summary, download = st.columns([3, 1], vertical_alignment="center")
    with summary:
        if customers == 0:
            components.line("Nobody passes these filters: loosen one of them.")
            return
        at_risk = f", {value:,.2f} at risk" if customers >= min_group else ""
        st.html(f'<p class="lead" id="found"><b>{customers:,}</b> customers{at_risk}</p>')
    with download:
        st.download_button(
            "Download as CSV",
            lambda: scores.csv(filters, order),
            f"churn_scores_{scores.as_of:%Y-%m-%d}.csv",
            "text/csv",
            on_click="ignore",
            width="stretch",
        )
    pages = -(-customers // PAGE_SIZE)
    place = st.empty()
    # new filters begin at the first page
    page = st.pagination(pages, key=f"page of {filters} {order}") if pages > 1 else 1
    with place.container():
        rows = scores.page(filters, order, page - 1, PAGE_SIZE)
        components.customers_table(rows, earlier=scores.earlier is not None, actions=bool(scores.actions))


def _filters(scores: Scores) -> tuple[Filters, str]:
    search, bands, sort = st.columns([2, 3, 2], vertical_alignment="bottom")
    customer = search.text_input("Customer id", placeholder="part of an id")
    chosen = bands.pills("Risk band", BANDS, selection_mode="multi")
    order = sort.selectbox("Sorted by", list(ORDERS))
    with st.expander("More filters"):
        words, minimum, more = st.columns([2, 1, 2], vertical_alignment="bottom")
        reason = words.text_input("Words of a reason", placeholder="such as complaint, or last order")
        value = minimum.number_input("Minimal value at risk", min_value=0.0, value=0.0, step=10.0)
        actions = more.multiselect("Recommended action", scores.actions, format_func=plain) if scores.actions else []
        risen = scores.earlier is not None and st.toggle("Only those whose band rose since last week")
    return Filters(tuple(chosen), tuple(actions), customer, reason, value, risen), order
