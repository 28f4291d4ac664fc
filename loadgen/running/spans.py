"""The requests of a run as OpenTelemetry client spans, sent when the run is over to where OTEL_* variables say.

A span has the ids that its request carried in `traceparent`, so the engine's spans of the request are its children.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from loadgen.results.record import Recording, RequestRecord
from loadgen.traffic.workload import Endpoint

_OPERATIONS: dict[Endpoint, str] = {"chat": "chat", "completions": "text_completion", "responses": "chat"}
_AT_ONCE = 512


def wanted(env: Mapping[str, str]) -> bool:
    """Whether the variables ask for spans: an endpoint is named, and nothing turns the SDK or its traces off."""
    if env.get("OTEL_SDK_DISABLED", "").lower() == "true" or env.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    return any(env.get(name) for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))


def export(recording: Recording) -> tuple[int, int]:
    """Send a span per request by OTLP over HTTP; how many arrived, of how many. The rest is given up at a failure."""
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)  # the caller tells, in one line
    exporter = OTLPSpanExporter()
    waiting, sent = spans(recording), 0
    try:
        while batch := list(islice(waiting, _AT_ONCE)):
            if exporter.export(batch) is not SpanExportResult.SUCCESS:
                break
            sent += len(batch)
    finally:
        exporter.shutdown()  # type: ignore[no-untyped-call]
    return sent, len(recording.records)


def spans(recording: Recording) -> Iterator[ReadableSpan]:
    """A client span per request, from its real start to its end; what is not known is left out."""
    header = recording.header
    resource = Resource.create({"service.name": "slo-load", "service.version": header.client.version})
    operation = _OPERATIONS[header.workload.endpoint]
    for record in recording.records:
        model = record.model or header.fingerprint.model
        facts: dict[str, str | int | float | Sequence[str] | None] = {
            "gen_ai.operation.name": operation,
            "gen_ai.request.model": model,
            "server.address": header.target,
            **_facts(record),
        }
        context = SpanContext(
            int(record.trace_id, 16), int(record.trace_id[16:], 16), is_remote=False, trace_flags=TraceFlags(1)
        )
        yield ReadableSpan(
            name=f"{operation} {model}",
            context=context,
            resource=resource,
            attributes={name: value for name, value in facts.items() if value is not None},
            kind=SpanKind.CLIENT,
            status=Status(StatusCode.ERROR, record.detail) if record.error else Status(),
            start_time=header.started_unix_ns + record.sent_ns,
            end_time=header.started_unix_ns + record.done_ns,
        )


def _facts(record: RequestRecord) -> dict[str, str | int | float | Sequence[str] | None]:
    return {
        "gen_ai.usage.input_tokens": record.prompt_tokens,
        "gen_ai.usage.output_tokens": record.output_tokens,
        "gen_ai.response.finish_reasons": [record.finish_reason] if record.finish_reason else None,
        "gen_ai.latency.time_to_first_token": record.ttft,  # as vLLM's span calls it, here from the intended start
        "http.response.status_code": record.status,
        "error.type": record.error,
        "llm_slo.send_lag": record.send_lag,
        "llm_slo.seq": record.seq,
        "llm_slo.tenant": record.tenant,
    }
