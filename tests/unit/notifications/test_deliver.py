import re
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import ChurnRadarError
from inference.notifications.alerts import Alert
from inference.notifications.deliver import open_channels, plan_digests, send_digests, write_message
from inference.notifications.sent_log import Digest, SentLog

NO_NAMES: dict[str, str] = {}
#: URLs of services with tokens in different places.
URLS = {
    "json://user:{0}@127.0.0.1:9/{1}": "json",
    "jsons://127.0.0.1:9/?+Authorization={0}&:extra={1}": "jsons",
    "mailto://{0}:{1}@127.0.0.1:9?mode=insecure&from=a@b.example&to=c@d.example": "mailto",
    "discord://{0}/{1}": "discord",
    "form://shop:{0}@127.0.0.1:9/a/{1}": "form",
}


def alert(number: int) -> Alert:
    message = f"Risk rose from 52.0 % to 74.5 % since 2024-02-29; {number}.00 at risk"
    return Alert(f"{number:064x}", date(2024, 3, 1), "customer_risk", f"p_{number:032x}", None, float(number), message)


def test_channels_of_the_environment_come_first_and_each_once(monkeypatch):
    monkeypatch.setenv("CHURN_NOTIFY_URLS", " json://one.example/x\n\tmailto://u:p@two.example  ")
    channels = open_channels(["json://three.example", "json://one.example/x"])
    assert [channel.name for channel in channels] == [
        "channel 1 (json://…)",
        "channel 2 (mailto://…)",
        "channel 3 (json://…)",
    ]
    assert len({channel.fingerprint for channel in channels}) == 3
    assert open_channels([])[0].fingerprint == channels[0].fingerprint


def test_no_url_and_unknown_urls_are_refused():
    with pytest.raises(ChurnRadarError, match="no channel: CHURN_NOTIFY_URLS is empty"):
        open_channels([])
    with pytest.raises(ChurnRadarError) as error:
        open_channels(["json://fine.example", "sesame", "slak://OPEN"])
    assert str(error.value).startswith("channel 2, channel 3 (slak://…): not a URL that Apprise knows")
    assert not re.search("sesame|OPEN|fine", str(error.value))


@given(
    url=st.sampled_from(list(URLS)),
    tokens=st.tuples(*[st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=12)] * 2),
)
def test_a_name_shows_only_the_scheme_of_a_url(url, tokens):
    (channel,) = open_channels([url.format(*tokens)])
    assert channel.name == f"channel 1 ({URLS[url]}://…)"
    assert not any(token in channel.fingerprint for token in tokens)


@pytest.mark.parametrize("url", [u for u in URLS if "127.0.0.1" in u])
def test_the_reason_of_a_refusal_hides_the_url(url):
    # nobody listens at port 9
    (channel,) = open_channels([url.format("zebra-striped", "um%40brella-blue")])
    with SentLog() as log:
        ((_, digests),) = plan_digests(log, [channel], [alert(1)])
        reason = send_digests(log, channel, digests, 5, NO_NAMES, attempts=1)
        assert reason
        assert not re.search("zebra|umbrella|um@brella|127.0.0.1", reason)
        assert log.unsent(channel.fingerprint) == digests


def test_digests_are_logged_before_they_are_sent_except_in_a_dry_run():
    channels = open_channels(["json://one.example", "json://two.example"])
    with SentLog() as log:
        dry = plan_digests(log, channels, [alert(1), alert(2)], dry_run=True)
        assert [log.unsent(channel.fingerprint) for channel in channels] == [[], []]
        assert plan_digests(log, channels, [alert(1), alert(2)]) == dry
        assert [log.unsent(channel.fingerprint) for channel in channels] == [digests for _, digests in dry]
        # the first channel accepted its digest, the second did not; one alert is new
        log.mark_sent(dry[0][1][0])
        again = plan_digests(log, channels, [alert(2), alert(3)])
    assert [[digest.alerts for digest in digests] for _, digests in again] == [
        [(alert(3),)],
        [(alert(1), alert(2)), (alert(3),)],
    ]
    assert again[1][1][0] == dry[1][1][0], "with its key"


def test_a_digest_is_as_long_as_the_channel_allows():
    # Discord takes 2,000 characters
    roomy, narrow = open_channels(["json://one.example", f"discord://{'1' * 18}/{'t' * 60}"])
    digest = Digest.of("channel", [alert(number) for number in range(100)])
    long, short = (write_message(digest, channel, 100, NO_NAMES)[1] for channel in (roomy, narrow))
    assert long.count("Risk rose") == 100
    assert 15 < short.count("Risk rose") < 30
    assert len(short) <= 2000
    assert short.splitlines()[-3] == f"- and {100 - short.count('Risk rose')} more"
