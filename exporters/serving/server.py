"""The sidecar over HTTP: /, /metrics, /healthz, /readyz, /v1/traces."""

import gzip

import httpx
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import gzip_accepted
from starlette.requests import ClientDisconnect

from exporters.collector import DEADLINE, Collector
from exporters.ending import Limits
from exporters.serving import page
from exporters.serving.access import TRACES
from exporters.spans import otlp
from exporters.spans.exact import SpanMetrics
from exporters.spans.intake import Intake

# Seconds of Prometheus' timeout that are left for rendering and the way back.
_MARGIN = 0.5
# A kubelet's probe waits 1 s unless told otherwise.
_PROBE_DEADLINE = 0.7
# Seconds that a sender has for its whole body, and bytes of bodies that may be on their way at a time.
_BODY_SECONDS = 10.0
_MAX_UNDER_WAY = 32 * 1024 * 1024
_INDEX = """<!doctype html><title>slo-exporter</title><h1>slo-exporter</h1><ul>
<li><a href="/metrics">/metrics</a>: engines, GPUs and request spans
<li><a href="/healthz">/healthz</a>: the process is alive
<li><a href="/readyz">/readyz</a>: an engine has been read
<li>/v1/traces: takes OTLP/HTTP trace exports (POST)
</ul>
"""


def create_app(
    collector: Collector,
    spans: SpanMetrics,
    intake: Intake,
    registry: CollectorRegistry,
    limits: Limits | None = None,
) -> FastAPI:
    """The application. `registry` is the one that `spans` counts in; `limits` are cut when the process is to end."""
    app = FastAPI(title="slo-exporter", docs_url=None, redoc_url=None, openapi_url=None)
    handlers = _Handlers(collector, spans, intake, registry, limits or Limits())
    app.get("/")(handlers.index)
    app.get("/metrics")(handlers.metrics)
    app.get("/healthz")(handlers.healthz)
    app.get("/readyz")(handlers.readyz)
    app.post(TRACES)(handlers.traces)
    return app


class _Handlers:
    def __init__(
        self, collector: Collector, spans: SpanMetrics, intake: Intake, registry: CollectorRegistry, limits: Limits
    ) -> None:
        self._collector = collector
        self._spans = spans
        self._intake = intake
        self._registry = registry
        self._limits = limits
        self._under_way = 0

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
        encoding = request.headers.get("content-encoding", "").strip().lower()
        try:
            answer = await self._intake.take(await self._body(request), content_type, encoding)
        except otlp.RefusedError as refused:
            self._intake.reject(refused)
            later = {"Retry-After": str(otlp.RETRY_AFTER)} if refused.status == httpx.codes.TOO_MANY_REQUESTS else None
            return Response(otlp.refusal(refused, content_type), refused.status, later, answer_type)
        return Response(answer, media_type=answer_type)

    async def _body(self, request: Request) -> bytes:
        body = bytearray()
        try:
            async with self._limits.within(_BODY_SECONDS):
                async for chunk in request.stream():
                    body += chunk
                    self._under_way += len(chunk)
                    if len(body) > otlp.MAX_BODY:
                        raise otlp.too_large(otlp.MAX_BODY)
                    if self._under_way > _MAX_UNDER_WAY:
                        raise otlp.RefusedError(429, "busy", "too many exports at a time; come again later")
        except ClientDisconnect:
            raise otlp.RefusedError(400, "cut_off", "the body ended before its length") from None
        except TimeoutError:
            raise otlp.RefusedError(408, "stalled", "the body did not come in time") from None
        finally:
            self._under_way -= len(body)
        return bytes(body)


def _deadline(scrape_timeout: str) -> float:
    try:
        seconds = float(scrape_timeout)
    except ValueError:
        return DEADLINE
    return min(DEADLINE, max(seconds - _MARGIN, seconds / 2)) if seconds > 0 else DEADLINE
