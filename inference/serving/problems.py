"""Errors of the HTTP API, in the form of RFC 9457."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from inference.event_log.events import EventConflictError, EventLogDownError
from inference.realtime.online_store import StoreDownError
from inference.serving.answers import Problem

logger = logging.getLogger(__name__)

TITLES = {status.value: status.phrase for status in HTTPStatus}
TITLES |= {413: "Content Too Large", 422: "Unprocessable Content"}  # as Python calls them from 3.13 on
#: Validation errors that one response lists.
MAX_LISTED = 5


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Make an error response."""
    return JSONResponse(
        Problem(title=TITLES[status], status=status, detail=detail).model_dump(),
        status_code=status,
        media_type="application/problem+json",
        headers=headers,
    )


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe error responses for the OpenAPI document."""
    return {
        status: {
            "description": TITLES[status],
            "content": {"application/problem+json": {"schema": Problem.model_json_schema()}},
        }
        for status in statuses
    }


def route_template(scope: Mapping[str, Any]) -> str:
    """Return the path template of a request; the path itself may hold a customer id."""
    route = scope.get("route")
    return route.path_format if route else "unknown"


def add_error_handlers(app: FastAPI) -> None:
    """Answer every error of an application with a problem."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        if isinstance(error.__cause__, RecursionError):  # of Python's JSON parser, which FastAPI calls
            return problem(422, "body: the JSON is nested too deeply; expected what /docs shows")
        return problem(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        # the input is not repeated: it may be personal data
        details = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:MAX_LISTED]]
        return problem(422, "; ".join(details))

    @app.exception_handler(StoreDownError)
    async def store_down(request: Request, error: StoreDownError) -> Response:
        request.app.state.metrics.store_errors.inc()
        return problem(503, "the online store does not answer; try again later", {"Retry-After": "1"})

    @app.exception_handler(EventConflictError)
    async def conflict(request: Request, error: EventConflictError) -> Response:
        return problem(409, f"{error}; nothing of this request was kept")

    @app.exception_handler(EventLogDownError)
    async def log_down(request: Request, error: EventLogDownError) -> Response:
        logger.warning("events were not accepted: %s", error)
        return problem(503, "the event log does not answer; send the same events again later", {"Retry-After": "1"})

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        # the message may hold personal data: only the type is logged
        logger.error("%s in %s %s", type(error).__name__, request.method, route_template(request.scope))
        return problem(500, "something went wrong; it was logged")
