"""What Prometheus reads."""

import time
from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Seconds.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Metrics:
    """Counts and times of one process; no label holds a customer id.

    Parameters
    ----------
    behind : callable
        Says how many customers wait for a score that knows their events.
    """

    def __init__(self, behind: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self._requests = Counter("churn_radar_requests", "Requests answered.", labels, registry=self.registry)
        self._seconds = Histogram(
            "churn_radar_request_seconds", "Time to answer.", labels[:2], registry=self.registry, buckets=BUCKETS
        )
        self.store_errors = Counter(
            "churn_radar_store_errors", "Lookups that the online store did not answer.", registry=self.registry
        )

        self.events = Counter("churn_radar_events", "Events accepted.", registry=self.registry)
        Gauge(
            "churn_radar_customers_behind",
            "Customers whose score does not know all of their events.",
            registry=self.registry,
        ).set_function(behind)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(method, route).observe(seconds)

    def exposition(self) -> Response:
        """Return all metrics in Prometheus' text format."""
        return Response(generate_latest(self.registry), headers={"content-type": CONTENT_TYPE_LATEST})


class Measured:
    """Counts and times what an application answers.

    Parameters
    ----------
    app : ASGIApp
        What is measured.
    metrics : Metrics
        Where it is counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and note its status."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            # the template, never the path: it holds a customer id
            route = scope.get("route")
            self.metrics.answered(
                scope["method"], route.path_format if route else "unknown", status, time.perf_counter() - started
            )
