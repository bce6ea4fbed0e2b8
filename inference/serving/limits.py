"""How much one client may send, and how often."""

from collections.abc import Callable

from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inference.errors import ChurnRadarError


class RateLimit:
    """Requests per client and time, counted in this process.

    Parameters
    ----------
    rate : str
        Such as ``1000/second`` or ``60/minute``.

    Raises
    ------
    ChurnRadarError
        If the rate cannot be read.
    """

    def __init__(self, rate: str) -> None:
        try:
            self._item = parse(rate)
        except ValueError:
            raise ChurnRadarError(f"CHURN_RATE_LIMIT is {rate}; expected a rate such as 1000/second") from None
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    def seconds_to_wait(self, client: str) -> int:
        """Count a request; return 0, or in how many seconds the client may try again."""
        return 0 if self._limiter.hit(self._item, client) else self._item.get_expiry()


class BodyLimit:
    """Refuses bodies that are too large before they are read whole.

    Parameters
    ----------
    app : ASGIApp
        What is protected.
    most_bytes : int
        Largest body.
    refuse : callable
        Makes the answer from a status and a sentence.
    """

    def __init__(self, app: ASGIApp, most_bytes: int, refuse: Callable) -> None:
        self.app, self.most_bytes, self.refuse = app, most_bytes, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, its body read first where it has one."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self.app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        body, more = b"", int(announced) <= self.most_bytes if announced.isdigit() else True
        too_large = announced.isdigit() and int(announced) > self.most_bytes
        while more and not too_large:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more, too_large = message.get("more_body", False), len(body) > self.most_bytes
        if too_large:
            detail = f"the body has more than {self.most_bytes:,} bytes; send less"
            await self.refuse(413, detail, {"Connection": "close"})(scope, receive, send)
            return
        sent = False

        async def replay() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, replay, send)
