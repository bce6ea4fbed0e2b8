"""Who may call the service, and how often."""

from fastapi.security import APIKeyHeader
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from inference.errors import ChurnRadarError
from inference.serving.keys import find_key

#: Requests per client, unless ``CHURN_RATE_LIMIT`` says otherwise.
RATE_LIMIT = "1000/second"


class RequireScope(APIKeyHeader):
    """Dependency of a route: refuses requests without a key of a scope, or beyond the rate of its client."""

    def __init__(self, scope: str) -> None:
        description = "As churn-radar api-key printed it."
        super().__init__(name="X-API-Key", scheme_name="APIKeyHeader", description=description, auto_error=False)
        self.scope = scope

    async def __call__(self, request: HTTPConnection) -> None:
        """Raise an ``HTTPException`` that refuses the request; async, as FastAPI runs other functions in threads."""
        keys, rate, secret = request.app.state.keys, request.app.state.rate, await super().__call__(request)
        key = None
        if keys:
            key = find_key(keys, secret) if secret else None
            if key is None:
                raise HTTPException(401, "X-API-Key is missing or unknown", {"WWW-Authenticate": "ApiKey"})
            if self.scope not in key.scopes:
                raise HTTPException(
                    403, f"key {key.name} may not {self.scope}; expected one with the scope {self.scope}"
                )
        client = key.name if key else request.client.host if request.client else "local"
        if wait := rate.seconds_to_wait(client):
            raise HTTPException(429, f"more than {rate.rate}; try again later", {"Retry-After": str(wait)})


class RateLimit:
    """Counts the requests of each client, in this process.

    A rate is such as ``1000/second`` or ``60/minute``; one that cannot be read is a ``ChurnRadarError``.
    """

    def __init__(self, rate: str) -> None:
        self.rate = rate
        try:
            self._item = parse(rate)
        except ValueError:
            raise ChurnRadarError(f"CHURN_RATE_LIMIT is {rate}; expected a rate such as 1000/second") from None
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    def seconds_to_wait(self, client: str) -> int:
        """Count a request; return 0 if it is allowed, else the seconds until the client may try again."""
        return 0 if self._limiter.hit(self._item, client) else self._item.get_expiry()
