"""``churn-radar notify`` as a command, with a real web server and a real mail server."""

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, date, datetime, timedelta
from unittest.mock import patch

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from receivers import TOKEN, Receiver, mail_server, web_server
from shop import BIN, PROJECT, Shop

from inference.cli import main
from inference.pseudonyms import pseudonym

AS_OF = date(2024, 3, 1)
CUSTOMERS = ("customer-000017", "customer-000018", "customer-000019")
#: The columns of churn_alerts; test_monitoring.py compares them with what dbt publishes.
SCHEMA = pa.schema(
    {
        "alert_id": pa.string(),
        "as_of_date": pa.date32(),
        "kind": pa.string(),
        "severity": pa.string(),
        "customer_id": pa.string(),
        "subject": pa.string(),
        "previous_value": pa.float64(),
        "current_value": pa.float64(),
        "value_at_risk": pa.float64(),
        "message": pa.string(),
        "holds_from": pa.date32(),
    }
)


def alert(alert_id: str, kind: str, message: str, day: date = AS_OF, **others: object) -> dict:
    return {
        **dict.fromkeys(SCHEMA.names),
        "alert_id": alert_id,
        "as_of_date": day,
        "kind": kind,
        "severity": "high",
        "message": message,
        "holds_from": day,
        **others,
    }


def risk(customer: str, value: float, day: date = AS_OF) -> dict:
    text = f"Risk rose from 52.0 % to 74.5 % since 2024-02-29; {value:.2f} at risk"
    return alert(f"{customer}:{day}", "customer_risk", text, day, customer_id=customer, value_at_risk=value)


def stale(day: date, holds_from: date) -> dict:
    text = f"The newest scores are of {day} and older than 2 days"
    return alert(f"stale:{day}", "stale_scores", text, day, holds_from=holds_from)


def publish(shop: Shop, *alerts: dict) -> None:
    """Write alerts and scores of the same customers where dbt publishes them."""
    folder = shop.home / "published"
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(alerts), SCHEMA), folder / "churn_alerts.parquet")
    pd.DataFrame({"customer_id": CUSTOMERS}).to_parquet(folder / "churn_scores.parquet")


def checked(done: subprocess.CompletedProcess, code: int) -> subprocess.CompletedProcess:
    """Check the exit code, that no secret of a URL is printed, and that an error is one line."""
    assert done.returncode == code, done.stdout + done.stderr
    assert TOKEN not in done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == (code == 1)
    return done


def notify(shop: Shop, *options: str, code: int = 0) -> subprocess.CompletedProcess:
    """Run the command in this process, which is faster than starting one."""
    arguments, text, errors = ["churn-radar", "notify", *options], io.StringIO(), io.StringIO()
    with (
        patch.dict(os.environ, shop.env),
        patch.object(sys, "argv", arguments),
        redirect_stdout(text),
        redirect_stderr(errors),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    return checked(subprocess.CompletedProcess(arguments, ended.value.code, text.getvalue(), errors.getvalue()), code)


def notify_and_kill(shop: Shop, receiver: Receiver, *options: str) -> None:
    """Run the command until the receiver has its message and kills it before answering."""
    receiver.kill = True
    command = [BIN / "churn-radar", "notify", *options]
    process = subprocess.Popen(command, cwd=PROJECT, env=shop.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    receiver.sender = process.pid
    receiver.started.set()
    text, _ = process.communicate(timeout=60)
    assert process.returncode == -9, text


def bytes_of(shop: Shop) -> bytes:
    return b"\n".join(file.read_bytes() for file in (shop.home / "notify").iterdir())


@pytest.fixture
def web() -> Iterator[Receiver]:
    with web_server() as receiver:
        yield receiver


@pytest.fixture
def mail() -> Iterator[Receiver]:
    with mail_server() as receiver:
        yield receiver


def test_each_channel_gets_one_digest_without_names_and_a_second_run_sends_nothing(shop, web, mail):
    publish(
        shop, risk(CUSTOMERS[0], 12.5), risk(CUSTOMERS[1], 1080.25), alert("d", "score_drift", "The scores drifted")
    )
    shop.settings = {"CHURN_NOTIFY_URLS": f"{web.url}\n  {mail.url} {web.url}"}
    done = checked(shop.run("churn-radar", "notify"), 0)
    assert done.stdout == "channel 1 (json://…): 3 alerts sent\nchannel 2 (mailto://…): 3 alerts sent\n"
    again = checked(shop.run("churn-radar", "notify"), 0)
    assert again.stdout == "channel 1 (json://…): nothing new\nchannel 2 (mailto://…): nothing new\n"
    for receiver in (web, mail):
        (message,) = receiver.messages
        assert message.title == "Churn Radar, 2024-03-01: 2 customers at higher risk, scores drifted"
        lines = message.text.splitlines()
        assert lines[0] == "2 customers at higher risk, 1,092.75 at risk:"
        assert [line.split("; ")[-1] for line in lines[1:3]] == ["1080.25 at risk", "12.50 at risk"]
        assert all(line.startswith("- p_") for line in lines[1:3])
        assert "- The scores drifted" in lines
        assert message.last_line == f"Idempotency-Key: {message.key}"
        assert "customer-" not in message.text
    assert web.messages[0].key != mail.messages[0].key
    assert b"customer-" not in bytes_of(shop)
    assert TOKEN.encode() not in bytes_of(shop)


def test_only_new_alerts_are_sent_the_next_day(shop, web):
    publish(shop, risk(CUSTOMERS[0], 10))
    notify(shop, "--url", web.url)
    publish(shop, risk(CUSTOMERS[0], 10), risk(CUSTOMERS[1], 20))
    notify(shop, "--url", web.url)
    first, second = web.messages
    assert first.key != second.key
    assert "20.00 at risk:" in second.text
    assert "10.00 at risk" not in second.text


@pytest.mark.parametrize("server", [web_server, mail_server])
def test_a_run_killed_between_sending_and_logging_repeats_the_digest_once(shop, server):
    with server() as receiver:
        publish(shop, risk(CUSTOMERS[0], 10), risk(CUSTOMERS[1], 20))
        notify_and_kill(shop, receiver, "--url", receiver.url)
        assert len(receiver.messages) == 1
        assert "2 alerts sent" in notify(shop, "--url", receiver.url).stdout
        assert "nothing new" in notify(shop, "--url", receiver.url).stdout
        first, second = receiver.messages
        assert first == second
        assert first.key is not None


def test_a_digest_of_a_killed_run_is_sent_although_a_build_has_replaced_its_alerts(shop, web):
    with web_server() as other:
        publish(shop, risk(CUSTOMERS[0], 10))
        notify_and_kill(shop, web, "--url", web.url, "--url", other.url)
        assert other.messages == []
        publish(shop, risk(CUSTOMERS[1], 20, AS_OF + timedelta(days=1)))
        notify(shop, "--url", web.url, "--url", other.url)
    titles = [f"Churn Radar, 2024-03-0{day}: 1 customer at higher risk" for day in (1, 2)]
    assert [message.title for message in other.messages] == titles
    assert [message.title for message in web.messages] == [titles[0], *titles]
    assert web.messages[0] == web.messages[1]


def test_a_refusing_channel_does_not_stop_others_and_is_retried_later(shop, web, mail):
    publish(shop, risk(CUSTOMERS[0], 10))
    web.refuse = 2
    done = notify(shop, "--url", web.url, "--url", mail.url, "--attempts", "2", code=1)
    assert done.stdout == "channel 2 (mailto://…): 1 alert sent\n"
    assert done.stderr.startswith("churn-radar: channel 1 (json://…): Failed to send JSON POST notification")
    assert "error=503; what was not sent is kept for the next run" in done.stderr
    assert len(web.messages) == 2, "tried again"
    publish(shop)
    done = notify(shop, "--url", web.url, "--url", mail.url)
    assert done.stdout == "channel 1 (json://…): 1 alert sent\nchannel 2 (mailto://…): nothing new\n"
    assert len({message.key for message in web.messages}) == 1
    assert len(web.messages) == 3
    assert len(mail.messages) == 1


def test_refusing_and_unreachable_channels_are_named(shop, mail):
    publish(shop, risk(CUSTOMERS[0], 10))
    mail.refuse = 1
    nobody = f"json://127.0.0.1:9/{TOKEN}?optional=yes"
    shop.settings = {"CHURN_NOTIFY_URLS": mail.url}
    done = notify(shop, "--url", nobody, "--attempts", "1", code=1)
    assert "channel 1 (mailto://…): Sending email to " in done.stderr
    assert "channel 2 (json://…): A Connection error occurred" in done.stderr


def test_bad_input_is_one_line_and_nothing_is_sent_or_stored(shop, web):
    shop.home.mkdir()
    no_scores = notify(shop, "--url", web.url, code=1)
    assert "churn_alerts.parquet: no scores yet, and so no alerts; run dbt build first" in no_scores.stderr
    publish(shop, risk(CUSTOMERS[0], 10))
    bad_url = notify(shop, "--url", web.url, "--url", f"slak://{TOKEN}", code=1)
    assert "channel 2 (slak://…): not a URL that Apprise knows; expected one such as json://host/path" in bad_url.stderr
    assert "nothing was sent" in bad_url.stderr
    assert "channel 1: not a URL" in notify(shop, "--url", TOKEN, code=1).stderr
    assert (
        "no channel: CHURN_NOTIFY_URLS is empty; expected Apprise URLs there, or --url" in notify(shop, code=1).stderr
    )
    unknown = shop.run("churn-radar", "notify", "--url", web.url, "--force", check=False)
    assert unknown.returncode == 2
    assert "No such option: --force" in unknown.stderr
    assert "Traceback" not in unknown.stderr
    assert web.messages == []
    assert not (shop.home / "notify").exists()


def test_ids_are_shown_on_request_and_never_stored(shop, web):
    publish(shop, risk(CUSTOMERS[0], 10), risk(CUSTOMERS[1], 20), risk(CUSTOMERS[2], 30))
    done = notify(shop, "--url", web.url, "--dry-run", "--show-personal", "--top", "1")
    assert f"- {CUSTOMERS[2]}: Risk rose" in done.stdout
    assert "- and 2 more" in done.stdout
    assert CUSTOMERS[0] not in done.stdout
    assert "customer-" not in notify(shop, "--url", web.url, "--dry-run").stdout
    assert web.messages == [], "nothing was sent"
    web.refuse = 1
    notify(shop, "--url", web.url, "--show-personal", "--attempts", "1", code=1)
    assert b"customer-" not in bytes_of(shop)
    notify(shop, "--url", web.url, "--show-personal")
    assert all(f"- {customer}: Risk rose" in web.messages[1].text for customer in CUSTOMERS)
    assert b"customer-" not in bytes_of(shop)


def test_stale_scores_are_an_alert_from_their_day_on(shop, web):
    today = datetime.now(UTC).date()
    publish(shop, stale(today, today + timedelta(days=2)))
    assert "nothing new" in notify(shop, "--url", web.url).stdout
    publish(shop, stale(AS_OF, today))
    notify(shop, "--url", web.url)
    assert web.messages[0].title == "Churn Radar, 2024-03-01: scores too old"
    assert "- The newest scores are of 2024-03-01 and older than 2 days" in web.messages[0].text


def test_of_two_concurrent_runs_one_sends(shop, web):
    publish(shop, risk(CUSTOMERS[0], 10))
    web.answer.clear()
    command = [BIN / "churn-radar", "notify", "--url", web.url]
    with subprocess.Popen(command, cwd=PROJECT, env=shop.env, stdout=subprocess.PIPE, text=True) as process:
        assert web.arrived.wait(30)
        refused = notify(shop, "--url", web.url, code=1)
        web.answer.set()
        text, _ = process.communicate(timeout=30)
    assert "database is locked; expected one churn-radar notify at a time" in refused.stderr
    assert "1 alert sent" in text
    assert len(web.messages) == 1


def test_an_erased_customer_is_removed_from_a_pending_digest(shop, web, monkeypatch):
    publish(shop, risk(CUSTOMERS[0], 10), risk(CUSTOMERS[1], 20))
    monkeypatch.setenv("CHURN_HOME", str(shop.home))
    notify_and_kill(shop, web, "--url", web.url)
    assert (shop.home / "notify" / "sent.db-wal").exists(), "the log was left open"
    theirs, others = (pseudonym(customer).encode() for customer in CUSTOMERS[:2])
    assert theirs in bytes_of(shop)
    done = shop.run("churn-radar", "erase", "--customer", CUSTOMERS[0])
    assert "1 removed from published/churn_alerts.parquet" in done.stdout
    assert "1 removed from notify/sent.db" in done.stdout
    assert theirs not in bytes_of(shop)
    assert others in bytes_of(shop)
    notify(shop, "--url", web.url)
    before, after = web.messages
    assert theirs.decode()[:14] in before.text
    assert after.title == "Churn Radar, 2024-03-01: 1 customer at higher risk"
    assert theirs.decode()[:14] not in after.text
    assert after.key == before.key
