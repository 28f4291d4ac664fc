"""Sends one `llm_request` span per finished request, as vLLM 0.32 does, with the model's exact times."""

import logging
import os
import threading
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from loadgen.simulator.driver import Call
from loadgen.simulator.model import Request

SERVICE = "llm-slo-simulator"
DELAY_MILLISECONDS = 500
TIMEOUT_SECONDS = 1

logger = logging.getLogger(__name__)


class SpanSender:
    """Exports to an OTLP/HTTP collector from a thread of its own: a dead collector loses spans and delays nothing."""

    def __init__(self, url: str) -> None:
        resource = Resource.create(
            {
                SERVICE_NAME: SERVICE,
                "llm_slo.simulated": True,
                "vllm.instrumenting_module_name": "vllm.llm_engine",
                "vllm.process_id": str(os.getpid()),
            }
        )
        # The bounded `close` below takes the place of the exit hook, which would wait for a dead collector.
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        processor = BatchSpanProcessor(_Exporter(url), schedule_delay_millis=DELAY_MILLISECONDS)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("vllm.tracing.otel")
        self._propagator = TraceContextTextMapPropagator()

    def send(self, call: Call, request: Request, epoch: float) -> None:
        """Queue the span of a finished request; `epoch` is the Unix time of model time 0."""
        span = self._tracer.start_span(
            "llm_request",
            context=self._propagator.extract(call.trace),
            kind=SpanKind.SERVER,
            attributes=attributes(call, request),
            start_time=int((epoch + request.arrival) * 1e9),
        )
        span.end(end_time=int((epoch + request.last_token) * 1e9))

    def close(self) -> None:
        """Send what is queued, for at most TIMEOUT_SECONDS."""
        flush = threading.Thread(target=self._provider.shutdown, daemon=True)
        flush.start()
        flush.join(TIMEOUT_SECONDS)


class _Exporter(OTLPSpanExporter):
    """Says once that spans get lost, and not again before one batch went through."""

    def __init__(self, url: str) -> None:
        super().__init__(endpoint=url, timeout=TIMEOUT_SECONDS)
        self._url = url
        self._losing = False
        logging.getLogger("opentelemetry.exporter.otlp.proto.http").setLevel(logging.CRITICAL)  # 2 lines a batch

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        losing = result is not SpanExportResult.SUCCESS
        if losing and not self._losing:
            logger.warning("%s takes no spans: they are lost until it does", self._url)
        self._losing = losing
        return result


def attributes(call: Call, request: Request) -> dict[str, AttributeValue]:
    """vLLM's keys, in its order; like there, a temperature or top_p of 0 is left out."""
    timings = request.timings()
    result: dict[str, AttributeValue] = {
        "gen_ai.latency.time_to_first_token": timings.ttft,
        "gen_ai.latency.e2e": timings.e2e,
        "gen_ai.latency.time_in_queue": timings.queue,
        "gen_ai.usage.prompt_tokens": request.prompt_tokens,
        "gen_ai.usage.completion_tokens": request.generated,
        "gen_ai.latency.time_in_model_prefill": timings.prefill,
        "gen_ai.latency.time_in_model_decode": timings.decode,
        "gen_ai.latency.time_in_model_inference": timings.inference,
        "gen_ai.request.id": call.id,
    }
    if call.top_p:
        result["gen_ai.request.top_p"] = call.top_p
    result["gen_ai.request.max_tokens"] = request.max_tokens
    if call.temperature:
        result["gen_ai.request.temperature"] = call.temperature
    return result | {"gen_ai.request.n": 1}
