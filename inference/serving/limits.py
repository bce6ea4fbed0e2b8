"""Who may call the service, how often, and with how large a body."""

from collections.abc import Callable

from fastapi.security import APIKeyHeader
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inference.errors import ChurnRadarError
from inference.serving.keys import find_key


class RequireScope(APIKeyHeader):
    """Dependency of a route: refuses requests without a key of a scope, or beyond the rate of its client.

    Parameters
    ----------
    scope : str
        One of ``keys.SCOPES``.
    """

    def __init__(self, scope: str) -> None:
        description = "As churn-radar api-key printed it."
        super().__init__(name="X-API-Key", scheme_name="APIKeyHeader", description=description, auto_error=False)
        self.scope = scope

    async def __call__(self, request: HTTPConnection) -> None:
        """Raise an ``HTTPException`` that refuses the request; async, as FastAPI runs other functions in threads."""
        settings, secret = request.app.state.settings, await super().__call__(request)
        key = None
        if settings.keys:
            key = find_key(settings.keys, secret) if secret else None
            if key is None:
                raise HTTPException(401, "X-API-Key is missing or unknown", {"WWW-Authenticate": "ApiKey"})
            if self.scope not in key.scopes:
                raise HTTPException(
                    403, f"key {key.name} may not {self.scope}; expected one with the scope {self.scope}"
                )
        client = key.name if key else request.client.host if request.client else "local"
        wait = request.app.state.rate.seconds_to_wait(client)
        if wait:
            raise HTTPException(429, f"more than {settings.rate_limit}; try again later", {"Retry-After": str(wait)})


class RateLimit:
    """Counts the requests of each client, in this process.

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
        """Count a request; return 0 if it is allowed, else the seconds until the client may try again."""
        return 0 if self._limiter.hit(self._item, client) else self._item.get_expiry()


class BodyLimit:
    """Middleware that refuses a too large body before all of it is read.

    Parameters
    ----------
    app : ASGIApp
        Next application.
    max_bytes : int
        Largest body.
    refuse : callable
        Makes the response from a status, a detail and headers.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, refuse: Callable) -> None:
        self.app, self.max_bytes, self.refuse = app, max_bytes, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body, if the request has one, and pass the request on."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self.app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        body, more = b"", int(announced) <= self.max_bytes if announced.isdigit() else True
        too_large = announced.isdigit() and int(announced) > self.max_bytes
        while more and not too_large:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more, too_large = message.get("more_body", False), len(body) > self.max_bytes
        if too_large:
            detail = f"the body has more than {self.max_bytes:,} bytes; send less"
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
