"""Routes of the HTTP API."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response, Security
from fastapi.security import APIKeyHeader
from starlette.datastructures import State
from starlette.exceptions import HTTPException

from inference.event_log.events import Event
from inference.serving.answers import Churn, ChurnBatch, ChurnBatchRequest, CustomerId, Health, Readiness
from inference.serving.events import EventBatch, EventReceipt
from inference.serving.lookup import to_answer
from inference.serving.problems import MAX_LISTED, documented
from inference.warehouse.ids import KINDS, as_in_warehouse

router = APIRouter(responses=documented(400, 408, 413, 422, 429, 500))
#: Says in the OpenAPI document that a route needs a key; ``limits.Door`` has asked for it.
KEY = Security(
    APIKeyHeader(
        name="X-API-Key",
        scheme_name="APIKeyHeader",
        description="As churn-radar api-key printed it.",
        auto_error=False,
    )
)


@router.get(
    "/v1/customers/{customer_id:path}/churn",  # an id may hold a slash
    tags=["churn"],
    dependencies=[KEY],
    responses=documented(401, 403, 404, 503),
)
async def churn(request: Request, customer_id: Annotated[CustomerId, Path()]) -> Churn:
    """Return how likely a customer is to leave, and why."""
    (score,) = await request.app.state.scores.read([customer_id])
    if score is None:
        raise HTTPException(404, "this customer has no score; expected one who was scored and materialised")
    request.app.state.intake.refresh(outdated([score]))
    return score


@router.post("/v1/churn:batch", tags=["churn"], dependencies=[KEY], responses=documented(401, 403, 415, 503))
async def churn_batch(request: Request, asked: ChurnBatchRequest) -> ChurnBatch:
    """Return the scores of up to 1,000 customers."""
    ids = list(dict.fromkeys(asked.customer_ids))
    scores = await request.app.state.scores.read(ids)
    known: dict[str, Churn] = {i: score for i, score in zip(ids, scores, strict=True) if score is not None}
    request.app.state.intake.refresh(outdated(known.values()))
    return ChurnBatch(
        scores=[known[i] for i in asked.customer_ids if i in known], unknown=[i for i in ids if i not in known]
    )


@router.post("/v1/events", tags=["events"], dependencies=[KEY], responses=documented(401, 403, 409, 415, 503))
async def events(request: Request, sent: EventBatch) -> EventReceipt:
    """Accept what customers just did, and return the scores that follow from it."""
    logged = [Event(event.event_id, event.customer_id, event.rows()) for event in sent.events]
    if logged != [as_in_warehouse(event, KINDS) for event in logged]:
        numeric_ids = await request.app.state.scores.numeric_ids()
        logged = [as_in_warehouse(event, numeric_ids) for event in logged]
    if problems := list(event_problems(sent, logged, request.app.state)):
        raise HTTPException(422, "; ".join(problems[:MAX_LISTED]))
    added, scores = await request.app.state.intake.accept(logged)
    request.app.state.metrics.events.inc(sum(added))
    customers = dict.fromkeys(event.customer_id for event in logged)
    now = datetime.now(UTC)
    return EventReceipt(
        accepted=sum(added),
        duplicates=len(added) - sum(added),
        scores=[to_answer(c, score, now) for c in customers if (score := scores.get(c))],
        pending=[c for c in customers if c not in scores],
    )


@router.get("/healthz", tags=["operations"])
async def healthz() -> Health:
    """Say that the process lives."""
    return Health()


@router.get("/readyz", tags=["operations"], responses=documented(503))
async def readyz(request: Request) -> Readiness:
    """Say whether the online store answers, and whether its scores follow events."""
    if request.app.state.is_stopping:
        raise HTTPException(503, "the service stops; send new requests to another one")
    await request.app.state.scores.read(["readiness"])
    updater = request.app.state.updater
    if updater.problem is not None:
        detail = f"scores do not follow events yet: {updater.problem}"
        return Readiness(status="stored scores", detail=detail, customers_behind=updater.n_behind)
    if updater.n_behind:
        detail = "scores of some customers do not know all of their events yet"
        return Readiness(status="catching up", detail=detail, customers_behind=updater.n_behind)
    return Readiness(status="ok", detail="scores follow events", customers_behind=0)


@router.get("/metrics", tags=["operations"], response_class=Response)
async def metrics(request: Request) -> Response:
    """Return metrics as Prometheus reads them."""
    return request.app.state.metrics.exposition()


def outdated(scores: Iterable[Churn]) -> list[str]:
    """Return the customers whose score is of an earlier day."""
    today = datetime.now(UTC).date()
    return [score.customer_id for score in scores if score.as_of.date() < today]


def event_problems(sent: EventBatch, logged: Sequence[Event], state: State) -> Iterator[str]:
    """Yield why events are refused: their times first, then customers who were erased."""
    now = datetime.now(UTC)
    for i, event in enumerate(sent.events):
        if problem := event.time_problem(now, state.updater.history_days):
            yield f"events.{i}.{problem}"
    for i, own in enumerate(logged):
        if state.intake.is_erased(own.customer_id):
            yield f"events.{i}.customer_id is of a customer who was erased; expected nothing of them any more"
