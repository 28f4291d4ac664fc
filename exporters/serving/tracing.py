"""The sidecar's own traces: a span per request to it, sent where the standard OTEL_* variables say."""

import threading
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from fastapi import FastAPI

from exporters.model import UsageError

# Scrapes and probes come every few seconds and would bury the rest.
_NOT_TRACED = ("metrics", "healthz", "readyz")
# Seconds to wait for the last spans to leave.
_FLUSH = 1.0


def target(env: Mapping[str, str]) -> str | None:
    """The OTLP endpoint to send traces to, None for no traces. Raises UsageError for an exporter other than OTLP."""
    exporter = env.get("OTEL_TRACES_EXPORTER", "")
    if exporter not in ("", "otlp", "none"):
        raise UsageError(f"OTEL_TRACES_EXPORTER={exporter}: only otlp (over HTTP) and none are supported")
    endpoint = env.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or env.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if exporter == "none" or not (exporter or endpoint) or env.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    return endpoint or "http://localhost:4318"


def start(app: FastAPI, target: str, own_port: int) -> Callable[[], None]:
    """Trace the requests to `app`; returns what ends it. Endpoint, headers and sampling come from OTEL_* variables.

    When the target may be this very process, spans about taking in spans would never end: those are left out.
    """
    # Only who traces pays for these imports in memory and start-up time.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({SERVICE_NAME: "slo-exporter"}).merge(OTELResourceDetector().detect())
    # The bounded wait below takes the place of the exit hook, which waits for a collector that is gone.
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    excluded = (*_NOT_TRACED, *(["v1/traces"] if urlsplit(target).port == own_port else []))
    FastAPIInstrumentor.instrument_app(
        app, tracer_provider=provider, excluded_urls=",".join(excluded), exclude_spans=["receive", "send"]
    )

    def stop() -> None:
        flush = threading.Thread(target=provider.shutdown, daemon=True)
        flush.start()
        flush.join(_FLUSH)

    return stop
