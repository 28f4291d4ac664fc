"""Feed exports of spans bent by atheris to the way from body to counters. Not part of `make test`:

    pip install -e '.[fuzz]'
    python tests/fuzz/fuzz_spans.py [-runs=200000] [any other option of libFuzzer]

The first byte says protobuf or JSON, gzip or plain. Whatever comes is refused with RefusedError or counted; then the
page of what was counted is one that prometheus_client reads, in both formats, and what is sampled from it decodes.
200 000 inputs, with atheris 3.0, took four minutes and found nothing.
"""

import gzip
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import atheris
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

with atheris.instrument_imports(include=["exporters"]):
    from exporters.collector import Snapshot
    from exporters.serving.page import render
    from exporters.spans import otlp
    from exporters.spans.exact import SpanMetrics
    from exporters.spans.forward import Sampler
    from exporters.spans.reader import SpanReader

CAPTURE = Path(__file__).parents[1] / "captures" / "vllm-0.32.0-llm_request.otlp.pb"
SAMPLER = Sampler(0.5)


def one_input(data: bytes) -> None:
    """An export, in one of the encodings."""
    kind, body = data[:1], data[1:]
    content_type = otlp.JSON if kind >= b"\x80" else otlp.PROTOBUF
    try:
        export = otlp.decode(otlp.inflate(body, "gzip" if kind[:1] in (b"\x01", b"\x81") else ""), content_type)
    except otlp.RefusedError as refused:
        otlp.refusal(refused, content_type)
        return
    batch = SpanReader(["tenant"]).read(export)
    otlp.answer(batch, content_type)
    registry = CollectorRegistry()
    bad = SpanMetrics(registry, labels=["tenant"]).take(batch, "m")
    taken, kept, left = SAMPLER.sample(export, bad)
    assert kept + left == batch.received
    ExportTraceServiceRequest.FromString(taken.SerializeToString())
    if batch.spans:
        page(registry)


def page(registry: CollectorRegistry) -> None:
    list(parse_text(render(Snapshot(), registry)[0].decode()))
    list(parse_openmetrics(render(Snapshot(), registry, "application/openmetrics-text")[0].decode()))


def seeds() -> Iterator[bytes]:
    """A real export in all encodings, and one of the semantic conventions."""
    body = CAPTURE.read_bytes()
    export = ExportTraceServiceRequest.FromString(body)
    yield b"\x00" + body
    yield b"\x01" + gzip.compress(body)
    plain = MessageToDict(export, use_integers_for_enums=True)
    for of_resource, message in zip(plain["resourceSpans"], export.resource_spans, strict=True):
        for scope, spans in zip(of_resource["scopeSpans"], message.scope_spans, strict=True):
            for twin, span in zip(scope["spans"], spans.spans, strict=True):
                twin |= {"traceId": span.trace_id.hex(), "spanId": span.span_id.hex(), "parentSpanId": "00" * 8}
    text = json.dumps(plain).encode()
    yield b"\x80" + text
    yield b"\x81" + gzip.compress(text)
    span = export.resource_spans[0].scope_spans[0].spans[0]
    span.name = "chat"
    del span.attributes[:]
    span.attributes.add(key="gen_ai.operation.name").value.string_value = "chat"
    span.attributes.add(key="gen_ai.response.time_to_first_chunk").value.double_value = 0.1
    span.attributes.add(key="tenant").value.string_value = 'a"\n\\'
    yield b"\x00" + export.SerializeToString()


def main() -> None:
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds()):
            (Path(corpus) / str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], "-runs=200000", "-max_len=4096", *sys.argv[1:], corpus], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
