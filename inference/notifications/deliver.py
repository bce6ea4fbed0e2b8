"""Send alerts through Apprise: one digest per channel, retried until the channel accepts it, never sent twice."""

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import unquote

from apprise import Apprise, AppriseAsset, NotifyFormat, NotifyType
from apprise.plugins import NotifyBase
from tenacity import Retrying, retry_if_result, stop_after_attempt, wait_exponential

from inference.errors import ChurnRadarError
from inference.notifications.alerts import Alert, customer_ids, read_alerts, write_body, write_title
from inference.notifications.sent_log import Digest, SentLog
from inference.progress import track
from inference.pseudonyms import salted_hash

#: Header of webhooks and e-mails; the key is also the last line of every digest.
KEY_HEADER = "Idempotency-Key"
#: Maximum seconds between two attempts; pauses begin with one second and double.
MAX_WAIT = 30
#: Minimum characters of a part of a URL to hide it; shorter ones, such as a port, are not secret.
MIN_SECRET = 5

logger = logging.getLogger(__name__)
# Apprise's reasons are in its result; without a handler Python would print them as well
logging.getLogger("apprise").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Channel:
    """A receiver of digests."""

    #: Its position and URL scheme; tokens may be anywhere else in a URL, so nothing else is shown.
    name: str
    #: Salted hash of the URL; another URL is another channel.
    fingerprint: str
    url: str
    #: Apprise's plugin.
    service: NotifyBase


def notify(urls: Sequence[str], top: int, show_personal: bool, attempts: int, dry_run: bool) -> None:
    """Send each channel the alerts that it has not accepted yet, and log what was sent; parameters as in the command.

    Raises
    ------
    ChurnRadarError
        If a channel did not accept a digest, after all channels were tried.
    """
    channels, alerts = open_channels(urls), read_alerts(datetime.now(UTC).date())
    refusals = []
    with SentLog() as log:
        planned = plan_digests(log, channels, alerts, dry_run)
        customers = {a.customer for _, digests in planned for digest in digests for a in digest.alerts if a.customer}
        names = customer_ids(customers) if show_personal else {}
        for channel, digests in track(planned, "Sending"):
            if not digests:
                logger.info("%s: nothing new", channel.name)
            elif dry_run:
                for digest in digests:
                    logger.info("\n".join([f"{channel.name}:", *write_message(digest, channel, top, names)]))
            elif reason := send_digests(log, channel, digests, top, names, attempts):
                refusals.append(f"{channel.name}: {reason}")
            else:
                n_sent = sum(len(digest.alerts) for digest in digests)
                logger.info("%s: %s alert%s sent", channel.name, f"{n_sent:,}", "" if n_sent == 1 else "s")
    if refusals:
        raise ChurnRadarError(f"{'; '.join(refusals)}; what was not sent is kept for the next run")


def open_channels(urls: Sequence[str]) -> list[Channel]:
    """Open the channels of ``CHURN_NOTIFY_URLS``, Apprise URLs separated by spaces or lines, and others.

    Raises
    ------
    ChurnRadarError
        If there is no URL, or one that Apprise cannot read; then nothing is sent to the others either.
    """
    unique = list(dict.fromkeys([*os.environ.get("CHURN_NOTIFY_URLS", "").split(), *urls]))
    if not unique:
        raise ChurnRadarError("no channel: CHURN_NOTIFY_URLS is empty; expected Apprise URLs there, or --url")
    asset = AppriseAsset(app_id="Churn Radar", app_desc="Churn Radar", async_mode=False)
    channels, unknown = [], []
    for position, url in enumerate(unique, 1):
        service = Apprise.instantiate(url, asset=asset)
        if service is None:
            unknown.append(_name(position, url))
        else:
            service.optional = False  # with ?optional=yes in a URL, a refusal would count as success
            channels.append(Channel(_name(position, url), salted_hash("channel", url), url, service))
    if unknown:
        raise ChurnRadarError(
            f"{', '.join(unknown)}: not a URL that Apprise knows; expected one such as json://host/path or "
            "mailto://user:password@host, see https://appriseit.com/services; nothing was sent"
        )
    return channels


def plan_digests(
    log: SentLog, channels: Sequence[Channel], alerts: Sequence[Alert], dry_run: bool = False
) -> list[tuple[Channel, list[Digest]]]:
    """Digests for each channel: those not accepted yet, then one of the alerts that are new to the channel.

    Every digest is written to the log before this returns, so none is lost in a crash; except in a dry run.
    """
    planned = []
    for channel in channels:
        digests = log.unsent(channel.fingerprint)
        if new := log.new_alerts(channel.fingerprint, alerts):
            digests.append(Digest.of(channel.fingerprint, new))
            if not dry_run:
                log.add(digests[-1])
        planned.append((channel, digests))
    return planned


def send_digests(
    log: SentLog, channel: Channel, digests: Sequence[Digest], top: int, names: Mapping[str, str], attempts: int
) -> str | None:
    """Send digests in order until the channel does not accept one, and return why; None if it accepted all.

    Each accepted one is marked in the log. The idempotency key is in a header, if the channel has any, and in the last
    line.
    """
    retrying = Retrying(
        stop=stop_after_attempt(attempts),
        wait=wait_exponential(max=MAX_WAIT),
        retry=retry_if_result(lambda result: not result),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
    )
    for digest in digests:
        title, body = write_message(digest, channel, top, names)
        if "headers" in channel.service.template_kwargs:
            vars(channel.service)["headers"][KEY_HEADER] = digest.idempotency_key
        result = retrying(
            Apprise(channel.service).notify, body, title, NotifyType.WARNING, body_format=NotifyFormat.TEXT
        )
        if not result:
            reason = next((entry.message for entry in result.logs()), "no answer")
            return _without_secrets(reason, channel)
        log.mark_sent(digest)
    return None


def write_message(digest: Digest, channel: Channel, top: int, names: Mapping[str, str]) -> tuple[str, str]:
    """Title and text of a digest, at most as long as the channel allows; see ``write_body``."""
    title = write_title(digest.alerts)
    # services without titles put them above the text
    max_characters = channel.service.body_maxlen - len(title) - 2
    return title, write_body(digest.alerts, digest.idempotency_key, top, max_characters, names)


def _name(position: int, url: str) -> str:
    scheme = re.match(r"[a-z][a-z0-9+.-]{0,20}://", url, re.IGNORECASE)
    return f"channel {position}" + (f" ({scheme[0]}…)" if scheme else "")


def _without_secrets(reason: str, channel: Channel) -> str:
    parts = re.split(r"[^A-Za-z0-9_.%-]+", channel.url) + re.split(r"[:/@?&=#]+", unquote(channel.url))
    for part in sorted(parts, key=len, reverse=True):
        reason = reason.replace(part, "…") if len(part) >= MIN_SECRET else reason
    return reason.rstrip(".")
