"""What several pages are made of: cached answers, plain lines, headings, the table of customers."""

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import altair as alt
import pandas as pd
import streamlit as st

from inference.desk import data
from inference.desk.scores import Scores, open_scores
from inference.errors import ChurnRadarError
from inference.home import published

Answer = TypeVar("Answer")


def fresh(function: Callable[..., Answer], *arguments: object, of: Sequence[Path]) -> Answer:
    """Call a function, or return what it answered before if none of its files was written since."""
    return _kept(function, f"{function.__module__}.{function.__qualname__}", data.stamp(*of), arguments)


@st.cache_data(show_spinner=False, max_entries=500)
def _kept(_function: Callable, name: str, stamps: tuple, arguments: tuple) -> object:
    return _function(*arguments)


def scores() -> Scores:
    """Return the newest scores.

    Raises
    ------
    ChurnRadarError
        If there are none.
    """
    return _scores(data.stamp(published("churn_scores"), published("retention_actions")))


# the newest is enough: whoever still draws from an older one holds it
@st.cache_resource(show_spinner="Reading the newest scores", max_entries=1)
def _scores(stamps: tuple) -> Scores:
    return open_scores()


def settings() -> data.ShopSettings:
    """Return what the last build says of the shop."""
    return fresh(data.shop_settings, of=[data.exported("online_shop")])


def navigation(pages: Sequence[str]) -> str:
    """Show the names of the pages; return the one that the address or a click asks for, else the first."""
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


def draw(show: Callable[[], None]) -> None:
    """Draw a page; what is missing or wrong becomes a line on it."""
    try:
        show()
    except ChurnRadarError as error:
        line(str(error))


def heading(title: str, lead: str) -> None:
    """Begin a page; neither text is read as mark-up."""
    st.html(f'<h1 class="title">{escape(title)}</h1><p class="lead">{escape(lead)}</p>')


def section(title: str, lead: str = "") -> None:
    """Begin a part of a page: what it shows, and how it is read."""
    st.html(f'<h2 class="section">{escape(title)}</h2>' + (f'<p class="lead">{escape(lead)}</p>' if lead else ""))


def line(text: str) -> None:
    """Say in one line what is missing, or why something is not shown."""
    st.html(f'<p class="line" role="status">{escape(text)}</p>')


def hidden(number: int, least: int) -> None:
    """Say how many groups are too small to be shown, where any is."""
    if number:
        groups = "1 group is" if number == 1 else f"{number} groups are"
        line(f"{groups} not shown: fewer than {least} customers, the least of churn__min_group.")


def cards(figures: Sequence[tuple[str, str, str]]) -> None:
    """Show figures side by side.

    Parameters
    ----------
    figures : sequence of (str, str, str)
        What each is, its value, and what else is told of it.
    """
    drawn = "".join(
        f'<div class="card"><div class="name">{escape(name)}</div><div class="value">{escape(value)}</div>'
        f'<div class="about">{escape(about)}</div></div>'
        for name, value, about in figures
    )
    st.html(f'<div class="cards">{drawn}</div>')


def chart(drawn: alt.Chart | alt.LayerChart, height: int) -> None:
    """Show a chart as wide as the page."""
    st.altair_chart(drawn.properties(height=height), width="stretch")


def day(moment: pd.Timestamp) -> str:
    """Write a date as people say it."""
    return f"{moment.day} {moment:%B %Y}"


def percent(share: float) -> str:
    """Write a share with one digit, as in 12.3 %."""
    return f"{share:.1%}".replace("%", " %")


def plain(name: str | None) -> str:
    """Write a name of a table, such as service_call, as people say it."""
    return name.replace("_", " ") if isinstance(name, str) else "none"


def points(difference: float) -> str:
    """Write a difference of two shares in points of a percent, with its sign."""
    return "" if pd.isna(difference) else f"{round(100 * difference, 1) + 0.0:+.1f}"  # no minus before nothing


def customers_table(rows: pd.DataFrame, earlier: bool, actions: bool) -> None:
    """Show customers with their risk, what is at stake and why; each leads to their page.

    Parameters
    ----------
    rows : DataFrame
        Rows of ``Scores``.
    earlier, actions : bool
        Whether there are scores of a week before, and recommended actions.
    """
    headings = ["Customer", "Churn", "Band", "At risk"]
    headings += ["Since last week"] * earlier + ["Action"] * actions + ["Why"]
    body = ""
    for row in rows.itertuples():
        cells = zip(headings, _cells(row, earlier, actions), strict=True)
        body += "<tr>" + "".join(f'<td data-name="{name}">{cell}</td>' for name, cell in cells) + "</tr>"
    head = "".join(f"<th>{name}</th>" for name in headings)
    st.html(f'<table class="customers"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>')


def _cells(row: object, earlier: bool, actions: bool) -> list[str]:
    reasons = [reason for reason in (row.reason_1, row.reason_2, row.reason_3) if isinstance(reason, str)]
    cells = [
        f'<a href="?page=Customer&amp;id={quote(row.customer_id, safe="")}">{escape(row.customer_id)}</a>',
        percent(row.churn_probability),
        badge(row.risk_band),
        f"{row.value_at_risk:,.2f}",
    ]
    if earlier:
        cells.append(points(row.change) or "new")
    if actions:
        cells.append(escape(plain(row.action)))
    return [*cells, "<br>".join(escape(reason) for reason in reasons)]


def badge(band: str) -> str:
    """Return the HTML of a risk band in its colour."""
    return f'<span class="band {escape(band)}">{escape(band)}</span>'


def plain_table(headings: Sequence[str], rows: Sequence[Sequence[str]], wraps: bool = False) -> None:
    """Show a table of texts.

    Parameters
    ----------
    headings : sequence of str
        Names of the columns.
    rows : sequence of sequences of str
        Their cells; none is read as mark-up.
    wraps : bool
        Whether the last column holds sentences.
    """
    head = "".join(f"<th>{escape(name)}</th>" for name in headings)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    kind = "plain wraps" if wraps else "plain"
    table = f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    st.html(f'<div class="scroll">{table}</div>')


def bars(rows: Sequence[tuple[str, str, float, str]]) -> None:
    """Show shares of something as bars below each other.

    Parameters
    ----------
    rows : sequence of (str, str, float, str)
        Kind, which desk.css gives a colour; name; length, 0 to 1; and figure.
    """
    drawn = ""
    for kind, name, share, figure in rows:
        fill = f'<div class="fill" style="width: {100 * share:.1f}%"></div>'
        drawn += f'<div class="what">{escape(name)}</div><div class="track {kind}">{fill}</div>'
        drawn += f'<div class="figure">{escape(figure)}</div>'
    st.html(f'<div class="bars">{drawn}</div>')
