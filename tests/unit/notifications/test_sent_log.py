import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import date
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import ChurnRadarError
from inference.notifications.alerts import Alert
from inference.notifications.sent_log import Digest, SentLog, log_file, merge_write_ahead_file

CHANNELS = ("slack", "mail")


def alert(name: str, customer: str | None = "p_1") -> Alert:
    return Alert(name, date(2024, 3, 1), "customer_risk", customer, None, 10.5, "Risk rose")


def rows(query: str) -> list[tuple]:
    with closing(sqlite3.connect(log_file())) as connection:
        return connection.execute(query).fetchall()


def test_a_key_depends_on_channel_and_alert_ids_only():
    first = Digest.of("slack", [alert("a"), alert("b")])
    assert len(first.idempotency_key) == 32
    reworded = Digest.of("slack", [alert("b"), replace(alert("a"), message="Other words", customer=None)])
    assert reworded.idempotency_key == first.idempotency_key
    assert Digest.of("mail", first.alerts).idempotency_key != first.idempotency_key
    assert Digest.of("slack", first.alerts[:1]).idempotency_key != first.idempotency_key


def test_contents_of_a_digest_are_deleted_once_it_was_accepted():
    digest = Digest.of("slack", [alert("a"), alert("b", None)])
    with SentLog() as log:
        log.add(digest)
    with SentLog() as log:
        assert log.unsent("slack") == [digest]
        assert log.unsent("mail") == []
        assert log.new_alerts("slack", [alert("a"), alert("c")]) == [alert("c")]
        assert log.new_alerts("mail", [alert("a")]) == [alert("a")]
        log.mark_sent(digest)
        assert log.unsent("slack") == []
        assert log.new_alerts("slack", [alert("a"), alert("c")]) == [alert("c")]
    assert rows("select customer_id, content from alerts") == [(None, None)] * 2
    assert b"p_1" not in log_file().read_bytes()


def test_a_digest_whose_customers_were_all_erased_is_not_sent():
    with SentLog() as log:
        log.add(Digest.of("slack", [alert("a", "p_1")]))
        log.add(Digest.of("slack", [alert("b", "p_1"), alert("c", "p_2")]))
    with closing(sqlite3.connect(log_file())) as connection:
        connection.execute("delete from alerts where customer_id = 'p_1'")
        connection.commit()
    with SentLog() as log:
        assert [digest.alerts for digest in log.unsent("slack")] == [(alert("c", "p_2"),)]


def test_an_alert_is_in_at_most_one_digest_of_a_channel():
    with SentLog() as log:
        log.add(Digest.of("slack", [alert("a")]))
        with pytest.raises(sqlite3.IntegrityError):
            log.add(Digest.of("slack", [alert("b"), alert("a")]))
    assert rows("select alert_id from alerts") == [("a",)], "all of a digest or nothing"
    assert rows("select count(*) from digests") == [(1,)]


def test_the_log_is_locked_and_survives_a_killed_process():
    script = (
        "from datetime import date; from inference.notifications.alerts import Alert; "
        "from inference.notifications.sent_log import *;"
        "alert = Alert('a', date(2024, 3, 1), 'customer_risk', 'p_1', None, 10.5, 'Risk rose');"
        "log = SentLog(); log.add(Digest.of('slack', [alert]));"
        "print('ready', flush=True); input()"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        with pytest.raises(ChurnRadarError, match=r"sent\.db: database is locked; expected one churn-radar notify"):
            SentLog()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert log_file().with_name("sent.db-wal").stat().st_size > 0
    merge_write_ahead_file()
    assert [file.name for file in log_file().parent.iterdir()] == ["sent.db"]
    with SentLog() as log:
        assert log.unsent("slack")[0].alerts == (alert("a"),)


def test_without_a_log_there_is_nothing_to_merge(churn_home):
    merge_write_ahead_file()
    assert not churn_home.exists()


steps = st.lists(
    st.tuples(st.sets(st.sampled_from("abcdef")), st.sampled_from(CHANNELS), st.booleans(), st.booleans()), max_size=25
)


@given(steps=steps)
def test_each_channel_accepts_each_alert_once_and_repeats_only_after_a_crash(steps, tmp_path_factory):
    home = tmp_path_factory.mktemp("log")
    published, taken = {name: set() for name in CHANNELS}, {name: [] for name in CHANNELS}
    crashes = 0

    def run(names: set[str], channel: str, refuses: bool, crashes_after: bool) -> None:
        with patch.dict(os.environ, CHURN_HOME=str(home)), SentLog() as log:
            if new := log.new_alerts(channel, [alert(name) for name in sorted(names)]):
                log.add(Digest.of(channel, new))
            for digest in log.unsent(channel):
                if refuses:
                    return
                taken[channel].append((digest.idempotency_key, {alert.alert_id for alert in digest.alerts}))
                if crashes_after:
                    return
                log.mark_sent(digest)

    for names, channel, refuses, crashes_after in steps:
        published[channel] |= names
        before = len(taken[channel])
        run(names, channel, refuses, crashes_after)
        crashes += crashes_after and len(taken[channel]) > before
    for channel in CHANNELS:
        run(set(), channel, False, False)
        by_key = dict(taken[channel])
        assert all(by_key[key] == names for key, names in taken[channel]), "the same key, the same alerts"
        received = [name for names in by_key.values() for name in names]
        assert sorted(received) == sorted(published[channel])
    assert sum(len(sent) - len(dict(sent)) for sent in taken.values()) <= crashes
