"""Counts HTTP requests in the http_* families that vLLM exposes, and marks every response as simulated."""

import time

from prometheus_client import CollectorRegistry, Counter, Histogram, Summary
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slo import catalog

SIMULATED_HEADER = (b"x-llm-slo-simulated", b"true")
NOT_COUNTED = frozenset({"/metrics", "/health", "/version", "/dcgm/metrics", "/faults"})
HIGHR_BUCKETS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 7.5, 10, 30, 60)


class HttpMetrics:
    """The http_* families. Codes are grouped (2xx), and the code is the one the response began with, as in vLLM."""

    def __init__(self, registry: CollectorRegistry) -> None:
        name = catalog.HTTP_REQUESTS.upstream["vllm"][0].name
        labels = ("handler", "method", "status")
        self._requests = Counter(name, "Requests (simulated)", labels, registry=registry)
        self._request_size = Summary("http_request_size_bytes", "Bodies in (simulated)", ["handler"], registry=registry)
        self._response_size = Summary(
            "http_response_size_bytes", "Bodies out (simulated)", ["handler"], registry=registry
        )
        self._fine = Histogram(
            "http_request_duration_highr_seconds", "Duration (simulated)", buckets=HIGHR_BUCKETS, registry=registry
        )
        self._coarse = Histogram(
            "http_request_duration_seconds",
            "Duration (simulated)",
            ["handler", "method"],
            buckets=(0.1, 0.5, 1),
            registry=registry,
        )

    def observe(self, handler: str, method: str, status: int, seconds: float, sizes: tuple[int, int]) -> None:
        """Count one response; `sizes` are the content lengths of request and response, 0 where not said."""
        self._requests.labels(handler, method, f"{status // 100}xx").inc()
        self._request_size.labels(handler).observe(sizes[0])
        self._response_size.labels(handler).observe(sizes[1])
        self._fine.observe(seconds)
        self._coarse.labels(handler, method).observe(seconds)


class CountRequests:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, metrics: HttpMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and count it at its end."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, length = time.perf_counter(), 500, 0

        async def marked(message: Message) -> None:
            nonlocal status, length
            if message["type"] == "http.response.start":
                status, length = message["status"], _content_length(message["headers"])
                message["headers"] = [*message["headers"], SIMULATED_HEADER]
            await send(message)

        try:
            await self._app(scope, receive, marked)
        finally:
            if scope["path"] not in NOT_COUNTED:
                sizes = _content_length(scope["headers"]), length
                handler = getattr(scope.get("route"), "path", "none")
                self._metrics.observe(handler, scope["method"], status, time.perf_counter() - began, sizes)


def _content_length(headers: list[tuple[bytes, bytes]]) -> int:
    return next((int(value) for name, value in headers if name.lower() == b"content-length"), 0)
