from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import ChurnRadarError
from inference.home import published
from inference.notifications.alerts import HEADINGS, Alert, customer_ids, read_alerts, write_body, write_title
from inference.pseudonyms import pseudonym

NO_NAMES: dict[str, str] = {}
TODAY = date(2024, 3, 5)


def alert(number: int, kind: str = "customer_risk", value: float | None = 10.0, **others: object) -> Alert:
    columns = {"customer": f"p_{number:032x}" if kind == "customer_risk" else None, "subject": None, **others}
    return Alert(f"{number:064x}", date(2024, 3, 1), kind, value_at_risk=value, message=f"Message {number}", **columns)


def publish(**columns: list) -> None:
    published("churn_alerts").parent.mkdir(parents=True, exist_ok=True)
    names = ("alert_id", "as_of_date", "kind", "customer_id", "subject", "value_at_risk", "message", "holds_from")
    n = len(columns["alert_id"])
    common = {"as_of_date": [date(2024, 3, 1)] * n, "kind": ["customer_risk"] * n, "message": ["Risk rose"] * n}
    table = dict.fromkeys(names, [None] * n) | common | {"holds_from": [TODAY] * n} | columns
    pq.write_table(pa.table(table), published("churn_alerts"))


def test_alerts_hold_pseudonyms_and_hashed_ids():
    publish(alert_id=["a", "b"], customer_id=["1301", None], subject=[None, "orders_30d"])
    first, second = read_alerts(TODAY)
    assert (first.customer, first.subject) == (pseudonym("1301"), None)
    assert (second.customer, second.subject) == (None, "orders_30d")
    assert len({first.alert_id, second.alert_id, "a", "b"}) == 4
    assert len(first.alert_id) == 64


def test_a_pseudonym_from_staging_is_not_hashed_again():
    publish(alert_id=["a"], customer_id=[pseudonym("1301")])
    assert read_alerts(TODAY)[0].customer == pseudonym("1301")


def test_an_alert_holds_from_its_day_on():
    publish(alert_id=["before", "today", "ahead"], holds_from=[date(2024, 3, 4), TODAY, date(2024, 3, 6)])
    assert len(read_alerts(TODAY)) == 2
    assert len(read_alerts(date(2024, 3, 6))) == 3
    assert read_alerts(date(2024, 3, 3)) == []


def test_without_a_build_the_command_is_named():
    with pytest.raises(ChurnRadarError, match=r"churn_alerts\.parquet: no scores yet, and so no alerts"):
        read_alerts(TODAY)


def test_ids_of_the_given_pseudonyms_are_looked_up():
    publish(alert_id=["a"])
    pq.write_table(pa.table({"customer_id": ["1301", "1302", "1301"]}), published("churn_scores"))
    assert customer_ids({pseudonym("1301"), pseudonym("unknown")}) == {pseudonym("1301"): "1301"}


def test_a_digest_lists_the_most_value_at_risk_first_and_counts_the_others():
    alerts = [
        alert(1, value=5),
        alert(2, value=20.5),
        alert(3, value=1000),
        alert(4, "feature_drift", None, subject="f"),
    ]
    assert write_title(alerts) == "Churn Radar, 2024-03-01: 3 customers at higher risk, 1 feature drifted"
    assert write_body(alerts, "key", 2, 10_000, {alerts[2].customer: "1301"}) == (
        "3 customers at higher risk, 1,025.50 at risk:\n"
        "- 1301: Message 3\n"
        "- p_000000000000: Message 2\n"
        "- and 1 more\n"
        "\n"
        "1 feature drifted:\n"
        "- f: Message 4\n"
        "\n"
        "Idempotency-Key: key"
    )


def test_an_alert_without_customer_or_subject_is_its_message():
    body = write_body([alert(1, "stale_scores", None)], "key", 5, 10_000, NO_NAMES)
    assert body == "Scores too old:\n- Message 1\n\nIdempotency-Key: key"


kinds = st.lists(st.sampled_from(list(HEADINGS)), min_size=1, max_size=60)


@given(kinds, st.integers(1, 40), st.integers(0, 4000))
def test_a_body_keeps_to_its_length_and_counts_every_alert(kinds, top, max_characters):
    alerts = [alert(number, kind, float(number)) for number, kind in enumerate(kinds)]
    body = write_body(alerts, "key", top, max_characters, NO_NAMES)
    lines = body.splitlines()
    listed = sum(": Message" in line or line.startswith("- Message") for line in lines)
    counted = sum(int(line.split()[2]) for line in lines if line.startswith("- and "))
    assert listed + counted == len(alerts)
    assert listed == 0 or len(body) <= max_characters
    assert listed <= top * len(set(kinds))
    assert body.endswith("Idempotency-Key: key")
