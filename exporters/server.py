"""The sidecar over HTTP: /metrics, /healthz, /readyz, /v1/traces."""

import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import gzip_accepted
from starlette.requests import ClientDisconnect

from exporters import otlp, page
from exporters.collector import DEADLINE, Collector
from exporters.exact import SpanMetrics

# Seconds of Prometheus' timeout that are left for rendering and the way back.
_MARGIN = 0.5
# A kubelet's probe waits 1 s unless told otherwise.
_PROBE_DEADLINE = 0.7
_INDEX = """<!doctype html><title>slo-exporter</title><h1>slo-exporter</h1><ul>
<li><a href="/metrics">/metrics</a>: engines, GPUs and request spans
<li><a href="/healthz">/healthz</a>: the process is alive
<li><a href="/readyz">/readyz</a>: an engine has been read
<li>/v1/traces: takes OTLP/HTTP trace exports (POST)
</ul>
"""


def create_app(
    collector: Collector, spans: SpanMetrics, registry: CollectorRegistry, close: Callable[[], Awaitable[None]]
) -> FastAPI:
    """The application. `registry` is the one that `spans` counts in; `close` runs when the server stops."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await close()

    app = FastAPI(title="slo-exporter", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    handlers = _Handlers(collector, spans, registry)
    app.get("/")(handlers.index)
    app.get("/metrics")(handlers.metrics)
    app.get("/healthz")(handlers.healthz)
    app.get("/readyz")(handlers.readyz)
    app.post("/v1/traces")(handlers.traces)
    return app


class _Handlers:
    def __init__(self, collector: Collector, spans: SpanMetrics, registry: CollectorRegistry) -> None:
        self._collector = collector
        self._spans = spans
        self._registry = registry
        self._seen = otlp.SeenSpans()

    async def index(self) -> Response:
        return HTMLResponse(_INDEX)

    async def healthz(self) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(self) -> Response:
        snapshot = None if self._collector.ready else await self._collector.collect(_PROBE_DEADLINE)
        if snapshot is None or snapshot.engines:
            return PlainTextResponse("ok\n")
        reasons = "; ".join(f"{status.endpoint}: {status.error}" for status in snapshot.statuses if status.error)
        return PlainTextResponse(f"no engine read yet: {reasons}\n", status_code=503)

    async def metrics(self, request: Request) -> Response:
        headers = request.headers
        snapshot = await self._collector.collect(_deadline(headers.get("x-prometheus-scrape-timeout-seconds", "")))
        self._spans.know(self._collector.models)
        body, content_type = page.render(snapshot, self._registry, headers.get("accept", ""))
        answered = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
        if gzip_accepted(headers.get("accept-encoding", "")):
            body, answered["Content-Encoding"] = gzip.compress(body, compresslevel=1), "gzip"
        return Response(body, headers=answered)

    async def traces(self, request: Request) -> Response:
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        answer_type = otlp.answer_type(content_type)
        try:
            body = otlp.inflate(await _body(request), request.headers.get("content-encoding", "").strip().lower())
            batch = otlp.read(otlp.decode(body, content_type), self._seen)
        except otlp.RefusedError as refused:
            self._spans.reject(refused.reason)
            return Response(otlp.refusal(refused, content_type), refused.status, media_type=answer_type)
        if not self._collector.ready and any(span.model_name is None for span in batch.spans):
            await self._collector.collect(_PROBE_DEADLINE)  # an engine that sends spans is up, and tells its model
        self._spans.take(batch, self._collector.only_model or "")
        return Response(otlp.answer(batch, content_type), media_type=answer_type)


def _deadline(scrape_timeout: str) -> float:
    try:
        seconds = float(scrape_timeout)
    except ValueError:
        return DEADLINE
    return min(DEADLINE, max(seconds - _MARGIN, seconds / 2)) if seconds > 0 else DEADLINE


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > otlp.MAX_BODY:
                raise otlp.too_large(otlp.MAX_BODY)
    except ClientDisconnect:
        raise otlp.RefusedError(400, "cut_off", "the body ended before its length") from None
    return bytes(body)
