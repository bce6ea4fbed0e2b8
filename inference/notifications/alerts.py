"""Alerts of ``churn_alerts`` and the text of a digest; customers appear as pseudonyms unless ids are asked for."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import pyarrow.parquet as pq

from inference.errors import ChurnRadarError, reading
from inference.home import published
from inference.pseudonyms import PSEUDONYM, pseudonym, salted_hash

#: Headings by kind, in the order of a digest: of one alert, and of several.
HEADINGS = {
    "stale_scores": ("scores too old", "scores too old"),
    "customer_risk": ("1 customer at higher risk", "{:,} customers at higher risk"),
    "segment_risk": ("1 segment at higher risk", "{:,} segments at higher risk"),
    "score_drift": ("scores drifted", "scores drifted"),
    "feature_drift": ("1 feature drifted", "{:,} features drifted"),
}
#: Leading characters of a pseudonym that are shown; enough to distinguish customers.
PSEUDONYM_CHARACTERS = 14


@dataclass(frozen=True)
class Alert:
    """One row of ``churn_alerts``, without a customer's id."""

    #: Salted hash of the table's ``alert_id``, which holds customer ids.
    alert_id: str
    #: Date of the scores.
    as_of_date: date
    #: One of ``HEADINGS``.
    kind: str
    #: Pseudonym of the customer.
    customer: str | None
    #: Segment or feature.
    subject: str | None
    value_at_risk: float | None
    message: str


def read_alerts(today: date) -> list[Alert]:
    """Read the published alerts that hold today (UTC); one of stale scores is published ahead of its first day.

    Raises a ChurnRadarError where nothing was published yet.
    """
    file = published("churn_alerts")
    if not file.exists():
        raise ChurnRadarError(f"{file}: no scores yet, and so no alerts; run dbt build first")
    with reading(file):
        rows = pq.read_table(file).to_pylist()
    return [
        Alert(
            alert_id=salted_hash("alert", row["alert_id"]),
            customer=_pseudonym(row["customer_id"]) if row["customer_id"] is not None else None,
            **{name: row[name] for name in ("as_of_date", "kind", "subject", "value_at_risk", "message")},
        )
        for row in rows
        if row["holds_from"] <= today
    ]


def customer_ids(pseudonyms: Collection[str]) -> dict[str, str]:
    """Ids by pseudonym, of the scored customers whose pseudonyms are asked for."""
    with reading(file := published("churn_scores")):
        scored = pq.read_table(file, columns=["customer_id"])["customer_id"].unique()
    return {name: customer_id for customer_id in scored.to_pylist() if (name := _pseudonym(customer_id)) in pseudonyms}


def write_title(alerts: Sequence[Alert]) -> str:
    """Title of a digest: its date and the number of alerts of each kind."""
    counts = ", ".join(_count(kind, len(group)) for kind, group in _by_kind(alerts).items())
    return f"Churn Radar, {max(alert.as_of_date for alert in alerts)}: {counts}"


def write_body(alerts: Sequence[Alert], key: str, top: int, max_characters: int, names: Mapping[str, str]) -> str:
    """Write the digest's text, with its idempotency key in the last line.

    Of each kind at most ``top`` alerts are listed, those with the most value at risk first, or fewer to keep to the
    length; the others are counted. ``names`` are shown instead of pseudonyms.
    """
    text = _text(alerts, key, top, names)
    while len(text) > max_characters and top > 0:
        top -= 1
        text = _text(alerts, key, top, names)
    return text


def _text(alerts: Sequence[Alert], key: str, top: int, names: Mapping[str, str]) -> str:
    sections = []
    for kind, group in _by_kind(alerts).items():
        at_risk = sum(alert.value_at_risk or 0 for alert in group)
        heading = _count(kind, len(group)) + (f", {at_risk:,.2f} at risk" if at_risk else "")
        group.sort(key=lambda alert: (-(alert.value_at_risk or 0), alert.subject or "", alert.alert_id))
        lines = [f"- {_line(alert, names)}" for alert in group[:top]]
        more = [f"- and {len(group) - top:,} more"] if len(group) > top else []
        sections.append("\n".join([heading[0].upper() + heading[1:] + ":", *lines, *more]))
    return "\n\n".join([*sections, f"Idempotency-Key: {key}"])


def _line(alert: Alert, names: Mapping[str, str]) -> str:
    subject = alert.subject
    if alert.customer:
        subject = names.get(alert.customer, alert.customer[:PSEUDONYM_CHARACTERS])
    return f"{subject}: {alert.message}" if subject else alert.message


def _by_kind(alerts: Sequence[Alert]) -> dict[str, list[Alert]]:
    groups = {kind: [alert for alert in alerts if alert.kind == kind] for kind in HEADINGS}
    return {kind: group for kind, group in groups.items() if group}


def _count(kind: str, n: int) -> str:
    one, several = HEADINGS[kind]
    return one if n == 1 else several.format(n)


def _pseudonym(customer_id: str) -> str:
    """Pseudonym of a customer, also where staging has replaced the id already."""
    return customer_id if re.fullmatch(PSEUDONYM, customer_id) else pseudonym(customer_id)
