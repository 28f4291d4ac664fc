"""Spans: the same attributes as vLLM's captured ones, the model's exact numbers, and no harm from a dead collector."""

import socket
import time
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from simulating import Collector, Running, serving, until

from loadgen.simulator.spans import SpanSender

CAPTURE = Path(__file__).parents[2] / "captures" / "vllm-0.32.0-llm_request.otlp.pb"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def decode(body: bytes) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    request.ParseFromString(body)
    return request


def spans(collector: Collector) -> list[Span]:
    """All spans that came in so far."""
    requests = [decode(body) for body in list(collector.bodies)]
    return [s for request in requests for r in request.resource_spans for scope in r.scope_spans for s in scope.spans]


def types(attributes: list[KeyValue]) -> dict[str, str | None]:
    """Kind of value by key."""
    return {attribute.key: attribute.value.WhichOneof("value") for attribute in attributes}


def number(span: Span, key: str) -> float:
    """A numeric attribute."""
    (value,) = (attribute.value for attribute in span.attributes if attribute.key == key)
    return value.double_value or float(value.int_value)


def post(running: Running, **body: object) -> None:
    with running.client() as client:
        headers = body.pop("headers", None)
        answer = client.post("/v1/completions", json={"prompt": "hi", "max_tokens": 4} | body, headers=headers)  # type: ignore[arg-type]
        assert answer.status_code == 200


@pytest.fixture
def sender(collector: Collector) -> SpanSender:
    return SpanSender(collector.url)


def test_a_span_looks_like_vllms(collector: Collector, sender: SpanSender) -> None:
    """Scope, name, kind, attribute keys in order and their types equal the capture; the resource says simulated."""
    with serving(spans=sender) as running:
        post(running, temperature=0.7, top_p=0.9, headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
        sender.close()
    ours, real = decode(collector.bodies[0]).resource_spans[0], decode(CAPTURE.read_bytes()).resource_spans[0]
    (span,), theirs = ours.scope_spans[0].spans, real.scope_spans[0].spans[0]
    assert list(types(list(span.attributes)).items()) == list(types(list(theirs.attributes)).items())
    assert (span.name, span.kind, span.flags) == (theirs.name, theirs.kind, theirs.flags)
    assert ours.scope_spans[0].scope.name == real.scope_spans[0].scope.name == "vllm.tracing.otel"
    resource = types(list(ours.resource.attributes))
    assert set(types(list(real.resource.attributes))) <= set(resource)
    assert resource["llm_slo.simulated"] == "bool_value"
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert span.end_time_unix_nano - span.start_time_unix_nano == pytest.approx(
        number(span, "gen_ai.latency.e2e") * 1e9, abs=1000
    )
    assert abs(time.time() - span.end_time_unix_nano / 1e9) < 10


def test_only_sampled_requests_have_a_span(collector: Collector, sender: SpanSender) -> None:
    """No header: a new root. Flag 01: a child. Flag 00: none. An unreadable header: a new root."""
    with serving(spans=sender) as running:
        for flag in ("01", "00"):
            post(running, headers={"traceparent": f"00-{TRACE}-{PARENT}-{flag}"})
        post(running)
        post(running, headers={"traceparent": "nonsense"})
        sender.close()
    parents = sorted(span.parent_span_id.hex() for span in spans(collector))
    assert parents == ["", "", PARENT]


def test_a_zero_temperature_is_left_out(collector: Collector, sender: SpanSender) -> None:
    """As vLLM does: greedy requests carry no temperature."""
    with serving(spans=sender) as running:
        post(running, temperature=0)
        sender.close()
    assert "gen_ai.request.temperature" not in types(list(spans(collector)[0].attributes))


def test_spans_equal_histograms(collector: Collector, sender: SpanSender) -> None:
    """Sums over spans are the sums of the histograms: both come from the same numbers."""
    with serving(spans=sender) as running:
        for tokens in range(1, 13):
            post(running, max_tokens=tokens)
        stats = running.engine.stats
        sender.close()
    sent = spans(collector)
    for key, histogram in (
        ("gen_ai.latency.time_to_first_token", stats.ttft),
        ("gen_ai.latency.e2e", stats.e2e),
        ("gen_ai.latency.time_in_queue", stats.queue),
        ("gen_ai.latency.time_in_model_prefill", stats.prefill),
        ("gen_ai.latency.time_in_model_decode", stats.decode),
        ("gen_ai.latency.time_in_model_inference", stats.inference),
        ("gen_ai.usage.prompt_tokens", stats.request_prompt_tokens),
        ("gen_ai.usage.completion_tokens", stats.request_generation_tokens),
    ):
        assert histogram.count == len(sent) == 12
        assert sum(number(span, key) for span in sent) == pytest.approx(histogram.sum, abs=1e-9)


def test_a_client_that_left_has_no_span(collector: Collector, sender: SpanSender) -> None:
    """Like vLLM, only finished requests are traced."""
    with serving(spans=sender) as running:
        with running.client() as client:
            body = {"prompt": "a", "max_tokens": 4000, "ignore_eos": True, "stream": True}
            with client.stream("POST", "/v1/completions", json=body) as response:
                next(response.iter_bytes())
        until(lambda: not running.engine.running)
        post(running)
        sender.close()
    assert len(spans(collector)) == 1


def test_a_silent_collector_delays_nothing() -> None:
    """One that takes connections and never answers: requests finish as fast as ever, and closing is bounded."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sender = SpanSender(f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces")
        with serving(spans=sender) as running:
            began = time.monotonic()
            for _ in range(20):
                post(running)
            assert time.monotonic() - began < 2.0
            assert running.engine.stats.finished.total() == 20
        began = time.monotonic()
        sender.close()
        assert time.monotonic() - began < 2.0


def test_lost_spans_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """One that refuses: every batch is lost, a single warning names the address, and requests do not notice."""
    url = "http://127.0.0.1:1/v1/traces"
    sender = SpanSender(url)
    with serving(spans=sender) as running:
        post(running)
        until(lambda: bool(caplog.messages))
        post(running)
        sender.close()
        assert running.engine.stats.finished.total() == 2
    assert caplog.messages == [f"{url} takes no spans: they are lost until it does"]
