"""OTLP trace exports: the body -> the message, and the answers that the protocol asks for."""

import base64
import binascii
import json
import zlib
from collections.abc import Iterator
from typing import Any

from google.protobuf.json_format import MessageToJson, ParseDict, ParseError
from google.protobuf.message import DecodeError, Message
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from exporters.model import SpanBatch

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
# Bytes of a body after decompression: some 7000 spans, and vLLM sends at most 512 at a time. The 64 MiB of the
# specification, full of empty messages, would take gigabytes. JSON takes ten times the work of protobuf.
MAX_BODY = 4 * 1024 * 1024
MAX_JSON = 1024 * 1024
# Spans and the groups they come in: two bytes make an empty one.
MAX_SPANS = 50_000
# Seconds after which a sender whom we have no room for may come again.
RETRY_AFTER = 1
# google.rpc.Code of each status that a refusal has.
_CODES = {400: 3, 401: 16, 408: 4, 413: 3, 415: 3, 429: 8, 503: 14}


class RefusedError(Exception):
    """An export that is not taken in: the HTTP status, the reason as a label value, the message for the sender."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


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
    """The export in a plain body. Raises RefusedError when it is malformed, of another type, or too many spans."""
    export = _message(body, content_type)
    _check_count(export)
    return export


def _message(body: bytes, content_type: str) -> ExportTraceServiceRequest:
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
        response.partial_success.error_message = f"unusable request spans: {reasons}"
    return _encoded(response, content_type)


def refusal(refused: RefusedError, content_type: str) -> bytes:
    """The body that goes with the status of a refusal."""
    return _encoded(Status(code=_CODES[refused.status], message=str(refused)), content_type)


def _json_spans(export: Any) -> Iterator[dict[str, Any]]:
    for of_resource in export.get("resourceSpans", ()):
        for scope in of_resource.get("scopeSpans", ()):
            yield from scope.get("spans", ())


def _encoded(message: Message, content_type: str) -> bytes:
    if answer_type(content_type) == PROTOBUF:
        return message.SerializeToString()
    return MessageToJson(message, indent=None).encode()
