"""Parts that several pages share: cached results, headings, lines, cards, tables and bars."""

from collections.abc import Callable, Sequence
from datetime import date
from html import escape
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import altair as alt
import pandas as pd
import streamlit as st

from inference.desk import data
from inference.desk.format import money, percent, plain, points
from inference.desk.scores import Scores, open_scores
from inference.home import old_scores, published

Result = TypeVar("Result")


def cached(function: Callable[..., Result], *arguments: object, files: Sequence[Path]) -> Result:
    """Call a function, or return its earlier result if none of the files was written since."""
    return _cached(function, f"{function.__module__}.{function.__qualname__}", data.written_at(*files), arguments)


@st.cache_data(show_spinner=False, max_entries=500)
def _cached(_function: Callable[..., Result], name: str, written_at: tuple, arguments: tuple) -> Result:
    return _function(*arguments)


def scores() -> Scores:
    """Return the newest scores."""
    return _scores(data.written_at(published("churn_scores"), published("retention_actions")))


# one entry: a visitor whose page still shows older scores keeps a reference to them
@st.cache_resource(show_spinner="Reading the newest scores", max_entries=1)
def _scores(written_at: tuple) -> Scores:
    return open_scores()


def settings() -> data.ShopSettings:
    """Return settings of the last build."""
    return cached(data.shop_settings, files=[data.exported("online_shop")])


def navigation(pages: Sequence[str]) -> str:
    """Show the names of the pages; return the selected one: by a click, the address, or the first."""
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        st.html('<span class="brand">Churn Radar</span>', width="content")
        return st.segmented_control(
            "Page",
            pages,
            default=pages[0],
            key="page",
            required=True,
            label_visibility="collapsed",
            bind="query-params",
            wrap=True,
        )


def heading(title: str, lead: str, as_of: date | None = None) -> None:
    """Begin a page; markup in the texts is escaped. A page of scores says when they are old."""
    old = old_scores(as_of) if as_of else None
    note = f'<p class="old" role="alert">{escape(old)}</p>' if old else ""
    st.html(f'<h1 class="title">{escape(title)}</h1><p class="lead">{escape(lead)}</p>{note}')


def section(title: str, lead: str = "") -> None:
    """Begin a section of a page, with an explanation of how to read it."""
    st.html(f'<h2 class="section">{escape(title)}</h2>' + (f'<p class="lead">{escape(lead)}</p>' if lead else ""))


def line(text: str) -> None:
    """Show one line, such as what is missing or why something is not shown."""
    st.html(f'<p class="line" role="status">{escape(text)}</p>')


def hidden_groups(number: int, min_group: int) -> None:
    """Show how many groups are too small to be shown, if any."""
    if number:
        groups = "1 group is" if number == 1 else f"{number} groups are"
        line(f"{groups} not shown: fewer than {min_group} customers, the minimum set by churn__min_group.")


def cards(figures: Sequence[tuple[str, str, str]]) -> None:
    """Show figures side by side: name, value and explanation of each."""
    drawn = "".join(
        f'<div class="card"><div class="name">{escape(name)}</div><div class="value">{escape(value)}</div>'
        f'<div class="about">{escape(about)}</div></div>'
        for name, value, about in figures
    )
    st.html(f'<div class="cards">{drawn}</div>')


def chart(drawn: alt.Chart | alt.LayerChart, height: int) -> None:
    """Show a chart as wide as the page."""
    st.altair_chart(drawn.properties(height=height), width="stretch")


def customers_table(rows: pd.DataFrame, earlier: bool, actions: bool) -> None:
    """Show rows of ``Scores``, each linked to the customer's page.

    ``earlier`` and ``actions`` are whether to show changes since the week before, and recommended actions.
    """
    headings = ["Customer", "Churn", "Band", "At risk"]
    headings += ["Since last week"] * earlier + ["Action"] * actions + ["Why"]
    body = ""
    for row in rows.itertuples():
        cells = zip(headings, _cells(row, earlier, actions), strict=True)
        body += "<tr>" + "".join(f'<td data-name="{name}">{cell}</td>' for name, cell in cells) + "</tr>"
    head = "".join(f"<th>{name}</th>" for name in headings)
    st.html(f'<table class="customers"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>')


def _cells(row: Any, earlier: bool, actions: bool) -> list[str]:
    reasons = [reason for reason in (row.reason_1, row.reason_2, row.reason_3) if isinstance(reason, str)]
    cells = [
        f'<a href="?page=Customer&amp;id={quote(row.customer_id, safe="")}">{escape(row.customer_id)}</a>',
        percent(row.churn_probability),
        f'<span class="band {escape(row.risk_band)}">{escape(row.risk_band)}</span>',
        money(row.value_at_risk),
    ]
    if earlier:
        cells.append(points(row.change) or "new")
    if actions:
        cells.append(escape(plain(row.action)))
    return [*cells, "<br>".join(escape(reason) for reason in reasons)]


def plain_table(headings: Sequence[str], rows: Sequence[Sequence[str]], wraps: bool = False) -> None:
    """Show a table of texts, in which markup is escaped; ``wraps`` is whether the last column holds sentences."""
    head = "".join(f"<th>{escape(name)}</th>" for name in headings)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    kind = "plain wraps" if wraps else "plain"
    table = f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    st.html(f'<div class="scroll">{table}</div>')


def bars(rows: Sequence[tuple[str, str, float, str]]) -> None:
    """Show horizontal bars: CSS class of the colour in desk.css, name, length from 0 to 1, and figure of each."""
    drawn = ""
    for kind, name, share, figure in rows:
        fill = f'<div class="fill" style="width: {100 * share:.1f}%"></div>'
        drawn += f'<div class="what">{escape(name)}</div><div class="track {kind}">{fill}</div>'
        drawn += f'<div class="figure">{escape(figure)}</div>'
    st.html(f'<div class="bars">{drawn}</div>')
