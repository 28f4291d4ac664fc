"""Spans -> facts of requests: which span is a request, and what its attributes say."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.proto.trace.v1.trace_pb2 import Status as SpanStatus

from exporters.model import SpanBatch, SpanFacts

# Characters of a model name or a label value that are kept.
MAX_NAME = 200

# An engine's own span of a request: vLLM's by its name, SGLang's and others' by the durations they carry.
REQUEST_SPAN = "llm_request"
_TTFT, _E2E = "gen_ai.latency.time_to_first_token", "gen_ai.latency.e2e"
_QUEUE, _PREFILL, _DECODE = (f"gen_ai.latency.time_in_{phase}" for phase in ("queue", "model_prefill", "model_decode"))
# A span by the semantic conventions: these operations answer one request; agents, tools and retrieval do not.
_OPERATION = "gen_ai.operation.name"
_INFERENCE = frozenset({"chat", "text_completion", "generate_content"})
_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
# The newer name of the semantic conventions first.
_PROMPT_TOKENS = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")
_OUTPUT_TOKENS = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens")
_CACHED_TOKENS = ("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cached_tokens")
_SPAN_MODEL = ("gen_ai.response.model", "gen_ai.request.model")
_RESOURCE_MODEL = ("gen_ai.request.model", "model_name")


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


class SpanReader:
    """Finds the request spans of exports. `labels` are the attributes (of the span, else of its resource) whose
    values go into `SpanFacts.labels`.

    A span is a request when it is called `llm_request`, carries a `gen_ai.latency.*` duration (SGLang's root span), or
    has a `gen_ai.operation.name` that asks a model. The last is a client's or gateway's view: when it is the parent of
    an engine's span, which ends and comes first, the engine has told of the request already and it is left out.
    """

    def __init__(self, labels: Sequence[str] = ()) -> None:
        self._labels = tuple(labels)
        self._seen = SeenSpans()

    def read(self, export: ExportTraceServiceRequest) -> SpanBatch:
        """The facts of an export's request spans; those already seen are left out."""
        received, spans, rejected = 0, list[SpanFacts](), Counter[str]()
        for of_resource in export.resource_spans:
            resource = _attributes(of_resource.resource.attributes)
            for span in (span for scope in of_resource.scope_spans for span in scope.spans):
                received += 1
                try:
                    facts = self._facts(span, resource)
                except _UnusableError as error:
                    rejected[str(error)] += 1
                    continue
                if facts is not None:
                    spans.append(facts)
        return SpanBatch(received, tuple(spans), rejected)

    def _facts(self, span: Span, resource: Mapping[str, Any]) -> SpanFacts | None:
        attributes = _attributes(span.attributes)
        of_engine = span.name == REQUEST_SPAN or _TTFT in attributes or _E2E in attributes
        if not of_engine and attributes.get(_OPERATION) not in _INFERENCE:
            return None
        if len(span.trace_id) != 16 or len(span.span_id) != 8:
            raise _UnusableError("bad_id")
        output_tokens = _count(attributes, _OUTPUT_TOKENS)
        durations = _engine_durations(attributes) if of_engine else _client_durations(span, attributes)
        decode = durations.get("decode")
        if durations.get("ttft") is None and durations.get("e2e") is None:
            raise _UnusableError("no_latency")
        facts = SpanFacts(
            trace_id=span.trace_id.hex(),
            start=span.start_time_unix_nano / 1e9,
            model_name=_text(attributes, _SPAN_MODEL) or _text(resource, _RESOURCE_MODEL),
            ok=span.status.code != SpanStatus.STATUS_CODE_ERROR,
            tpot=decode / (output_tokens - 1) if decode is not None and output_tokens and output_tokens > 1 else None,
            prompt_tokens=_count(attributes, _PROMPT_TOKENS),
            cached_tokens=_count(attributes, _CACHED_TOKENS),
            output_tokens=output_tokens,
            labels=tuple(_label(attributes.get(key, resource.get(key))) for key in self._labels),
            **durations,
        )
        return facts if self._is_new(span, of_engine) else None

    def _is_new(self, span: Span, of_engine: bool) -> bool:
        new = self._seen.is_new(span.trace_id + span.span_id)
        if new and of_engine and span.parent_span_id:
            self._seen.is_new(span.trace_id + span.parent_span_id)
        return new


class _UnusableError(Exception):
    """A request span that tells nothing; the text is the reason as a label value."""


def _engine_durations(attributes: Mapping[str, Any]) -> dict[str, float | None]:
    return {
        "ttft": _number(attributes, _TTFT),
        "e2e": _number(attributes, _E2E),
        "queue": _number(attributes, _QUEUE),
        "prefill": _number(attributes, _PREFILL),
        "decode": _number(attributes, _DECODE),
    }


def _client_durations(span: Span, attributes: Mapping[str, Any]) -> dict[str, float | None]:
    e2e = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
    ttft = _number(attributes, _FIRST_CHUNK)
    if e2e < 0 or not span.start_time_unix_nano or (ttft is not None and ttft > e2e):
        raise _UnusableError("bad_time")
    return {"ttft": ttft, "e2e": e2e, "decode": None if ttft is None else e2e - ttft}


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
    for key in keys:
        if (value := _number(attributes, key)) is not None:
            return int(value)
    return None


def _text(attributes: Mapping[str, Any], keys: Iterable[str]) -> str | None:
    for key in keys:
        value = attributes.get(key)
        if isinstance(value, str) and value:
            return value[:MAX_NAME]
    return None


def _label(value: Any) -> str:
    return str(value)[:MAX_NAME] if isinstance(value, (str, int, float)) else ""
