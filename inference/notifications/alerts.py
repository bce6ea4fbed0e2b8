"""What ``churn_alerts`` says, and how a digest tells it: customers by their pseudonyms, unless names are asked for."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import pyarrow.parquet as pq

from inference.errors import ChurnRadarError
from inference.home import published
from inference.pseudonyms import PSEUDONYM, pseudonym, salted_hash

#: How many of each kind there are, in the order of a digest: one, several.
COUNTED = {
    "stale_scores": ("scores too old", "scores too old"),
    "customer_risk": ("1 customer at higher risk", "{:,} customers at higher risk"),
    "segment_risk": ("1 segment at higher risk", "{:,} segments at higher risk"),
    "score_drift": ("scores drifted", "scores drifted"),
    "feature_drift": ("1 feature drifted", "{:,} features drifted"),
}
#: As many characters of a pseudonym tell customers apart.
SHOWN = 14


@dataclass(frozen=True)
class Alert:
    """One row of ``churn_alerts``, without anybody's id.

    Parameters
    ----------
    alert_id : str
        Salted hash of the table's ``alert_id``, which could be guessed.
    as_of_date : date
        The date that was scored.
    kind : str
        One of ``COUNTED``.
    customer : str, optional
        Pseudonym of the customer whom it is about.
    subject : str, optional
        Segment or feature that it is about.
    value_at_risk : float, optional
        In the shop's currency.
    message : str
        What happened.
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
        In UTC; scores become too old on a day on which nobody may have built anything.

    Raises
    ------
    ChurnRadarError
        If none were published yet.
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


def customer_ids(wanted: Collection[str]) -> dict[str, str]:
    """Find the ids behind pseudonyms, among all customers who were ever scored."""
    scored = pq.read_table(published("churn_scores"), columns=["customer_id"])["customer_id"].unique()
    found = ((_pseudonym(customer_id), customer_id) for customer_id in scored.to_pylist())
    return {pseudonym: customer_id for pseudonym, customer_id in found if pseudonym in wanted}


def write_title(alerts: Sequence[Alert]) -> str:
    """Say in one line what a digest is about."""
    counts = ", ".join(_count(kind, len(found)) for kind, found in _by_kind(alerts).items())
    return f"Churn Radar, {max(alert.as_of_date for alert in alerts)}: {counts}"


def write_body(alerts: Sequence[Alert], key: str, top: int, most_characters: int, names: Mapping[str, str]) -> str:
    """Write the digest's text.

    Parameters
    ----------
    alerts : sequence of Alert
        All of the digest.
    key : str
        Its idempotency key, which is the last line.
    top : int
        At most so many of each kind are listed, those with the most value at risk; the others are counted.
    most_characters : int
        A longer text lists fewer.
    names : mapping of str to str
        What to call customers instead of their pseudonyms.
    """
    text = _text(alerts, key, top, names)
    while len(text) > most_characters and top > 0:
        top -= 1
        text = _text(alerts, key, top, names)
    return text


def _text(alerts: Sequence[Alert], key: str, top: int, names: Mapping[str, str]) -> str:
    sections = []
    for kind, found in _by_kind(alerts).items():
        at_risk = sum(alert.value_at_risk or 0 for alert in found)
        heading = _count(kind, len(found)) + (f", {at_risk:,.2f} at risk" if at_risk else "")
        found = sorted(found, key=lambda alert: (-(alert.value_at_risk or 0), alert.subject or "", alert.alert_id))
        lines = [f"- {_told(alert, names)}" for alert in found[:top]]
        more = [f"- and {len(found) - top:,} more"] if len(found) > top else []
        sections.append("\n".join([heading[0].upper() + heading[1:] + ":", *lines, *more]))
    return "\n\n".join([*sections, f"Idempotency-Key: {key}"])


def _told(alert: Alert, names: Mapping[str, str]) -> str:
    whom = names.get(alert.customer, alert.customer[:SHOWN]) if alert.customer else alert.subject
    return f"{whom}: {alert.message}" if whom else alert.message


def _by_kind(alerts: Sequence[Alert]) -> dict[str, list[Alert]]:
    kinds = {kind: [alert for alert in alerts if alert.kind == kind] for kind in COUNTED}
    return {kind: found for kind, found in kinds.items() if found}


def _count(kind: str, n: int) -> str:
    one, several = COUNTED[kind]
    return one if n == 1 else several.format(n)


def _pseudonym(customer_id: str) -> str:
    """Staging may have made the pseudonym already."""
    return customer_id if re.fullmatch(PSEUDONYM, customer_id) else pseudonym(customer_id)
