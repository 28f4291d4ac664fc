"""Tail sampling: what goes on, and what becomes of it when the upstream is slow, full, gone or back."""

import asyncio
import gzip
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from exporter_servers import Upstream
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from prometheus_client import CollectorRegistry

from exporters.spans import forward
from exporters.spans.forward import Forwarder, Sampler
from slo import catalog

dice = random.Random(7)


def span(name: str = "llm_request", trace: bytes | None = None, **fields: Any) -> Span:
    trace_id = trace if trace is not None else dice.randbytes(16)
    return Span(trace_id=trace_id, span_id=dice.randbytes(8), name=name, **fields)


def export(*spans: Span, scope: str = "vllm.tracing.otel") -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    of_resource = request.resource_spans.add()
    of_resource.resource.attributes.add(key="service.name").value.string_value = "engine"
    of_scope = of_resource.scope_spans.add(spans=spans)
    of_scope.scope.name = scope
    return request


def spans_of(*requests: ExportTraceServiceRequest) -> list[Span]:
    return [span for request in requests for r in request.resource_spans for s in r.scope_spans for span in s.spans]


def received(upstream: Upstream) -> list[Span]:
    return spans_of(*(ExportTraceServiceRequest.FromString(gzip.decompress(body)) for body in upstream.posted))


def test_what_broke_a_promise_goes_on() -> None:
    """With nothing kept by chance: the bad request with all its trace, the failed span, the engine's start."""
    bad, good, failed = span(), span(), span(status=Status(code=Status.STATUS_CODE_ERROR))
    child, start = span("decode", bad.trace_id), span("Load model")
    taken, kept, left = Sampler(0).sample(export(bad, good, failed, child, start), {bad.trace_id.hex()})
    assert spans_of(taken) == [bad, failed, child, start]
    assert (kept, left) == (4, 1)
    assert taken.resource_spans[0].resource.attributes[0].value.string_value == "engine"
    assert taken.resource_spans[0].scope_spans[0].scope.name == "vllm.tracing.otel"


def test_other_services_spans_follow_their_trace() -> None:
    """A gateway's span is no engine's start: it goes on when its trace does."""
    taken, kept, _ = Sampler(0).sample(export(span("GET /"), scope="gateway"), set())
    assert (kept, len(taken.resource_spans)) == (0, 0)


@given(st.binary(min_size=16, max_size=16), st.floats(0, 1), st.floats(0, 1))
def test_the_fraction_is_the_traces_own(trace: bytes, some: float, more: float) -> None:
    """The same trace is kept by every sidecar, and by whoever keeps more; all is kept with 1."""
    low, high = sorted((some, more))
    assert Sampler(low).keeps(trace) <= Sampler(high).keeps(trace)
    assert Sampler(some).keeps(trace) == Sampler(some).keeps(bytes(9) + trace[9:])
    assert Sampler(1).keeps(trace)


def test_the_fraction_is_as_large_as_asked_for() -> None:
    """5 % of 20 000 random traces, within four standard deviations."""
    kept = sum(Sampler(0.05).keeps(dice.randbytes(16)) for _ in range(20_000))
    assert abs(kept - 1000) < 4 * (20_000 * 0.05 * 0.95) ** 0.5


class Clock:
    """Time that passes as fast as it is waited for."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.pauses.append(seconds)
        await asyncio.sleep(0)


def session(upstream: Upstream, work: Callable[[Forwarder, Clock], Awaitable[None]], **options: Any) -> forward.Tally:
    """A forwarder that keeps everything, at work, then closed; returns its tally."""

    async def run() -> forward.Tally:
        clock = Clock()
        forwarder = Forwarder(upstream.url, Sampler(1), sleep=clock.sleep, jitter=lambda: 1.0, **options)
        forwarder.start()
        await work(forwarder, clock)
        await forwarder.close(5)
        return forwarder.tally

    return asyncio.run(run())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


def test_spans_arrive_as_they_were() -> None:
    """Two exports reach the upstream compressed, whole, and are counted."""
    first, second = export(span()), export(span(), span())

    async def work(forwarder: Forwarder, _clock: Clock) -> None:
        forwarder.offer(first, set())
        forwarder.offer(second, set())

    with Upstream() as upstream:
        tally = session(upstream, work)
        assert received(upstream) == spans_of(first, second)
        assert upstream.headers["Content-Type"] == "application/x-protobuf"
    assert (tally.sent, tally.waiting, tally.unsent.total()) == (3, 0, 0)


def test_the_upstreams_door_is_opened_by_the_standard_headers() -> None:
    """OTEL_EXPORTER_OTLP_TRACES_HEADERS, else the general one, go with every request."""
    env = {
        "OTEL_EXPORTER_OTLP_HEADERS": "x-team=general",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "authorization=Bearer%20a",
    }

    async def work(forwarder: Forwarder, _clock: Clock) -> None:
        forwarder.offer(export(span()), set())

    with Upstream() as upstream:
        session(upstream, work, headers=forward.headers(env))
        assert upstream.headers["authorization"] == "Bearer a"
    assert forward.headers({"OTEL_EXPORTER_OTLP_HEADERS": "x-team=general"}) == {"x-team": "general"}
    assert forward.headers({}) == {}


@pytest.mark.parametrize("status", [429, 502, 503, 504])
@pytest.mark.parametrize(("later", "pauses"), [({}, [1, 2, 4, 8, 16]), ({"Retry-After": "5"}, [5, 5, 5, 8, 16])])
def test_a_busy_upstream_is_asked_again_later(status: int, later: dict[str, str], pauses: list[float]) -> None:
    """Pauses start at a second and double, and are never shorter than Retry-After asks; then the spans arrive."""

    async def work(forwarder: Forwarder, clock: Clock) -> None:
        forwarder.offer(export(span()), set())
        await until(lambda: len(clock.pauses) >= len(pauses))
        upstream.status = 200
        await until(lambda: not forwarder.tally.waiting)
        assert clock.pauses[: len(pauses)] == pauses

    with Upstream() as upstream:
        upstream.status, upstream.answer = status, later
        assert session(upstream, work).sent == 1


def test_what_is_refused_is_not_sent_again(caplog: pytest.LogCaptureFixture) -> None:
    """400 means that it never will be taken: dropped, counted, and said once."""

    async def work(forwarder: Forwarder, clock: Clock) -> None:
        for _ in range(3):
            forwarder.offer(export(span()), set())
            await until(lambda: not forwarder.tally.waiting)
        assert not clock.pauses

    with Upstream() as upstream:
        upstream.status = 400
        upstream.url = upstream.url.replace("http://", "http://me:secret@")
        tally = session(upstream, work)
    assert (tally.sent, tally.unsent["refused"]) == (0, 3)
    assert len([record for record in caplog.records if "HTTP 400" in record.getMessage()]) == 1
    assert "secret" not in "".join(
        record.getMessage() for record in caplog.records if record.name.startswith("exporters")
    )


def test_an_hour_without_upstream(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing listens for an hour while spans come: the memory stays bounded, each span lost is counted, the newest
    are sent when the upstream is back."""
    caplog.set_level(logging.INFO)
    offered: list[Span] = []
    size = len(export(span()).SerializeToString())

    async def work(forwarder: Forwarder, clock: Clock) -> None:
        while clock.now < 3600:
            offered.append(span())
            forwarder.offer(export(offered[-1]), set())
            assert forwarder.tally.waiting <= 20 * size + 5
            await asyncio.sleep(0.0005)
        assert max(clock.pauses) == forward.LONGEST_PAUSE
        assert len(clock.pauses) < 70  # an hour of a pause a minute, and the first few
        upstream.status = 200
        await until(lambda: not forwarder.tally.waiting)

    with Upstream() as upstream:
        upstream.status = 503
        tally = session(upstream, work, max_queue=20 * size + 5)
        upstream.posted = upstream.posted[-2:]
        arrived = received(upstream)
    assert tally.sent + tally.unsent["queue_full"] == len(offered)
    assert tally.unsent["queue_full"] > 0
    assert arrived[-tally.sent :][-19:] == offered[-19:]
    said = [record.getMessage() for record in caplog.records if record.name == "exporters.spans.forward"]
    assert [line.rpartition(": ")[2] for line in said] == ["HTTP 503 Service Unavailable", "takes spans again"]


def test_nothing_listens_and_the_end_is_near() -> None:
    """With an upstream that is gone, ending takes no longer than with one that is there; the loss is counted."""

    async def work(forwarder: Forwarder, clock: Clock) -> None:
        forwarder.offer(export(span(), span()), set())
        await until(lambda: bool(clock.pauses))

    with Upstream() as gone:
        pass
    tally = session(gone, work)
    assert (tally.sent, tally.unsent["shutdown"], tally.waiting) == (0, 2, 0)


def test_a_hanging_upstream_holds_the_end_up_for_so_long_only() -> None:
    """The last spans wait for an answer that does not come: after the bound they are lost, and counted."""

    async def run() -> forward.Tally:
        forwarder = Forwarder(upstream.url, Sampler(1))
        forwarder.start()
        forwarder.offer(export(span()), set())
        async with asyncio.timeout(forward.TIMEOUT / 2):  # the answer itself would be waited for twice as long
            await forwarder.close(0.2)
        return forwarder.tally

    with Upstream() as upstream:
        upstream.gate.clear()
        assert asyncio.run(run()).unsent["shutdown"] == 1


def test_a_fault_costs_the_spans_in_hand_only(caplog: pytest.LogCaptureFixture) -> None:
    """What nobody thought of goes wrong while sending: it is in the log, the spans are counted, the next are sent."""
    faults = iter([ZeroDivisionError("surprise")])

    async def sleep(_seconds: float) -> None:
        raise next(faults)

    async def run() -> forward.Tally:
        forwarder = Forwarder(upstream.url, Sampler(1), sleep=sleep)
        forwarder.start()
        forwarder.offer(export(span(), span()), set())
        await until(lambda: forwarder.tally.unsent["fault"] == 2)
        upstream.status = 200
        forwarder.offer(export(span()), set())
        await until(lambda: forwarder.tally.sent == 1)
        await forwarder.close(0)
        return forwarder.tally

    with Upstream() as upstream:
        upstream.status = 503
        assert not asyncio.run(run()).unsent["shutdown"]
    assert "fault while sending" in caplog.text
    assert "surprise" in caplog.text


def test_the_tally_is_on_the_page() -> None:
    """What was sent, what was not and why, and what waits are metrics; every reason is there from the start."""
    registry = CollectorRegistry()

    async def run() -> None:
        forwarder = Forwarder("http://127.0.0.1:1", Sampler(0))
        registry.register(forwarder)
        forwarder.offer(export(span()), set())
        await forwarder.close(0)

    asyncio.run(run())
    reasons = {r: registry.get_sample_value(catalog.SPANS_NOT_FORWARDED.name, {"reason": r}) for r in forward.REASONS}
    assert reasons == {"sampled": 1, "queue_full": 0, "refused": 0, "fault": 0, "shutdown": 0}
    assert registry.get_sample_value(catalog.SPANS_FORWARDED.name) == 0
