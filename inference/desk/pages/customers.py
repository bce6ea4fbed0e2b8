"""The ranked list: who, how likely, what is at stake and why; filtered, sorted and paged before it is sent."""

import streamlit as st

from inference.desk import components as parts
from inference.desk.scores import BANDS, ORDERS, Filters, Scores

#: Customers on a page.
PAGE_SIZE = 25


def show() -> None:
    """Draw the page."""
    scores, least = parts.scores(), parts.settings().min_group
    parts.heading(
        "Customers",
        f"{scores.customers:,} customers scored as of {parts.day(scores.as_of)}, the most urgent first.",
    )
    filters, order = _asked(scores)
    customers, value = scores.total(filters)
    found, download = st.columns([3, 1], vertical_alignment="center")
    with found:
        if customers == 0:
            parts.line("Nobody passes these filters: loosen one of them.")
            return
        at_risk = f", {value:,.2f} at risk" if customers >= least else ""
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
    # another question begins at its first page
    page = st.pagination(pages, key=f"page of {filters} {order}") if pages > 1 else 1
    with place.container():
        rows = scores.page(filters, order, page - 1, PAGE_SIZE)
        parts.customers_table(rows, earlier=scores.earlier is not None, actions=bool(scores.actions))


def _asked(scores: Scores) -> tuple[Filters, str]:
    search, bands, sort = st.columns([2, 3, 2], vertical_alignment="bottom")
    customer = search.text_input("Customer id", placeholder="part of an id")
    chosen = bands.pills("Risk band", BANDS, selection_mode="multi")
    order = sort.selectbox("Sorted by", list(ORDERS))
    with st.expander("More filters"):
        words, least, more = st.columns([2, 1, 2], vertical_alignment="bottom")
        reason = words.text_input("Words of a reason", placeholder="such as complaint, or last order")
        value = least.number_input("Least value at risk", min_value=0.0, value=0.0, step=10.0)
        actions = (
            more.multiselect("Recommended action", scores.actions, format_func=parts.plain) if scores.actions else []
        )
        risen = scores.earlier is not None and st.toggle("Only those whose band rose since last week")
    return Filters(tuple(chosen), tuple(actions), customer, reason, value, risen), order
