"""What one run at a rate shows of a spec: good requests of every promise, and figures to understand it by."""

from collections.abc import Sequence
from dataclasses import dataclass

from loadgen.capacity.search import Share, share
from loadgen.judging.doubts import doubts, latency_conditions
from loadgen.results.record import Recording, RequestRecord
from loadgen.results.steady import steady
from loadgen.traffic.arrivals import NS
from slo import catalog
from slo.evidence.sampling import tail_tau
from slo.sli import RequestSli
from slo.spec.model import Slo, Spec

# What says nothing about the service. All else that failed is bad, a refusal (429) too: it has more than it can do.
_OURS = ("cancelled", "client_error")
_LATENCIES = {catalog.TTFT.name: "ttft", catalog.TPOT.name: "tpot", catalog.E2E.name: "e2e"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One run without its warm-up. `shares` has one share per SLO that requests show, in the order of the spec.

    `good` are requests per second that met all of them, `in_flight` is the mean number of requests in flight; TTFT and
    TPOT are in seconds.
    """

    rate: float
    shares: tuple[Share, ...]
    requests: int
    failed: int
    good: float
    in_flight: float
    ttft: tuple[float, ...]
    tpot: tuple[float, ...]
    doubts: tuple[str, ...] = ()


def judged(spec: Spec) -> list[Slo]:
    """The SLOs that a client can judge request by request, each alone."""
    return [slo for slo in spec.slos if isinstance(slo.sli, RequestSli) and not _hidden(slo)]


def trial(spec: Spec, rate: float, recording: Recording) -> Trial:
    """What a run at `rate` requests per second shows of a spec."""
    kept = _warm(recording)
    rows = [_verdicts(judged(spec), record, recording.header.started_unix_ns) for record in kept]
    columns = list(zip(*rows, strict=True)) or [()] * len(judged(spec))
    alike = [_alike(slo, kept) for slo in judged(spec)]
    seconds = _seconds(kept)
    return Trial(
        rate=rate,
        shares=tuple(
            share([good for good in column if good is not None], worth)
            for column, worth in zip(columns, alike, strict=True)
        ),
        requests=len(kept),
        failed=sum(record.error is not None for record in kept),
        good=sum(True in row and False not in row for row in rows) / seconds if seconds else 0.0,
        in_flight=_in_flight(recording.records, kept),
        ttft=tuple(value for record in kept if (value := record.ttft) is not None),
        tpot=tuple(value for record in kept if (value := record.tpot) is not None),
        doubts=tuple(doubts(spec, recording)),
    )


def _hidden(slo: Slo) -> bool:
    return any(condition.metric == catalog.QUEUE_TIME for condition in latency_conditions(slo.sli))


def _warm(recording: Recording) -> list[RequestRecord]:
    """Without the warm-up. The end stays: above capacity it is the part that shows it."""
    _, cut = steady(recording)
    return sorted((r for r in recording.records if r.scheduled_ns >= cut.begin * NS), key=lambda r: r.scheduled_ns)


def _verdicts(slos: Sequence[Slo], record: RequestRecord, started_unix_ns: int) -> list[bool | None]:
    """Per SLO whether the request is good; None when it does not count."""
    if record.error:
        return [None if record.error in _OURS else False] * len(slos)
    request = record.to_request(started_unix_ns)
    return [slo.sli.judge(request) for slo in slos if isinstance(slo.sli, RequestSli)]


def _alike(slo: Slo, kept: Sequence[RequestRecord]) -> float:
    """How many requests in a row are alike in the tails of the latencies that the SLO asks for."""
    names = [_LATENCIES[condition.metric.name] for condition in latency_conditions(slo.sli)]
    columns = [[value for r in kept if (value := getattr(r, name)) is not None] for name in names]
    return max((tail_tau(column, slo.objective) for column in columns), default=1.0)


def _seconds(kept: Sequence[RequestRecord]) -> float:
    return (kept[-1].scheduled_ns - kept[0].scheduled_ns) / NS if kept else 0.0


def _in_flight(records: Sequence[RequestRecord], kept: Sequence[RequestRecord]) -> float:
    """The mean over the time in which the kept requests were due."""
    if not _seconds(kept):
        return 0.0
    begin, end = kept[0].scheduled_ns, kept[-1].scheduled_ns
    return sum(max(0, min(r.done_ns, end) - max(r.sent_ns, begin)) for r in records) / (end - begin)
