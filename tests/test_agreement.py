"""One definition of a good event: the same requests, judged as records, as spans and as histograms, agree."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from exporters.model import SpanBatch, SpanFacts
from exporters.spans.exact import SpanMetrics
from loadgen.results.exposition import Interval, Reading, read
from loadgen.results.record import ErrorCategory, RequestRecord
from slo import catalog
from slo.sli import AvailabilitySli, Count, GoodputSli, LatencySli, RequestSli, exact_terms
from slo.spec.model import Slo, load

MS = 1_000_000
SLOS = load(Path(__file__).parents[1] / "slo" / "specs" / "chat.yaml").slos
NOTHING = Reading({})

# Times in whole milliseconds, so that edges are hit often and nanoseconds and seconds say the same.
requests = st.lists(
    st.builds(
        lambda seq, ttft, gap, tokens: RequestRecord(
            seq=seq,
            trace_id=f"{seq:032x}",
            scheduled_ns=0,
            sent_ns=0,
            token_ns=tuple((ttft + i * gap) * MS for i in range(tokens)),
            done_ns=(ttft + tokens * gap) * MS,
            output_tokens=tokens,
            status=200,
        ),
        st.integers(0, 10**6),
        st.integers(1, 600),
        st.integers(1, 120),
        st.integers(2, 20),
    ),
    max_size=30,
)


def as_span(record: RequestRecord) -> SpanFacts:
    """What an engine with the client's clock would have said of the request."""
    return SpanFacts(
        trace_id=record.trace_id,
        start=0.0,
        model_name="m",
        ttft=record.ttft,
        tpot=record.tpot,
        e2e=record.e2e,
        output_tokens=record.output_tokens,
    )


def by_spans(slo: Slo, records: list[RequestRecord]) -> Count | None:
    """The sidecar's exact counters after these spans."""
    registry = CollectorRegistry()
    metrics = SpanMetrics(registry, [slo])
    metrics.know(["m"])
    metrics.take(SpanBatch(len(records), tuple(as_span(r) for r in records), {}), ["m"])
    return Interval(NOTHING, read(generate_latest(registry).decode())).count(*exact_terms(slo.id))


def by_metrics(slo: Slo, records: list[RequestRecord]) -> Count | None:
    """The rules' own terms over histograms that an engine would have filled."""
    registry = CollectorRegistry()
    for metric, field in ((catalog.TTFT, "ttft"), (catalog.TPOT, "tpot")):
        histogram = Histogram(metric.name, "-", buckets=metric.buckets, registry=registry)
        for record in records:
            histogram.observe(getattr(record, field))
    http = Counter(catalog.HTTP_REQUESTS.name, "-", ("handler", "status"), registry=registry)
    http.labels("/v1/completions", "2xx").inc(len(records))
    http.labels("/v1/completions", "4xx").inc(7)
    http.labels("/metrics", "5xx").inc(7)
    assert isinstance(slo.sli, RequestSli)
    reading = read(generate_latest(registry).decode())
    return Interval(NOTHING, reading).count(slo.sli.good_terms(), slo.sli.total_terms())


@given(requests)
def test_records_spans_and_histograms_agree(records: list[RequestRecord]) -> None:
    """Latency: all three agree exactly. Goodput: spans agree and the histograms' floor lies below."""
    for slo in SLOS:
        if not isinstance(slo.sli, LatencySli | GoodputSli):
            continue
        truth = slo.sli.count([record.to_request(0) for record in records])
        spans, metrics = by_spans(slo, records), by_metrics(slo, records)
        assert spans == truth
        assert metrics is not None
        assert truth is not None
        assert metrics.total == truth.total
        if isinstance(slo.sli, LatencySli):
            assert metrics.good == truth.good
        else:
            assert metrics.good <= truth.good


@given(requests)
def test_availability_agrees(records: list[RequestRecord]) -> None:
    """Answered requests are good in both; client errors and other routes count in neither."""
    slo = next(slo for slo in SLOS if isinstance(slo.sli, AvailabilitySli))
    assert by_metrics(slo, records) == slo.sli.count([record.to_request(0) for record in records])


# The word of engines without HTTP counters for a request that ended, and the client's for the same.
REASONS: dict[str, dict[tuple[catalog.Metric, str], ErrorCategory | None]] = {
    "tgi": {
        (catalog.FINISHED, ""): None,
        (catalog.FAILED, "overloaded"): "stream_error",
        (catalog.FAILED, "generation"): "stream_error",
        (catalog.FAILED, "incomplete"): "http_5xx",
        (catalog.FAILED, "validation"): "http_4xx",
        (catalog.FAILED, "template"): "http_4xx",
        (catalog.FAILED, "dropped"): "cancelled",
    },
    "trtllm": {
        (catalog.FINISHED, "stop"): None,
        (catalog.FINISHED, "length"): None,
        (catalog.FINISHED, "cancelled"): "cancelled",
        (catalog.FINISHED, "timeout"): "timeout",
        (catalog.FAILED, "400"): "http_4xx",
        (catalog.FAILED, "500"): "http_5xx",
    },
    "nim": {(catalog.FINISHED, ""): None, (catalog.FAILED, ""): "http_5xx"},
}


@pytest.mark.parametrize("engine", REASONS)
@given(data=st.data(), records=requests)
def test_availability_agrees_where_failures_are_counted_by_reason(
    engine: str, data: st.DataObject, records: Sequence[RequestRecord]
) -> None:
    """Whatever the engine calls it, a request counts for its counters as it does for the client."""
    ends = [data.draw(st.sampled_from(sorted(REASONS[engine], key=repr))) for _ in records]
    registry, sli = CollectorRegistry(), AvailabilitySli(engine=engine)
    finished = Counter(catalog.FINISHED.name, "-", ("finished_reason",), registry=registry)
    failed = Counter(catalog.FAILED.name, "-", ("reason",), registry=registry)
    for metric, reason in ends:
        (finished if metric is catalog.FINISHED else failed).labels(reason).inc()
    reading = read(generate_latest(registry).decode())
    truth = sli.count(
        [replace(r, error=REASONS[engine][end]).to_request(0) for r, end in zip(records, ends, strict=True)]
    )
    assert (Interval(NOTHING, reading).count(sli.good_terms(), sli.total_terms()) or Count(0, 0)) == truth
