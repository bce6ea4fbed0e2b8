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
    """Counters and histograms of one process; no label holds a customer id."""

    def __init__(self, n_behind: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self.requests = Counter("churn_radar_requests", "Requests answered.", labels, registry=self.registry)
        self.seconds = Histogram(
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
        ).set_function(n_behind)

    def exposition(self) -> Response:
        """Return all metrics in Prometheus' text format."""
        return Response(generate_latest(self.registry), headers={"content-type": CONTENT_TYPE_LATEST})


class Measured:
    """Middleware that counts and times responses."""

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
            method, route = scope["method"], route_template(scope)
            self.metrics.requests.labels(method, route, status).inc()
            self.metrics.seconds.labels(method, route).observe(time.perf_counter() - started)
