"""Who may call the service, how often, and with what body: asked before a body is read."""

import asyncio
import math
import os
import random
import time
from collections import Counter
from collections.abc import Sequence

from limits import parse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inference.errors import ChurnRadarError
from inference.serving.keys import ApiKey, find_key
from inference.serving.problems import problem

#: Requests per client, unless ``CHURN_RATE_LIMIT`` says otherwise.
RATE_LIMIT = "1000/second"
#: Requests without a valid key per address: probes, metrics, and whoever has none.
KEYLESS_RATE_LIMIT = "50/second"
#: Seconds until a client beyond that is answered, at random between these: it does not ask again at once, and clients
#: that were refused together do not return together.
KEYLESS_DELAY = (1.0, 3.0)
#: Seconds in which the headers of a request must arrive, and then its body, unless ``CHURN_REQUEST_SECONDS`` says
#: otherwise.
REQUEST_SECONDS = 10.0
#: The largest body of a request, in bytes.
MAX_BODY_BYTES = 1_000_000
#: Scope of the key that a path needs; None: no key. All other paths need one that may read.
SCOPES = {
    **dict.fromkeys(("/healthz", "/readyz", "/metrics", "/docs", "/openapi.json")),
    "/v1/events": "write",
}
_CLOSE = {"Connection": "close"}


class RateLimit:
    """Counts the requests of each client in fixed windows of time, in this process.

    A rate is such as ``1000/second`` or ``60/minute``; one that cannot be read is a ``ChurnRadarError``. ``limits``
    only reads it: the library's storage in memory starts a thread 100 times a second, for which requests wait.
    """

    def __init__(self, rate: str) -> None:
        self.rate = rate
        try:
            item = parse(rate)
        except ValueError:
            raise ChurnRadarError(f"CHURN_RATE_LIMIT is {rate}; expected a rate such as 1000/second") from None
        self._limit, self._seconds = item.amount, item.get_expiry()
        self._window = 0.0
        self._counts: Counter[str] = Counter()

    def count(self, client: str) -> None:
        """Count a request; one too many is refused with an ``HTTPException`` that says when to try again."""
        now = time.monotonic()
        if now >= self._window + self._seconds:
            self._window, self._counts = now, Counter()
        self._counts[client] += 1
        if self._counts[client] > self._limit:
            seconds = math.ceil(self._window + self._seconds - now)
            raise HTTPException(429, f"more than {self.rate}; try again later", {"Retry-After": str(seconds)})


class Door:
    """Middleware that refuses requests by their headers, and reads the bodies of others within limits."""

    def __init__(self, app: ASGIApp, keys: Sequence[ApiKey], rate: RateLimit, seconds: float) -> None:
        self.app, self._keys, self._rate, self._seconds = app, keys, rate, seconds
        self._keyless_rate = RateLimit(KEYLESS_RATE_LIMIT)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that is refused; pass others on with their whole body."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            await self._admit(scope, headers)
            if announced_bytes(headers):
                receive = await self._read_body(scope, headers, receive)
        except HTTPException as error:
            # what is left of the body is read and dropped, or the connection closed where that may be much
            unread = _CLOSE if announced_bytes(headers) > MAX_BODY_BYTES else {}
            await problem(error.status_code, error.detail, {**(error.headers or {}), **unread})(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _admit(self, scope: Scope, headers: Headers) -> None:
        """Raise an ``HTTPException`` for a request without the key that its path needs, or beyond its client's rate."""
        needed, secret = SCOPES.get(scope["path"], "read"), headers.get("x-api-key")
        address = scope["client"][0] if scope["client"] else "local"
        key = find_key(self._keys, secret) if secret else None
        if key or not self._keys:
            if connection := scope.get("state", {}).get("connection"):
                connection.trust()
            if key and needed and needed not in key.scopes:
                raise HTTPException(403, f"key {key.name} may not {needed}; expected one with the scope {needed}")
            if needed:
                self._rate.count(key.name if key else address)
        else:
            try:
                self._keyless_rate.count(address)
            except HTTPException:
                await asyncio.sleep(random.uniform(*KEYLESS_DELAY))
                raise
            if needed:
                raise HTTPException(401, "X-API-Key is missing or unknown", {"WWW-Authenticate": "ApiKey"})
        if needed is None and announced_bytes(headers):
            raise HTTPException(413, "the body is read by nobody; expected none", _CLOSE)

    async def _read_body(self, scope: Scope, headers: Headers, receive: Receive) -> Receive:
        """Read a body, and return a function that gives it to the application."""
        too_large = HTTPException(413, f"the body has more than {MAX_BODY_BYTES:,} bytes; send less", _CLOSE)
        if MAX_BODY_BYTES < announced_bytes(headers) < float("inf"):
            raise too_large
        if scope["method"] == "POST" and not is_json(headers.get("content-type", "")):
            raise HTTPException(415, "the body is no JSON by its Content-Type; expected application/json")
        body, more = bytearray(), True
        try:
            async with asyncio.timeout(self._seconds):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise HTTPException(400, "the client left before its body had arrived")
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > MAX_BODY_BYTES:
                        raise too_large
        except TimeoutError:
            detail = f"the body did not arrive within {self._seconds:g} seconds; send it faster, or less"
            raise HTTPException(408, detail, _CLOSE) from None
        read: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def replay() -> Message:
            return read.pop() if read else await receive()

        return replay


def announced_bytes(headers: Headers) -> float:
    """Return the announced size of a body; infinity for one that comes in chunks."""
    return float("inf") if "transfer-encoding" in headers else float(headers.get("content-length", "0"))


def is_json(content_type: str) -> bool:
    """Whether a Content-Type is that of JSON."""
    kind = content_type.split(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def request_seconds() -> float:
    """Return ``CHURN_REQUEST_SECONDS``; what is no number above zero is a ``ChurnRadarError``."""
    return _seconds("CHURN_REQUEST_SECONDS", REQUEST_SECONDS, "a number of seconds above zero, such as 10")


def drain_seconds() -> float:
    """Return ``CHURN_DRAIN_SECONDS``; what is no number from zero on is a ``ChurnRadarError``."""
    value = os.environ.get("CHURN_DRAIN_SECONDS") or "0"
    return 0.0 if value == "0" else _seconds("CHURN_DRAIN_SECONDS", value, "a number of seconds, such as 15")


def _seconds(variable: str, default: str | float, expected: str) -> float:
    value = os.environ.get(variable) or default
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ChurnRadarError(f"{variable} is {value}; expected {expected}")
    return seconds
