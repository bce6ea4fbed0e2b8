"""The HTTP service as an ASGI application."""

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from threading import Timer, current_thread, main_thread
from types import FrameType

from fastapi import FastAPI

from inference.event_log.opening import open_log
from inference.realtime.online_store import StoreDownError
from inference.serving import routes
from inference.serving.intake import Intake
from inference.serving.keys import ApiKey
from inference.serving.limits import RATE_LIMIT, Door, RateLimit, drain_seconds, request_seconds
from inference.serving.lookup import ScoreLookup
from inference.serving.metrics import Measured, Metrics
from inference.serving.problems import add_error_handlers
from inference.serving.updater import ScoreUpdater


def create_app(keys: list[ApiKey]) -> FastAPI:
    """Make the service; without keys, everybody may call it."""
    app = FastAPI(
        title="Churn Radar",
        version="1",
        summary="How likely is this customer to leave, and why?",
        docs_url="/docs",
        redoc_url=None,
        lifespan=_lifespan,
        # traces would hold customer ids, and log records the texts of customers
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.is_stopping, app.state.drain_seconds = False, drain_seconds()
    app.state.metrics = Metrics(lambda: app.state.updater.n_behind)
    rate = RateLimit(os.environ.get("CHURN_RATE_LIMIT") or RATE_LIMIT)
    app.add_middleware(Door, keys=keys, rate=rate, seconds=request_seconds())
    app.add_middleware(Measured, metrics=app.state.metrics)
    add_error_handlers(app)
    # not include_router, which looks every request up in two routers: an eighth of its time
    app.router.routes.extend(routes.router.routes)
    return app


def _drain_on_sigterm(app: FastAPI) -> None:
    """Have SIGTERM stop the server ``CHURN_DRAIN_SECONDS`` later; a second one stops it at once."""
    stop = signal.getsignal(signal.SIGTERM)
    if not callable(stop) or current_thread() is not main_thread():  # in a test
        return

    def drain(number: int, frame: FrameType | None) -> None:
        waiting = Timer(0.0 if app.state.is_stopping else app.state.drain_seconds, stop, (number, frame))
        app.state.is_stopping, waiting.daemon = True, True
        waiting.start()

    signal.signal(signal.SIGTERM, drain)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    _drain_on_sigterm(app)
    scores, updater = ScoreLookup(), ScoreUpdater()
    intake = Intake(open_log(), updater)
    app.state.scores, app.state.updater, app.state.intake = scores, updater, intake
    opening = asyncio.create_task(_open(scores, updater))
    yield
    opening.cancel()
    await updater.close()
    intake.close()
    scores.close()


async def _open(scores: ScoreLookup, updater: ScoreUpdater) -> None:
    """Open the store for lookups, then load the model; meanwhile the service answers that it is not ready."""
    # before the first feast apply the service starts, and is not ready
    with suppress(StoreDownError):
        await scores.open()
    # what is loaded stays: searching it for reference cycles would stop requests again and again
    gc.collect()
    gc.freeze()
    updater.start()
