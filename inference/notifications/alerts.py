"""Alerts of ``churn_alerts`` and the text of a digest; customers appear as pseudonyms unless ids are asked for."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import pyarrow.parquet as pq

from inference.errors import ChurnRadarError
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
    """One row of ``churn_alerts``, without a customer's id.

    Parameters
    ----------
    alert_id : str
        Salted hash of the table's ``alert_id``, which holds customer ids.
    as_of_date : date
        Date of the scores.
    kind : str
        One of ``HEADINGS``.
    customer : str, optional
        Pseudonym of the customer.
    subject : str, optional
        Segment or feature.
    value_at_risk : float, optional
        In the shop's currency.
    message : str
        What happened, in one sentence.
    """

    alert_id: str
    as_of_date: date
    kind: str
    customer: str | None
    subject: str | None
    value_at_risk: float | None
    message: str


def read_alerts(today: date) -> list[Alert]:
    """Read the published alerts that hold today.

    Parameters
    ----------
    today : date
        In UTC. An alert of stale scores is published ahead of the day on which it starts to hold.

    Raises
    ------
    ChurnRadarError
        If dbt has not published the table yet.
    """
    file = published("churn_alerts")
    if not file.exists():
        raise ChurnRadarError(f"{file}: no scores yet, and so no alerts; run dbt build first")
    return [
        Alert(
            alert_id=salted_hash("alert", row["alert_id"]),
            customer=_pseudonym(row["customer_id"]) if row["customer_id"] is not None else None,
            **{name: row[name] for name in ("as_of_date", "kind", "subject", "value_at_risk", "message")},
        )
        for row in pq.read_table(file).to_pylist()
        if row["holds_from"] <= today
    ]


def customer_ids(pseudonyms: Collection[str]) -> dict[str, str]:
    """Ids by pseudonym, of the scored customers whose pseudonyms are asked for."""
    scored = pq.read_table(published("churn_scores"), columns=["customer_id"])["customer_id"].unique()
    return {name: customer_id for customer_id in scored.to_pylist() if (name := _pseudonym(customer_id)) in pseudonyms}


def write_title(alerts: Sequence[Alert]) -> str:
    """Title of a digest: its date and the number of alerts of each kind."""
    counts = ", ".join(_count(kind, len(group)) for kind, group in _by_kind(alerts).items())
    return f"Churn Radar, {max(alert.as_of_date for alert in alerts)}: {counts}"


def write_body(alerts: Sequence[Alert], key: str, top: int, max_characters: int, names: Mapping[str, str]) -> str:
    """Write the digest's text.

    Parameters
    ----------
    alerts : sequence of Alert
        All of the digest.
    key : str
        Its idempotency key, for the last line.
    top : int
        Maximum of each kind to list, those with the most value at risk first; the others are counted.
    max_characters : int
        Maximum length; fewer alerts are listed to keep to it.
    names : mapping of str to str
        What to show instead of pseudonyms.
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
