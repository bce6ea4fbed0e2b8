"""The HTTP service as an ASGI application."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI

from inference.realtime.online_store import StoreDownError
from inference.serving import routes
from inference.serving.intake import Intake
from inference.serving.limits import BodyLimit, RateLimit
from inference.serving.lookup import ScoreLookup
from inference.serving.metrics import Measured, Metrics
from inference.serving.problems import add_error_handlers, documented, problem
from inference.serving.settings import ServeSettings
from inference.warehouse.event_log import EventLog


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
    app = FastAPI(
        title="Churn Radar",
        version="1",
        summary="How likely is this customer to leave, and why?",
        docs_url="/docs",
        redoc_url=None,
        lifespan=_lifespan,
        # traces would hold customer ids, and log records the texts of customers
        telemetry={"tracing": False, "metrics": False, "logs": False},
        responses=documented(400, 422, 500),
    )
    app.state.settings = settings
    app.state.rate = RateLimit(settings.rate_limit)
    app.state.metrics = Metrics(lambda: app.state.intake.n_behind)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes, refuse=problem)
    app.add_middleware(Measured, metrics=app.state.metrics)
    add_error_handlers(app)
    app.include_router(routes.router)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    scores, intake = ScoreLookup(), Intake(EventLog())
    app.state.scores, app.state.intake = scores, intake
    # before the first feast apply the service starts, and is not ready
    with suppress(StoreDownError):
        await scores.open()
    intake.start()
    # what is loaded stays: searching it for reference cycles would stop requests again and again
    gc.collect()
    gc.freeze()
    yield
    await intake.close()
    scores.close()
