"""OTLP/HTTP trace exports: the request body -> facts of the request spans, and the answers the protocol asks for."""

import base64
import binascii
import json
import math
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from google.protobuf.json_format import MessageToJson, ParseDict, ParseError
from google.protobuf.message import DecodeError, Message
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.proto.trace.v1.trace_pb2 import Status as SpanStatus

from exporters.model import SpanBatch, SpanFacts

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
# Bytes of a body after decompression: some 7000 spans, and vLLM sends at most 512 at a time. The 64 MiB of the
# specification, full of empty messages, would take gigabytes. JSON takes ten times the work of protobuf.
MAX_BODY = 4 * 1024 * 1024
MAX_JSON = 1024 * 1024
# Spans and the groups they come in: two bytes make an empty one.
MAX_SPANS = 50_000
# Characters of a model name that are kept.
MAX_NAME = 200

REQUEST_SPAN = "llm_request"
_DURATIONS = (
    "gen_ai.latency.time_to_first_token",
    "gen_ai.latency.e2e",
    "gen_ai.latency.time_in_queue",
    "gen_ai.latency.time_in_model_prefill",
    "gen_ai.latency.time_in_model_decode",
)
# The newer name of the semantic conventions first.
_PROMPT_TOKENS = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")
_OUTPUT_TOKENS = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens")
_SPAN_MODEL = ("gen_ai.response.model", "gen_ai.request.model")
_RESOURCE_MODEL = ("gen_ai.request.model", "model_name")


class RefusedError(Exception):
    """An export that is not taken in: the HTTP status, the reason as a label value, the message for the sender."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class SeenSpans:
    """Remembers the last spans taken in, at least `window` and at most twice as many: a sender that got no answer in
    time sends them again."""

    def __init__(self, window: int = 16384) -> None:
        self._window = window
        self._young: set[bytes] = set()
        self._old: set[bytes] = set()

    def is_new(self, span_id: bytes) -> bool:
        """Whether this is the first time; it is remembered."""
        if span_id in self._young or span_id in self._old:
            return False
        self._young.add(span_id)
        if len(self._young) >= self._window:
            self._old, self._young = self._young, set()
        return True


def inflate(body: bytes, encoding: str) -> bytes:
    """The body without its Content-Encoding. Raises RefusedError, for more than MAX_BODY with status 413."""
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise RefusedError(415, "encoding", f"Content-Encoding {encoding!r} is not supported; use gzip or none")
    stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        plain = stream.decompress(body, MAX_BODY + 1)
    except zlib.error as error:
        raise RefusedError(400, "malformed", f"the body is not gzip: {error}") from None
    if len(plain) > MAX_BODY:
        raise too_large(MAX_BODY)
    if not stream.eof or stream.unused_data:
        raise RefusedError(400, "malformed", "the gzip body is cut short or has something behind its end")
    return plain


def too_large(limit: int) -> RefusedError:
    """The refusal of a body of more than `limit` bytes."""
    return RefusedError(413, "too_large", f"more than {limit >> 20} MiB; send smaller batches")


def decode(body: bytes, content_type: str) -> ExportTraceServiceRequest:
    """The export in a plain body. Raises RefusedError when it is malformed or of another type."""
    if content_type == PROTOBUF:
        try:
            return ExportTraceServiceRequest.FromString(body)
        except DecodeError as error:
            raise RefusedError(400, "malformed", f"no ExportTraceServiceRequest: {error}") from None
    if content_type != JSON:
        raise RefusedError(415, "content_type", f"Content-Type {content_type!r}: send {PROTOBUF} or {JSON}")
    if len(body) > MAX_JSON:
        raise too_large(MAX_JSON)
    try:
        export = json.loads(body)
        for span in _json_spans(export):
            for thing in (span, *span.get("links", ())):
                for key in ("traceId", "spanId", "parentSpanId"):
                    if key in thing:
                        thing[key] = base64.b64encode(binascii.unhexlify(thing[key])).decode()
        return ParseDict(export, ExportTraceServiceRequest(), ignore_unknown_fields=True)
    except (ParseError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise RefusedError(400, "malformed", f"no ExportTraceServiceRequest: {error}") from None


def read(export: ExportTraceServiceRequest, seen: SeenSpans) -> SpanBatch:
    """The facts of an export's request spans; those already seen are left out. Raises RefusedError for too many."""
    _check_count(export)
    received, spans, rejected = 0, [], Counter[str]()
    for of_resource in export.resource_spans:
        model = _text(_attributes(of_resource.resource.attributes), _RESOURCE_MODEL)
        for span in (span for scope in of_resource.scope_spans for span in scope.spans):
            received += 1
            if span.name != REQUEST_SPAN:
                continue
            try:
                facts = _facts(span, model)
            except _UnusableError as error:
                rejected[str(error)] += 1
                continue
            if seen.is_new(span.trace_id + span.span_id):
                spans.append(facts)
    return SpanBatch(received, tuple(spans), rejected)


def _check_count(export: ExportTraceServiceRequest) -> None:
    count = len(export.resource_spans)
    if count <= MAX_SPANS:
        count += sum(len(of_resource.scope_spans) for of_resource in export.resource_spans)
    if count <= MAX_SPANS:
        count += sum(len(scope.spans) for of_resource in export.resource_spans for scope in of_resource.scope_spans)
    if count > MAX_SPANS:
        raise RefusedError(413, "too_large", f"more than {MAX_SPANS} spans and groups; send smaller batches")


def answer_type(content_type: str) -> str:
    """The encoding to answer in: the sender's own, and JSON to one that speaks neither."""
    return PROTOBUF if content_type == PROTOBUF else JSON


def answer(batch: SpanBatch, content_type: str) -> bytes:
    """The body of the 200 that takes a batch in, in the encoding it came in."""
    response = ExportTraceServiceResponse()
    if batch.rejected:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(batch.rejected.items()))
        response.partial_success.rejected_spans = sum(batch.rejected.values())
        response.partial_success.error_message = f"unusable {REQUEST_SPAN} spans: {reasons}"
    return _encoded(response, content_type)


def refusal(refused: RefusedError, content_type: str) -> bytes:
    """The body that goes with the status of a refusal."""
    return _encoded(Status(code=3, message=str(refused)), content_type)  # 3: INVALID_ARGUMENT


class _UnusableError(Exception):
    """A request span that tells nothing; the text is the reason as a label value."""


def _facts(span: Span, resource_model: str | None) -> SpanFacts:
    if len(span.trace_id) != 16 or len(span.span_id) != 8:
        raise _UnusableError("bad_id")
    attributes = _attributes(span.attributes)
    ttft, e2e, queue, prefill, decode = (_number(attributes, key) for key in _DURATIONS)
    if ttft is None and e2e is None:
        raise _UnusableError("no_latency")
    output_tokens = _count(attributes, _OUTPUT_TOKENS)
    return SpanFacts(
        trace_id=span.trace_id.hex(),
        start=span.start_time_unix_nano / 1e9,
        model_name=_text(attributes, _SPAN_MODEL) or resource_model,
        ok=span.status.code != SpanStatus.STATUS_CODE_ERROR,
        ttft=ttft,
        tpot=decode / (output_tokens - 1) if decode is not None and output_tokens and output_tokens > 1 else None,
        e2e=e2e,
        queue=queue,
        prefill=prefill,
        decode=decode,
        prompt_tokens=_count(attributes, _PROMPT_TOKENS),
        output_tokens=output_tokens,
    )


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, kind) for pair in pairs if (kind := pair.value.WhichOneof("value"))}


def _number(attributes: Mapping[str, Any], key: str) -> float | None:
    value = attributes.get(key)
    if value is None:
        return None
    if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
        raise _UnusableError("bad_value")
    return float(value)


def _count(attributes: Mapping[str, Any], keys: Iterable[str]) -> int | None:
    values = (_number(attributes, key) for key in keys)
    return next((int(value) for value in values if value is not None), None)


def _text(attributes: Mapping[str, Any], keys: Iterable[str]) -> str | None:
    values = (attributes.get(key) for key in keys)
    return next((value[:MAX_NAME] for value in values if isinstance(value, str) and value), None)


def _json_spans(export: Any) -> Iterator[dict[str, Any]]:
    for of_resource in export.get("resourceSpans", ()):
        for scope in of_resource.get("scopeSpans", ()):
            yield from scope.get("spans", ())


def _encoded(message: Message, content_type: str) -> bytes:
    if answer_type(content_type) == PROTOBUF:
        return message.SerializeToString()
    return MessageToJson(message, indent=None).encode()
