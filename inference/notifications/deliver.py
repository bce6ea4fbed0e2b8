"""Sending alerts to people, through Apprise: a digest per channel, again until it is taken, and never twice."""

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from apprise import Apprise, AppriseAsset, NotifyFormat, NotifyType
from apprise.plugins import NotifyBase
from tenacity import Retrying, retry_if_result, stop_after_attempt, wait_exponential

from inference.errors import ChurnRadarError
from inference.notifications.alerts import Alert, write_body, write_title
from inference.notifications.sent_log import Digest, SentLog
from inference.pseudonyms import salted_hash

#: Header of webhooks and e-mails, and the last line of every digest.
KEY_HEADER = "Idempotency-Key"
#: Most seconds between two attempts, which begin with one and double.
LONGEST_WAIT = 30
#: A shorter part of a URL, such as a port, is nothing to hide.
LEAST_SECRET = 5

# Apprise tells its reasons in the result; without a handler Python would print them as well
logging.getLogger("apprise").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Channel:
    """Where digests are sent.

    Parameters
    ----------
    name : str
        Its position and scheme: nothing else of a URL is fit to be shown, because tokens stand anywhere in it.
    fingerprint : str
        Salted hash of the URL; another URL is another channel.
    url : str
        Apprise URL.
    service : NotifyBase
        Apprise's plugin.
    """

    name: str
    fingerprint: str
    url: str
    service: NotifyBase


def open_channels(urls: Sequence[str]) -> list[Channel]:
    """Read the channels of ``CHURN_NOTIFY_URLS``, apart by spaces or lines, and others.

    Parameters
    ----------
    urls : sequence of str
        Apprise URLs beside those of the environment.

    Raises
    ------
    ChurnRadarError
        If there is none, or one that Apprise cannot read; so nothing is sent to the others either.
    """
    found = list(dict.fromkeys([*os.environ.get("CHURN_NOTIFY_URLS", "").split(), *urls]))
    if not found:
        raise ChurnRadarError("no channel: CHURN_NOTIFY_URLS is empty; expected Apprise URLs there, or --url")
    asset = AppriseAsset(app_id="Churn Radar", app_desc="Churn Radar", async_mode=False)
    services = [(_name(i, url), url, Apprise.instantiate(url, asset=asset)) for i, url in enumerate(found, 1)]
    if wrong := [name for name, _, service in services if service is None]:
        raise ChurnRadarError(
            f"{', '.join(wrong)}: not a URL that Apprise knows; expected one such as json://host/path or "
            "mailto://user:password@host, see https://appriseit.com/services; nothing was sent"
        )
    for _, _, service in services:
        service.optional = False  # ?optional=yes would make what was refused look like what was taken
    return [Channel(name, salted_hash("channel", url), url, service) for name, url, service in services]


def plan(
    log: SentLog, channels: Sequence[Channel], alerts: Sequence[Alert], dry_run: bool = False
) -> list[tuple[Channel, list[Digest]]]:
    """Decide what each channel is to be told: what it did not take yet, then what is new to it.

    Parameters
    ----------
    log : SentLog
        Holds every digest when this returns, so that whatever happens next, none is lost.
    channels : sequence of Channel
        Where to send.
    alerts : sequence of Alert
        All that hold today.
    dry_run : bool
        Leave the log as it is.
    """
    planned = []
    for channel in channels:
        digests = log.unsent(channel.fingerprint)
        if new := log.unknown(channel.fingerprint, alerts):
            digests.append(Digest.of(channel.fingerprint, new))
            if not dry_run:
                log.add(digests[-1])
        planned.append((channel, digests))
    return planned


def deliver(
    log: SentLog, channel: Channel, digests: Sequence[Digest], top: int, names: Mapping[str, str], attempts: int
) -> str | None:
    """Send digests in their order, up to the first that the channel does not take, and log each that it took.

    Parameters
    ----------
    log : SentLog
        Where they were planned.
    channel : Channel
        Where to send; it gets the key of a digest in a header, where it has any, and in the last line.
    digests : sequence of Digest
        What to send.
    top, names
        As in ``compose``.
    attempts : int
        How often to try each, the pauses doubling from one second on.

    Returns
    -------
    str or None
        Why the channel did not take one; None where it took them all.
    """
    retrying = Retrying(
        stop=stop_after_attempt(attempts),
        wait=wait_exponential(max=LONGEST_WAIT),
        retry=retry_if_result(lambda result: not result),
        retry_error_callback=lambda state: state.outcome.result(),
    )
    for digest in digests:
        title, body = compose(digest, channel, top, names)
        if "headers" in channel.service.template_kwargs:
            channel.service.headers[KEY_HEADER] = digest.idempotency_key
        result = retrying(
            Apprise(channel.service).notify, body, title, NotifyType.WARNING, body_format=NotifyFormat.TEXT
        )
        if not result:
            said = next((entry.message for entry in result.logs()), "no answer")
            return _without_secrets(said, channel)
        log.took(digest)
    return None


def compose(digest: Digest, channel: Channel, top: int, names: Mapping[str, str]) -> tuple[str, str]:
    """Write title and text of a digest, as long as the channel allows.

    Parameters
    ----------
    digest : Digest
        What to tell.
    channel : Channel
        Whom.
    top : int
        How many of each kind to list at most.
    names : mapping of str to str
        What to call customers instead of their pseudonyms.
    """
    title = write_title(digest.alerts)
    # services that know no titles put them above the text
    room = channel.service.body_maxlen - len(title) - 2
    return title, write_body(digest.alerts, digest.idempotency_key, top, room, names)


def _name(position: int, url: str) -> str:
    scheme = re.match(r"[a-z][a-z0-9+.-]{0,20}://", url, re.IGNORECASE)
    return f"channel {position}" + (f" ({scheme[0]}…)" if scheme else "")


def _without_secrets(reason: str, channel: Channel) -> str:
    parts = re.split(r"[^A-Za-z0-9_.%-]+", channel.url) + re.split(r"[:/@?&=#]+", unquote(channel.url))
    for part in sorted(parts, key=len, reverse=True):
        reason = reason.replace(part, "…") if len(part) >= LEAST_SECRET else reason
    return reason.rstrip(".")
