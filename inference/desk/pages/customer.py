"""One customer: score, reasons, recommended actions, events, and what would change the score."""

from html import escape
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from inference.desk import charts, components, data, timeline
from inference.desk.format import day, money, percent, plain, points
from inference.desk.scores import Scores
from inference.errors import ChurnRadarError
from inference.pseudonyms import pseudonym

if TYPE_CHECKING:
    from inference.desk.what_if import Answer, WhatIf

#: Events that are listed.
MAX_LISTED = 40
#: Smaller differences of two probabilities are written as 0.0 points.
MIN_CHANGE = 0.0005


def show() -> None:
    """Draw the page."""
    scores = components.scores()
    asked = st.text_input(
        "Customer id",
        placeholder="the whole id, as in the list of customers",
        key="id",
        bind="query-params",
        width=420,
    ).strip()
    if not asked:
        components.heading("One customer", "Enter an id, or choose somebody from the list of customers.")
        return
    row = scores.customer(asked)
    if row is None and components.settings().pseudonymise:
        row = scores.customer(pseudonym(asked))
    if row is None:
        before = timeline.scores(asked)
        known = f"; the last score is of {day(before.as_of_date.iloc[-1])}" if len(before) else ""
        components.line(
            f"Customer {asked} has no score as of {day(scores.as_of)}{known}; expected the id of a customer who "
            f"ordered lately, as in the list of customers."
        )
        return
    _score(row, scores)
    _actions(row)
    events = _life(row)
    _what_if(row, events is not None)
    if events is not None and len(events):
        components.section("What happened", f"The newest {min(MAX_LISTED, len(events))} of {len(events):,}.")
        components.plain_table(
            ("When", "What", "Details"),
            [(day(e.happened_at), e.kind, e.about) for e in events.head(MAX_LISTED).itertuples()],
            wraps=True,
        )


def _score(row: pd.Series, scores: Scores) -> None:
    components.heading(
        f"Customer {row.customer_id}",
        f"As of {day(row.as_of_date)}: no order in the next {row.horizon_days} days; "
        f"model version {row.model_version}, scored {row.scored_at:%Y-%m-%d %H:%M} UTC.",
        row.as_of_date.date(),
    )
    change = "" if pd.isna(row.change) else f"{points(row.change)} points since last week"
    figures = (
        ("Churn probability", percent(row.churn_probability), change),
        ("Risk band", row.risk_band, ""),
        ("Riskier than", percent(row.risk_percentile), "of the customers"),
        ("Spends if retained", money(row.expected_spend), f"in {row.horizon_days} days"),
        ("Value at risk", money(row.value_at_risk), "probability times spend"),
    )
    components.cards(figures)
    reasons = [reason for reason in (row.reason_1, row.reason_2, row.reason_3) if isinstance(reason, str)]
    items = "".join(f"<li>{escape(reason)}</li>" for reason in reasons)
    members = {"transformer": row.transformer_probability, "boosting": row.boosting_probability}
    members["logistic regression"] = row.logistic_probability
    by_member = ", ".join(f"{name} {percent(p)}" for name, p in members.items() if pd.notna(p))
    components.section(
        "Why", f"What influenced the score most. Members of the average, before its level is adjusted: {by_member}."
    )
    st.html(f'<ol class="reasons">{items}</ol>')


def _actions(row: pd.Series) -> None:
    rows = timeline.actions(row.customer_id, row.as_of_date)
    if rows.empty:
        return
    components.section("What to do", "Expected profit of each action, in the shop's currency.")
    components.plain_table(
        ("Action", "Channel", "Expected profit", "95 % interval", "Why"),
        [
            (
                plain(a.action),
                a.channel or "",
                money(a.expected_profit),
                f"{money(a.expected_profit_low)} to {money(a.expected_profit_high)}",
                a.reason or "",
            )
            for a in rows.itertuples()
        ],
        wraps=True,
    )


def _life(row: pd.Series) -> pd.DataFrame | None:
    """Draw score and events over time; return the events, None if no build has packed them."""
    scores, packed = timeline.scores(row.customer_id), timeline.history(row.customer_id)
    left, right = st.columns(2, gap="large")
    with left:
        components.section("The score over time", "Churn probability at each date that was scored.")
        if len(scores) > 1:
            components.chart(charts.score_over_time(scores), 230)
        else:
            components.line("Scored once so far: the line begins with the next build.")
    with right:
        components.section("The life of the customer", "Point at an event for details.")
        if packed is None:
            components.line(f"{data.exported('online_histories')} has no row of this customer; run dbt build.")
            return None
        events = timeline.events(packed, timeline.quotes(row.customer_id))
        components.chart(charts.life(events), 230)
    return events


def _what_if(row: pd.Series, known: bool) -> None:
    components.section(
        "What would change the score",
        "Scores of the same customer if one thing had been different the day before. "
        "They show correlations of the past, not effects: those of campaigns are on the page Experiment.",
    )
    if not known:
        components.line("Unknown without the history of the customer; run dbt build.")
        return
    try:
        answer = components.cached(
            _changes, row.customer_id, files=[data.exported("online_histories"), data.exported("online_shop")]
        )
    except ChurnRadarError as error:
        components.line(str(error))
        return
    if answer is None or answer.as_of != row.as_of_date.date() or answer.model_version != row.model_version:
        components.line(
            "The last build has another date or model than this score; run dbt build and open the page again."
        )
        return
    now = answer.churn_probability
    rows = [("now", "as it is", now, percent(now))]
    for change, probability in answer.changes.items():
        difference = probability - now
        kind = "same" if abs(difference) < MIN_CHANGE else "better" if difference < 0 else "worse"
        rows.append((kind, f"if {change}", probability, f"{percent(probability)} ({points(difference)})"))
    components.bars(rows)


def _changes(customer_id: str) -> "Answer | None":
    with st.spinner("Loading the model; the first time takes some seconds"):
        return _engine(data.written_at(data.exported("online_shop"))).answer(customer_id)


@st.cache_resource(show_spinner=False, max_entries=1)
def _engine(written_at: tuple) -> "WhatIf":
    from inference.desk.what_if import WhatIf  # takes seconds

    return WhatIf.load()
