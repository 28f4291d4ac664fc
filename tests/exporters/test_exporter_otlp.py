"""OTLP/HTTP bodies -> facts of request spans: a real export of vLLM, its JSON twin, and what can be wrong."""

import contextlib
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from exporters.model import SpanBatch, SpanFacts
from exporters.spans import otlp
from exporters.spans.reader import MAX_NAME, SeenSpans, SpanReader

CAPTURE = (Path(__file__).parents[1] / "captures" / "vllm-0.32.0-llm_request.otlp.pb").read_bytes()
FACTS = SpanFacts(
    trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
    start=1795166043.800104192,
    ttft=0.27,
    tpot=1.75 / 99,
    e2e=2.000009536743164,
    queue=0.05000000000000071,
    prefill=0.1999999999999993,
    decode=1.75,
    prompt_tokens=512,
    output_tokens=100,
)


def read(body: bytes, content_type: str = otlp.PROTOBUF, reader: SpanReader | None = None) -> SpanBatch:
    return (reader or SpanReader()).read(otlp.decode(body, content_type))


def export() -> ExportTraceServiceRequest:
    return ExportTraceServiceRequest.FromString(CAPTURE)


def as_json(request: ExportTraceServiceRequest) -> dict[str, Any]:
    """The export as OTLP/JSON: like protobuf's JSON, but for hexadecimal ids."""
    plain = MessageToDict(request, use_integers_for_enums=True)
    for of_resource, message in zip(plain["resourceSpans"], request.resource_spans, strict=True):
        spans = [span for scope in message.scope_spans for span in scope.spans]
        written = [span for scope in of_resource["scopeSpans"] for span in scope["spans"]]
        for twin, span in zip(written, spans, strict=True):
            twin |= {"traceId": span.trace_id.hex().upper(), "spanId": span.span_id.hex()}
            if span.parent_span_id:
                twin["parentSpanId"] = span.parent_span_id.hex()
    return plain


def with_attribute(key: str, **value: Any) -> ExportTraceServiceRequest:
    """The export with one attribute of its first span set to a value of some type, or taken away."""
    request = export()
    span = request.resource_spans[0].scope_spans[0].spans[0]
    kept = [attribute for attribute in span.attributes if attribute.key != key]
    del span.attributes[:]
    span.attributes.extend(kept)
    if value:
        added = span.attributes.add(key=key)
        for kind, content in value.items():
            setattr(added.value, kind, content)
    return request


def test_capture_is_decoded_exactly() -> None:
    """Two requests of a real vLLM 0.32, every number as the engine wrote it; it names no model."""
    batch = read(CAPTURE)
    assert batch.received == 2
    assert batch.rejected == {}
    assert batch.spans[0] == FACTS
    assert batch.spans[1].trace_id == "fc823fb0c1fa5cdf1776338b55639131"
    assert batch.spans[1].model_name is None


def test_json_says_the_same_as_protobuf() -> None:
    """The JSON encoding, its ids in hexadecimal of either case and its integers as strings, gives equal facts."""
    body = json.dumps(as_json(export())).encode()
    assert read(body, otlp.JSON).spans == read(CAPTURE).spans


def test_gzip_is_inflated() -> None:
    """A compressed body is the body."""
    assert otlp.inflate(gzip.compress(CAPTURE), "gzip") == CAPTURE
    assert otlp.inflate(CAPTURE, "") == otlp.inflate(CAPTURE, "identity") == CAPTURE


def test_other_spans_are_counted_and_left_alone() -> None:
    """Start-up spans and those of other services are no requests."""
    request = export()
    span = request.resource_spans[0].scope_spans[0].spans[0]
    span.name = "Load model"
    del span.attributes[:]
    batch = read(request.SerializeToString())
    assert (batch.received, len(batch.spans), batch.rejected) == (2, 1, {})


def test_one_token_has_no_tpot() -> None:
    """Between one token and the next there is nothing when there is no next: TPOT is absent, not 0."""
    for count in (0, 1):
        request = with_attribute("gen_ai.usage.completion_tokens", int_value=count)
        first = read(request.SerializeToString()).spans[0]
        assert first.tpot is None
        assert first.output_tokens == count


def test_newer_token_names_are_read() -> None:
    """gen_ai.usage.output_tokens is completion_tokens under its newer name."""
    request = with_attribute("gen_ai.usage.output_tokens", int_value=11)
    assert read(request.SerializeToString()).spans[0].output_tokens == 11


def test_absent_is_absent() -> None:
    """A span of an engine that tells less has None, never 0."""
    request = with_attribute("gen_ai.latency.time_in_queue")
    assert read(request.SerializeToString()).spans[0].queue is None


def test_failed_span_is_no_good_request() -> None:
    """The span status ERROR makes the request a failure for the SLIs."""
    request = export()
    request.resource_spans[0].scope_spans[0].spans[0].status.code = 2
    first, second = read(request.SerializeToString()).spans
    assert (first.to_request().ok, second.to_request().ok) == (False, True)


def test_model_comes_from_the_span_else_from_the_resource() -> None:
    """The model that answered, then the one asked for, then what OTEL_RESOURCE_ATTRIBUTES says."""
    request = export()
    request.resource_spans[0].resource.attributes.add(key="model_name").value.string_value = "of-resource"
    span = request.resource_spans[0].scope_spans[0].spans[0]
    span.attributes.add(key="gen_ai.request.model").value.string_value = "asked"
    first, second = read(request.SerializeToString()).spans
    assert (first.model_name, second.model_name) == ("asked", "of-resource")
    span.attributes.add(key="gen_ai.response.model").value.string_value = "x" * 10_000
    assert read(request.SerializeToString()).spans[0].model_name == "x" * MAX_NAME


def test_spans_sent_again_are_not_counted_again() -> None:
    """A sender that missed our answer sends the batch again: accepted, without a second count."""
    reader = SpanReader()
    assert len(read(CAPTURE, reader=reader).spans) == 2
    again = read(CAPTURE, reader=reader)
    assert (again.received, again.spans, again.rejected) == (2, (), {})


def test_the_memory_of_seen_spans_is_bounded() -> None:
    """The last `window` spans are known for sure, those twice as old for sure no more."""
    seen = SeenSpans(window=10)
    names = [b"%d" % i for i in range(1000)]
    assert all(seen.is_new(name) for name in names)
    assert not any(seen.is_new(name) for name in names[-10:])
    assert all(seen.is_new(name) for name in names[:900])


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (with_attribute("gen_ai.latency.e2e", double_value=-1.0), "bad_value"),
        (with_attribute("gen_ai.latency.e2e", double_value=float("nan")), "bad_value"),
        (with_attribute("gen_ai.latency.e2e", double_value=float("inf")), "bad_value"),
        (with_attribute("gen_ai.latency.e2e", string_value="2 s"), "bad_value"),
        (with_attribute("gen_ai.latency.e2e", bool_value=True), "bad_value"),
        (with_attribute("gen_ai.usage.completion_tokens", int_value=-5), "bad_value"),
    ],
)
def test_unusable_spans_are_rejected_alone(request_: ExportTraceServiceRequest, reason: str) -> None:
    """A span whose numbers cannot be is left out, named in the answer, and the rest of the batch counts."""
    batch = read(request_.SerializeToString())
    assert (len(batch.spans), batch.rejected) == (1, {reason: 1})
    answer = ExportTraceServiceResponse.FromString(otlp.answer(batch, otlp.PROTOBUF))
    assert answer.partial_success.rejected_spans == 1
    assert reason in answer.partial_success.error_message
    said = json.loads(otlp.answer(batch, otlp.JSON))["partialSuccess"]
    assert said["rejectedSpans"] == "1"


def test_a_span_without_ids_or_latency_is_rejected() -> None:
    """No id cannot be told from its re-export; no TTFT and no end-to-end time tell nothing."""
    request = export()
    spans = request.resource_spans[0].scope_spans[0].spans
    spans[0].span_id = b""
    del spans[1].attributes[:]
    assert read(request.SerializeToString()).rejected == {"bad_id": 1, "no_latency": 1}


def test_success_is_the_empty_answer() -> None:
    """As the protocol says: no bytes in protobuf, an empty object in JSON."""
    assert otlp.answer(read(CAPTURE), otlp.PROTOBUF) == b""
    assert otlp.answer(read(b""), otlp.JSON) == b"{}"


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (CAPTURE[:-1], otlp.PROTOBUF, 400),
        (b"\xff\xff\xff", otlp.PROTOBUF, 400),
        (b"", otlp.JSON, 400),
        (b"null", otlp.JSON, 400),
        (b"[]", otlp.JSON, 400),
        (b'{"resourceSpans": 7}', otlp.JSON, 400),
        (b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "xyz"}]}]}]}', otlp.JSON, 400),
        (b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": 7}]}]}]}', otlp.JSON, 400),
        (b'{"resourceSpans": [{"scopeSpans": [{"spans": ["name"]}]}]}', otlp.JSON, 400),
        (b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "\\ud800"}]}]}]}', otlp.JSON, 400),
        (b"[" * 100_000, otlp.JSON, 400),
        (CAPTURE, "text/plain", 415),
        (CAPTURE, "", 415),
    ],
)
def test_what_is_no_export_is_refused(body: bytes, content_type: str, status: int) -> None:
    """Malformed bodies are 400, other types 415, each with a google.rpc.Status in the sender's encoding."""
    with pytest.raises(otlp.RefusedError) as refused:
        read(body, content_type)
    assert refused.value.status == status
    if content_type == otlp.PROTOBUF:
        assert Status.FromString(otlp.refusal(refused.value, content_type)).message == str(refused.value)
    else:
        assert json.loads(otlp.refusal(refused.value, content_type))["message"] == str(refused.value)


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (gzip.compress(bytes(otlp.MAX_BODY + 1)), "gzip", 413),
        (gzip.compress(CAPTURE)[:-9], "gzip", 400),
        (gzip.compress(CAPTURE) + b"tail", "gzip", 400),
        (CAPTURE, "gzip", 400),
        (CAPTURE, "br", 415),
    ],
    ids=["bomb", "truncated", "tail", "no gzip", "brotli"],
)
def test_bad_encodings_are_refused(body: bytes, encoding: str, status: int) -> None:
    """A body that inflates beyond the limit is 413 before it fills the memory; broken gzip is 400, others 415."""
    with pytest.raises(otlp.RefusedError) as refused:
        otlp.inflate(body, encoding)
    assert refused.value.status == status


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"\x0a\x00" * (otlp.MAX_SPANS + 1), otlp.PROTOBUF),
        (b'{"resourceSpans":[{"scopeSpans":[' + b"{}," * otlp.MAX_SPANS + b"{}]}]}", otlp.JSON),
        (b'{"resourceSpans":[' + b" " * otlp.MAX_JSON + b"]}", otlp.JSON),
    ],
    ids=["groups", "scopes", "bytes"],
)
def test_a_flood_of_nothing_is_refused(body: bytes, content_type: str) -> None:
    """Few bytes can be many empty messages: what would keep the process busy for long is 413."""
    with pytest.raises(otlp.RefusedError) as refused:
        read(body, content_type)
    assert refused.value.status == 413


@given(st.binary(max_size=300), st.integers(0, len(CAPTURE)), st.sampled_from([otlp.PROTOBUF, otlp.JSON]))
def test_any_body_is_read_or_refused(noise: bytes, cut: int, content_type: str) -> None:
    """Whatever comes over the network ends in a batch or a refusal, never in another error."""
    with contextlib.suppress(otlp.RefusedError):
        read(CAPTURE[:cut] + noise, content_type)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["resourceSpans", "scopeSpans", "spans", "links", "traceId", "name", "attributes", "key"]),
            inner,
            max_size=4,
        )
    ),
)


@given(json_values)
def test_any_json_is_read_or_refused(value: Any) -> None:
    """Any JSON of the right words in the wrong places is a batch or a refusal."""
    for nested in (value, {"resourceSpans": [{"scopeSpans": [{"spans": [value]}]}]}):
        with contextlib.suppress(otlp.RefusedError):
            read(json.dumps(nested).encode(), otlp.JSON)
