"""Which span is a request and what it says: SGLang's, the semantic conventions', labels, clocks that are wrong."""

import itertools
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client import CollectorRegistry

from exporters.model import SpanBatch
from exporters.spans.exact import OTHER, SpanMetrics
from exporters.spans.reader import SpanReader
from slo import catalog
from slo.promql import Scope
from slo.sli import LatencySli, exact
from slo.spec.model import Slo

SECOND = 1_000_000_000
NOW = 1_800_000_000 * SECOND
numbers = itertools.count(1)
VLLM = {"gen_ai.latency.time_to_first_token": 0.2, "gen_ai.latency.e2e": 1.0, "gen_ai.usage.completion_tokens": 11}
# As SGLang 0.5 writes its root span, and the conventions a client's.
SGLANG = {
    "gen_ai.response.model": "qwen",
    "gen_ai.usage.prompt_tokens": 100,
    "gen_ai.usage.completion_tokens": 11,
    "gen_ai.usage.cached_tokens": 64,
    "gen_ai.response.finish_reasons": '["stop"]',
    "gen_ai.latency.time_to_first_token": 0.5,
    "gen_ai.latency.e2e": 1.5,
    "gen_ai.latency.time_in_queue": 0.1,
    "gen_ai.latency.time_in_model_prefill": 0.4,
    "gen_ai.latency.time_in_model_decode": 1.0,
}
CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "vllm",
    "gen_ai.request.model": "qwen",
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.output_tokens": 11,
    "gen_ai.response.time_to_first_chunk": 0.5,
}


def attributes(values: dict[str, Any]) -> list[KeyValue]:
    pairs = []
    for key, value in values.items():
        pair = KeyValue(key=key)
        setattr(pair.value, {str: "string_value", int: "int_value", float: "double_value"}[type(value)], value)
        pairs.append(pair)
    return pairs


def span(name: str, values: dict[str, Any], seconds: float = 1.5, **fields: Any) -> Span:
    ids = {"trace_id": bytes(8) + next(numbers).to_bytes(8, "big"), "span_id": next(numbers).to_bytes(8, "big")}
    times = {"start_time_unix_nano": NOW, "end_time_unix_nano": NOW + int(seconds * SECOND)}
    return Span(name=name, attributes=attributes(values), **(ids | times | fields))


def read(*spans: Span, reader: SpanReader | None = None, resource: dict[str, Any] | None = None) -> SpanBatch:
    request = ExportTraceServiceRequest()
    of_resource = request.resource_spans.add()
    of_resource.resource.attributes.extend(attributes(resource or {}))
    of_resource.scope_spans.add(spans=spans)
    return (reader or SpanReader()).read(request)


def test_sglangs_root_span_is_the_request() -> None:
    """Its root says all that vLLM's span says and the cached tokens; the spans below it are no requests."""
    root = span("unified Req 1a2b3c4d", SGLANG)
    below = span("prefill_forward", {"tp_rank": 0}, trace_id=root.trace_id, parent_span_id=root.span_id)
    batch = read(below, root)
    assert (batch.received, len(batch.spans), batch.rejected) == (2, 1, {})
    (facts,) = batch.spans
    assert (facts.model_name, facts.ttft, facts.e2e, facts.queue, facts.prefill) == ("qwen", 0.5, 1.5, 0.1, 0.4)
    assert (facts.tpot, facts.prompt_tokens, facts.cached_tokens, facts.output_tokens) == (0.1, 100, 64, 11)


def test_a_span_of_the_conventions_is_a_request() -> None:
    """TTFT is the first chunk, the duration the span's, TPOT what lies between over the tokens after the first."""
    (facts,) = read(span("chat qwen", CHAT)).spans
    assert (facts.model_name, facts.ttft, facts.e2e, facts.queue) == ("qwen", 0.5, 1.5, None)
    assert facts.tpot == pytest.approx(0.1)


@pytest.mark.parametrize("operation", ["execute_tool", "invoke_agent", "embeddings", "retrieval"])
def test_other_operations_are_no_requests(operation: str) -> None:
    """An agent, a tool, an embedding: spans of the conventions whose latency promises nothing about answers."""
    assert read(span("x", CHAT | {"gen_ai.operation.name": operation})).spans == ()


def test_a_request_told_by_engine_and_gateway_counts_once() -> None:
    """The gateway's span is the parent of the engine's: the engine's own numbers count, whatever export has them."""
    gateway, reader = span("chat qwen", CHAT), SpanReader()
    engine = span("llm_request", VLLM, trace_id=gateway.trace_id, parent_span_id=gateway.span_id)
    assert [facts.ttft for facts in read(engine, reader=reader).spans] == [0.2]
    assert read(gateway, reader=reader).spans == ()


@pytest.mark.parametrize("offset", [-10 * 365 * 86400, -60, 60, 10 * 365 * 86400])
def test_an_engines_clock_may_be_wrong(offset: int) -> None:
    """A start in the past or the future, an end before the start: the durations are the engine's own and stay right."""
    wrong = {"start_time_unix_nano": NOW + offset * SECOND, "end_time_unix_nano": NOW}
    (facts,) = read(span("llm_request", VLLM, **wrong)).spans
    assert (facts.ttft, facts.e2e) == (0.2, 1.0)


@pytest.mark.parametrize(
    "wrong",
    [
        span("chat", CHAT, seconds=-1),  # ends before it starts
        span("chat", CHAT, seconds=0.4),  # the first chunk after the end
        span("chat", CHAT, start_time_unix_nano=0),
    ],
    ids=["backwards", "first chunk too late", "no start"],
)
def test_a_clients_clock_must_fit(wrong: Span) -> None:
    """Where the span's own times are the measurement, impossible ones are refused and never counted as fast."""
    batch = read(wrong)
    assert (batch.spans, batch.rejected) == ((), {"bad_time": 1})


def test_labels_come_from_the_span_else_from_the_resource() -> None:
    """In the order they were asked for; what nobody says is empty, numbers are text, the endless is cut."""
    reader = SpanReader(["tenant", "team", "tier", "none"])
    request = span("llm_request", VLLM | {"tenant": "a" * 1000, "tier": 3})
    (facts,) = read(request, reader=reader, resource={"tenant": "b", "team": "search"}).spans
    assert facts.labels == ("a" * 200, "search", "3", "")


def counted(spans: int, budget: int) -> CollectorRegistry:
    """Spans of as many tenants, counted with a budget of label sets."""
    registry = CollectorRegistry()
    slo = Slo(service="chat", name="ttft", objective=0.99, sli=LatencySli(catalog.TTFT, 0.3), exact=True)
    metrics, reader = SpanMetrics(registry, [slo], ["tenant"], budget), SpanReader(["tenant"])
    metrics.know(["m"])
    for tenant in range(spans):
        metrics.take(read(span("llm_request", VLLM | {"tenant": f"t{tenant}"}), reader=reader), "m")
    return registry


def test_exact_slos_are_counted_per_tenant() -> None:
    """The counters have the label, so that what a spec with group_by [model_name, tenant] asks for is there."""
    registry = counted(3, 10)
    labels = {"slo": "chat-ttft", "model_name": "m"}
    assert registry.get_sample_value(catalog.SLO_GOOD_EVENTS.name, labels | {"tenant": "t2"}) == 1
    assert registry.get_sample_value(catalog.SPAN_TTFT.name + "_count", {"model_name": "m", "tenant": "t2"}) == 1
    good, _ = exact("chat-ttft", "5m", Scope(by=("model_name", "tenant")))
    assert good == f'sum by (model_name, tenant) (rate({catalog.SLO_GOOD_EVENTS.name}{{slo="chat-ttft"}}[5m]))'


def test_made_up_labels_do_not_multiply_series(caplog: pytest.LogCaptureFixture) -> None:
    """Ten thousand tenants: so many as the budget allows are told apart, the rest is `other`, and the log says so."""
    registry = counted(10_000, 20)
    events = [s for family in registry.collect() for s in family.samples if s.name == catalog.SLO_EVENTS.name]
    assert len(events) == 21
    labels = {"slo": "chat-ttft", "model_name": "m", "tenant": OTHER}
    assert registry.get_sample_value(catalog.SLO_EVENTS.name, labels) == 10_000 - 19
    assert sum(sample.value for sample in events) == 10_000
    assert len([record for record in caplog.records if "sets of span labels" in record.getMessage()]) == 1
