"""Tail sampling: spans go on to an OTLP/HTTP upstream, all that broke a promise and a fraction of the rest.

A span goes on when its trace holds, in the same export, a request that failed or broke an SLO; when it failed itself;
when it tells of the engine's start and not of requests; or when its trace id falls into the fraction. The last is the
same everywhere (the 56 random bits of a W3C trace id), so several sidecars and Collectors keep the same traces.
"""

import asyncio
import contextlib
import gzip
import logging
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span
from opentelemetry.proto.trace.v1.trace_pb2 import Status as SpanStatus
from opentelemetry.util.re import parse_env_headers
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.core import Metric as Exposed

from exporters.engines.fetch import without_password
from exporters.spans.otlp import PROTOBUF
from exporters.spans.reader import REQUEST_SPAN
from slo import catalog

log = logging.getLogger(__name__)

# Bytes that may wait: some 27 000 spans, an upstream's restart at 100 requests a second.
MAX_QUEUE = 16 * 1024 * 1024
# Bytes of one request to the upstream.
MAX_BATCH = 1024 * 1024
# Seconds to wait for the upstream's answer, and before the next try: doubled each time, up to the limit.
TIMEOUT, FIRST_PAUSE, LONGEST_PAUSE = 10.0, 1.0, 60.0
# Why a span did not go on.
REASONS = ("sampled", "queue_full", "refused", "fault", "shutdown")
# What the protocol lets a sender try again.
_RETRYABLE = frozenset({429, 502, 503, 504})
_RANDOM_BITS = 56
# vLLM's tracer; the one span that tells of a request is REQUEST_SPAN, all others are of its start.
_VLLM = "vllm"


class Sampler:
    """Decides which spans of an export go on. `keep` is the fraction of traces to keep whatever happened in them."""

    def __init__(self, keep: float) -> None:
        self._reject: int = round((1 - keep) * 2**_RANDOM_BITS)

    def keeps(self, trace_id: bytes) -> bool:
        """Whether a trace is in the fraction."""
        return int.from_bytes(trace_id[-7:], "big") >= self._reject

    def sample(self, export: ExportTraceServiceRequest, bad: set[str]) -> tuple[ExportTraceServiceRequest, int, int]:
        """What goes on of an export of which the traces `bad` must, how many spans that is, and how many stay."""
        must, taken, kept, left = {bytes.fromhex(trace) for trace in bad}, ExportTraceServiceRequest(), 0, 0
        for of_resource in export.resource_spans:
            scopes: list[ScopeSpans] = []
            for scope in of_resource.scope_spans:
                spans = [span for span in scope.spans if self._goes_on(span, scope.scope.name, must)]
                left += len(scope.spans) - len(spans)
                kept += len(spans)
                if spans:
                    scopes.append(ScopeSpans(scope=scope.scope, spans=spans, schema_url=scope.schema_url))
            if scopes:
                taken.resource_spans.add(
                    resource=of_resource.resource, scope_spans=scopes, schema_url=of_resource.schema_url
                )
        return taken, kept, left

    def _goes_on(self, span: Span, scope: str, must: set[bytes]) -> bool:
        return (
            self.keeps(span.trace_id)
            or span.trace_id in must
            or span.status.code == SpanStatus.STATUS_CODE_ERROR
            or (scope.startswith(_VLLM) and span.name != REQUEST_SPAN)
        )


@dataclass(frozen=True, slots=True)
class _Parcel:
    """A serialised export; exports behind one another are one export, that is how protobuf merges."""

    body: bytes
    spans: int


@dataclass(slots=True)
class Tally:
    """How many spans the upstream took, how many it did not get and why, and the bytes that wait or are on the way."""

    sent: int = 0
    unsent: Counter[str] = field(default_factory=Counter)
    waiting: int = 0


Sleep = Callable[[float], Awaitable[object]]


def headers(env: Mapping[str, str]) -> dict[str, str]:
    """The headers for the upstream, from the standard variables: what its door asks for."""
    text = env.get("OTEL_EXPORTER_OTLP_TRACES_HEADERS") or env.get("OTEL_EXPORTER_OTLP_HEADERS") or ""
    return dict(parse_env_headers(text, liberal=True))


class Forwarder:
    """Sends sampled spans to `url`, in the background: `offer` never waits. `sleep` and `jitter` are the pauses."""

    def __init__(
        self,
        url: str,
        sampler: Sampler,
        headers: Mapping[str, str] | None = None,
        max_queue: int = MAX_QUEUE,
        sleep: Sleep = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.tally = Tally()
        self._url, self._shown = url, without_password(url)
        self._sampler = sampler
        self._max_queue = max_queue
        self._sleep = sleep
        self._jitter = jitter
        self._queue: deque[_Parcel] = deque()
        self._filled = asyncio.Event()
        self._problem: str | None = None
        self._client = httpx.AsyncClient(timeout=TIMEOUT, trust_env=False, headers=headers)
        self._task: asyncio.Task[None] | None = None

    def offer(self, export: ExportTraceServiceRequest, bad: set[str]) -> None:
        """Take over what is to go on of an export. The oldest goes when the queue is full: the newest is looked for."""
        taken, kept, left = self._sampler.sample(export, bad)
        self.tally.unsent["sampled"] += left
        if not kept:
            return
        body = taken.SerializeToString()
        self._queue.append(_Parcel(body, kept))
        self.tally.waiting += len(body)
        while self.tally.waiting > self._max_queue and self._queue:
            self._lose([self._queue.popleft()], "queue_full")
        self._filled.set()

    def collect(self) -> Iterator[Exposed]:
        """The tally as families, for a registry of prometheus_client."""
        sent, unsent, queue = catalog.SPANS_FORWARDED, catalog.SPANS_NOT_FORWARDED, catalog.FORWARD_QUEUE
        yield CounterMetricFamily(sent.name, sent.help, self.tally.sent)
        kept_back = CounterMetricFamily(unsent.name, unsent.help, labels=unsent.labels)
        for reason in REASONS:
            kept_back.add_metric((reason,), self.tally.unsent[reason])
        yield kept_back
        yield GaugeMetricFamily(queue.name, queue.help, self.tally.waiting)

    def start(self) -> None:
        """Begin to send."""
        self._task = asyncio.create_task(self._run())

    async def close(self, seconds: float) -> None:
        """Send what waits, for so many seconds; the rest is lost."""
        if self._task:
            if self._problem is None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        while self.tally.waiting and not self._task.done():
                            await asyncio.sleep(0.01)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._lose(self._queue, "shutdown")
        await self._client.aclose()
        if lost := self.tally.unsent["shutdown"]:
            log.warning("forward %s: ended with %d spans not sent", self._shown, lost)

    async def _run(self) -> None:
        while True:
            await self._filled.wait()
            batch = [*self._next_batch()]
            try:
                await self._deliver(batch)
            except asyncio.CancelledError:
                self._lose(batch, "shutdown")
                raise
            except Exception:  # a fault with these must not keep all later spans back
                log.exception("forward %s: fault while sending", self._shown)
                self._lose(batch, "fault")
            if not self._queue:
                self._filled.clear()

    def _next_batch(self) -> Iterator[_Parcel]:
        size = 0
        while self._queue and (not size or size + len(self._queue[0].body) <= MAX_BATCH):
            size += len(self._queue[0].body)
            yield self._queue.popleft()

    async def _deliver(self, batch: list[_Parcel]) -> None:
        body, pause = gzip.compress(b"".join(parcel.body for parcel in batch), compresslevel=1), FIRST_PAUSE
        while True:
            problem, wait = await self._post(body)
            self._say(problem)
            if problem is None:
                self.tally.sent += self._done(batch)
                return
            if wait is None:
                self._lose(batch, "refused")
                return
            await self._sleep(max(wait, pause * (0.5 + self._jitter() / 2)))
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _post(self, body: bytes) -> tuple[str | None, float | None]:
        """What went wrong, None when nothing did, and the least seconds before the next try, None for no next."""
        headers = {"Content-Type": PROTOBUF, "Content-Encoding": "gzip"}
        try:
            answer = await self._client.post(self._url, content=body, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return str(error) or type(error).__name__, 0.0
        if answer.is_success:
            return None, None
        problem = f"HTTP {answer.status_code} {answer.reason_phrase}"
        return problem, _retry_after(answer) if answer.status_code in _RETRYABLE else None

    def _say(self, problem: str | None) -> None:
        if problem != self._problem:
            level, said = (logging.WARNING, problem) if problem else (logging.INFO, "takes spans again")
            log.log(level, "forward %s: %s", self._shown, said)
        self._problem = problem

    def _done(self, parcels: Collection[_Parcel]) -> int:
        self.tally.waiting -= sum(len(parcel.body) for parcel in parcels)
        return sum(parcel.spans for parcel in parcels)

    def _lose(self, parcels: Collection[_Parcel], reason: str) -> None:
        self.tally.unsent[reason] += self._done(parcels)


def _retry_after(answer: httpx.Response) -> float:
    text = answer.headers.get("Retry-After", "")
    return min(float(text), LONGEST_PAUSE) if text.isdecimal() else 0.0  # a date is rare enough for our own pauses
