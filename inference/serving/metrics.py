"""Metrics in Prometheus' format."""

import time
from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inference.serving.problems import route_template

#: Upper limits of the histogram, in seconds.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Metrics:
    """Counters and histograms of one process; no label holds a customer id.

    Parameters
    ----------
    behind : callable
        Returns how many customers wait for a score that reflects their events.
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

    def count_response(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a response and its time in seconds."""
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(method, route).observe(seconds)

    def exposition(self) -> Response:
        """Return all metrics in Prometheus' text format."""
        return Response(generate_latest(self.registry), headers={"content-type": CONTENT_TYPE_LATEST})


class Measured:
    """Middleware that counts and times responses.

    Parameters
    ----------
    app : ASGIApp
        Next application.
    metrics : Metrics
        Where they are counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and count its response."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def record_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, record_status)
        finally:
            took = time.perf_counter() - started
            self.metrics.count_response(scope["method"], route_template(scope), status, took)
