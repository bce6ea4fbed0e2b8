"""The HTTP service: routes, who may call them, and what an error says."""

import logging
from collections.abc import Iterable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Annotated

from fastapi import FastAPI, Path, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyHeader
from starlette.exceptions import HTTPException

from inference.realtime.online_store import StoreDownError
from inference.serving.answers import Churn, ChurnBatch, ChurnBatchRequest, CustomerId, Health, Problem
from inference.serving.events import EventBatch, EventReceipt, time_problem, to_log
from inference.serving.intake import Intake, leave_out_of_gc
from inference.serving.keys import find_key
from inference.serving.limits import BodyLimit, RateLimit
from inference.serving.lookup import ScoreLookup, to_answer
from inference.serving.metrics import Measured, Metrics
from inference.serving.settings import ServeSettings
from inference.warehouse.event_log import EventConflictError

#: What each status is called, and the statuses that are documented.
TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    413: "Content Too Large",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}

log = logging.getLogger("churn_radar")


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Answer with an error in one form."""
    title = TITLES.get(status, "Error")
    return JSONResponse(
        Problem(title=title, status=status, detail=detail).model_dump(),
        status_code=status,
        media_type="application/problem+json",
        headers=headers,
    )


def _documented(*statuses: int) -> dict[int, dict]:
    return {
        status: {
            "description": TITLES[status],
            "content": {"application/problem+json": {"schema": Problem.model_json_schema()}},
        }
        for status in statuses
    }


class Needs(APIKeyHeader):
    """Lets only keys with a scope pass, each at its rate.

    Parameters
    ----------
    scope : str
        Among ``keys.SCOPES``.
    """

    def __init__(self, scope: str) -> None:
        description = "As churn-radar api-key printed it."
        super().__init__(name="X-API-Key", scheme_name="APIKeyHeader", description=description, auto_error=False)
        self.scope = scope

    async def __call__(self, request: Request) -> None:
        """Raise what refuses the request; async, so that it runs here and not in a thread of its own."""
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


def create_app(settings: ServeSettings) -> FastAPI:
    """Make the service.

    Parameters
    ----------
    settings : ServeSettings
        Keys and limits.

    Returns
    -------
    FastAPI
        An ASGI application.
    """
    scores, intake = ScoreLookup(), Intake()

    @asynccontextmanager
    async def lifespan(app: FastAPI):
        # where nothing was applied yet, the service starts all the same and is not ready
        with suppress(StoreDownError):
            await scores.open()
        await intake.open()
        leave_out_of_gc()
        yield
        await intake.close()
        scores.close()

    app = FastAPI(
        title="Churn Radar",
        version="1",
        summary="How likely is this customer to leave, and why?",
        docs_url="/docs",
        redoc_url=None,
        lifespan=lifespan,
        # traces would hold customer ids, and log records what customers wrote
        telemetry={"tracing": False, "metrics": False, "logs": False},
        responses=_documented(400, 422, 500),
    )
    app.state.settings = settings
    app.state.rate, app.state.metrics = RateLimit(settings.rate_limit), Metrics(lambda: intake.behind)
    app.add_middleware(BodyLimit, most_bytes=settings.most_body_bytes, refuse=problem)
    app.add_middleware(Measured, metrics=app.state.metrics)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        return problem(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        # what was sent is not repeated: it may be personal
        told = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5]]
        return problem(422, "; ".join(told))

    @app.exception_handler(StoreDownError)
    async def down(request: Request, error: StoreDownError) -> Response:
        app.state.metrics.store_errors.inc()
        return problem(503, "the online store does not answer; try again later", {"Retry-After": "1"})

    @app.exception_handler(EventConflictError)
    async def conflicting(request: Request, error: EventConflictError) -> Response:
        return problem(409, f"event_id {error.event_id} was used for other content; nothing of this request was kept")

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        log.error("%s in %s %s", type(error).__name__, request.method, _route(request))
        return problem(500, "something went wrong; it was logged")

    read = [Security(Needs("read"))]

    @app.get(
        "/v1/customers/{customer_id:path}/churn",  # an id may hold a slash
        tags=["churn"],
        dependencies=read,
        responses=_documented(401, 403, 404, 429, 503),
    )
    async def churn(customer_id: Annotated[CustomerId, Path()]) -> Churn:
        """Return how likely a customer is to leave, and why."""
        (found,) = await scores.read([customer_id])
        if found is None:
            raise HTTPException(404, "this customer has no score; expected one who was scored and materialised")
        intake.revisit(old([found]))
        return found

    @app.post("/v1/churn:batch", tags=["churn"], dependencies=read, responses=_documented(401, 403, 413, 429, 503))
    async def churn_batch(asked: ChurnBatchRequest) -> ChurnBatch:
        """Return the scores of up to 1,000 customers."""
        ids = list(dict.fromkeys(asked.customer_ids))
        found = dict(zip(ids, await scores.read(ids), strict=True))
        intake.revisit(old(filter(None, found.values())))
        return ChurnBatch(
            scores=[found[i] for i in asked.customer_ids if found[i] is not None],
            unknown=[i for i in ids if found[i] is None],
        )

    @app.post(
        "/v1/events",
        tags=["events"],
        dependencies=[Security(Needs("write"))],
        responses=_documented(401, 403, 409, 413, 429),
    )
    async def events(sent: EventBatch) -> EventReceipt:
        """Accept what customers just did, and return the scores that follow from it."""
        now = datetime.now(UTC)
        problems = [(i, time_problem(event, now, intake.history_days)) for i, event in enumerate(sent.events)]
        erased = [i for i, event in enumerate(sent.events) if intake.is_erased(event.customer_id)]
        problems += [(i, "is of a customer who was erased; expected nothing of them any more") for i in erased]
        if told := [f"events.{i} {problem}" for i, problem in problems if problem]:
            raise HTTPException(422, "; ".join(told[:5]))
        added, told = await intake.accept([to_log(event) for event in sent.events])
        app.state.metrics.events.inc(sum(added))
        customers = dict.fromkeys(event.customer_id for event in sent.events)
        return EventReceipt(
            accepted=sum(added),
            duplicates=len(added) - sum(added),
            scores=[to_answer(c, told[c], datetime.now(UTC)) for c in customers if told.get(c)],
            pending=[c for c in customers if c not in told],
        )

    @app.get("/healthz", tags=["operations"])
    async def healthz() -> Health:
        """Say that the process lives."""
        return Health()

    @app.get("/readyz", tags=["operations"], responses=_documented(503))
    async def readyz() -> Health:
        """Say whether the online store answers and scores follow events."""
        await scores.read(["readiness"])
        if intake.problem is not None:
            raise HTTPException(503, f"scores do not follow events yet: {intake.problem}")
        return Health()

    @app.get("/metrics", tags=["operations"], response_class=Response)
    async def metrics() -> Response:
        """Return metrics as Prometheus reads them."""
        return app.state.metrics.exposition()

    return app


def old(scores: Iterable[Churn]) -> list[str]:
    """Return the customers whose score is of an earlier day."""
    today = datetime.now(UTC).date()
    return [score.customer_id for score in scores if score.as_of.date() < today]


def _route(request: Request) -> str:
    route = request.scope.get("route")
    return route.path_format if route else "unknown"
