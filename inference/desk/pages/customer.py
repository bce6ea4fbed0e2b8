"""One customer: the score and its reasons, what happened, what was said before, and what would change it."""

from html import escape

import pandas as pd
import streamlit as st

from inference import pseudonyms as salt
from inference.desk import charts, data, timeline
from inference.desk import components as parts
from inference.desk.scores import Scores
from inference.errors import ChurnRadarError

#: Things that happened that are listed.
MOST_LISTED = 40
#: A difference of two probabilities that is written as 0.0 points.
LEAST_CHANGE = 0.0005


def show() -> None:
    """Draw the page."""
    scores = parts.scores()
    asked = st.text_input(
        "Customer id",
        placeholder="the whole id, as in the list of customers",
        key="id",
        bind="query-params",
        width=420,
    ).strip()
    if not asked:
        parts.heading("One customer", "Enter an id, or choose somebody from the list of customers.")
        return
    row = scores.customer(asked)
    if row is None and parts.settings().pseudonymise:
        row = scores.customer(salt.pseudonym(asked))
    if row is None:
        before = timeline.said(asked)
        known = f"; the last score is of {parts.day(before.as_of_date.iloc[-1])}" if len(before) else ""
        parts.line(
            f"Customer {asked} has no score as of {parts.day(scores.as_of)}{known}; expected the id of a customer who "
            f"ordered lately, as in the list of customers."
        )
        return
    _score(row, scores)
    _advice(row)
    happened = _life(row)
    _what_if(row, happened is not None)
    if happened is not None and len(happened):
        parts.section("What happened", f"The newest {min(MOST_LISTED, len(happened))} of {len(happened):,}.")
        parts.plain_table(
            ("When", "What", "Details"),
            [(parts.day(e.happened_at), e.kind, e.about) for e in happened.head(MOST_LISTED).itertuples()],
            wraps=True,
        )


def _score(row: pd.Series, scores: Scores) -> None:
    parts.heading(
        f"Customer {row.customer_id}",
        f"As of {parts.day(row.as_of_date)}: no order in the next {row.horizon_days} days; "
        f"model version {row.model_version}, scored {row.scored_at:%Y-%m-%d %H:%M} UTC.",
    )
    change = "" if pd.isna(row.change) else f"{parts.points(row.change)} points since last week"
    figures = (
        ("Churn probability", parts.percent(row.churn_probability), change),
        ("Risk band", row.risk_band, ""),
        ("Riskier than", parts.percent(row.risk_percentile), "of the customers"),
        ("Spends if retained", f"{row.expected_spend:,.2f}", f"in {row.horizon_days} days"),
        ("Value at risk", f"{row.value_at_risk:,.2f}", "churn x spend"),
    )
    parts.cards(figures)
    reasons = [reason for reason in (row.reason_1, row.reason_2, row.reason_3) if isinstance(reason, str)]
    told = "".join(f"<li>{escape(reason)}</li>" for reason in reasons)
    members = {"transformer": row.transformer_probability, "boosting": row.boosting_probability}
    members["logistic regression"] = row.logistic_probability
    spoken = ", ".join(f"{name} {parts.percent(p)}" for name, p in members.items() if pd.notna(p))
    parts.section("Why", f"What moved the score most. Members of the average, before its level is set: {spoken}.")
    st.html(f'<ol class="reasons">{told}</ol>')


def _advice(row: pd.Series) -> None:
    rows = timeline.advice(row.customer_id, row.as_of_date)
    if rows.empty:
        return
    parts.section("What to do", "What the recommendation expects of each action, in the shop's currency.")
    parts.plain_table(
        ("Action", "Channel", "Expected profit", "95 % interval", "Why"),
        [
            (
                parts.plain(a.action),
                a.channel or "",
                _money(a.expected_profit),
                f"{_money(a.expected_profit_low)} to {_money(a.expected_profit_high)}",
                a.reason or "",
            )
            for a in rows.itertuples()
        ],
        wraps=True,
    )


def _money(value: float) -> str:
    return "unknown" if pd.isna(value) else f"{value:,.2f}"


def _life(row: pd.Series) -> pd.DataFrame | None:
    """Draw score and events over time; return the events, None where no build has packed them."""
    said, packed = timeline.said(row.customer_id), timeline.history(row.customer_id)
    left, right = st.columns(2, gap="large")
    with left:
        parts.section("The score over time", "Churn probability at each date that was scored.")
        if len(said) > 1:
            parts.chart(charts.score_over_time(said), 230)
        else:
            parts.line("Scored once so far: the line begins with the next build.")
    with right:
        parts.section("The life of the customer", "Point at something for details.")
        if packed is None:
            parts.line(f"{data.exported('online_histories')} has no row of this customer; run dbt build.")
            return None
        happened = timeline.happened(packed.history, timeline.quotes(row.customer_id))
        parts.chart(charts.life(happened), 230)
    return happened


def _what_if(row: pd.Series, known: bool) -> None:
    parts.section(
        "What would change the score",
        "The model asked again about the same customer, had one thing been different the day before. "
        "It is what goes together in the past, not a promise: effects of campaigns are on the page Experiment.",
    )
    if not known:
        parts.line("Not known without the history of the customer; run dbt build.")
        return
    try:
        answer = parts.fresh(
            _changes, row.customer_id, of=[data.exported("online_histories"), data.exported("online_shop")]
        )
    except ChurnRadarError as error:
        parts.line(str(error))
        return
    if answer is None or answer.as_of != row.as_of_date.date() or answer.model_version != row.model_version:
        parts.line("The last build was of another date or model than this score; run dbt build to ask again.")
        return
    now = answer.churn_probability
    rows = [("now", "as it is", now, parts.percent(now))]
    for change in answer.changes:
        difference = change.churn_probability - now
        kind = "same" if abs(difference) < LEAST_CHANGE else "better" if difference < 0 else "worse"
        told = f"{parts.percent(change.churn_probability)} ({parts.points(difference)})"
        rows.append((kind, f"if {change.what}", change.churn_probability, told))
    parts.bars(rows)


def _changes(customer_id: str):
    with st.spinner("Asking the model; the first time takes some seconds"):
        return _engine(data.stamp(data.exported("online_shop"))).answer(customer_id)


@st.cache_resource(show_spinner=False, max_entries=1)
def _engine(stamps: tuple):
    from inference.desk.what_if import WhatIf  # takes seconds

    return WhatIf.load()
