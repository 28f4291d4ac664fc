"""Figures of a run: counts by outcome, quantiles of every latency (exact, gaps to half a microsecond), throughput."""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import overload

from loadgen.results.record import Recording, RequestRecord
from loadgen.traffic.arrivals import NS
from slo.sli import RequestSli

OK = "ok"
USAGE = "usage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiles:
    """Quantiles of `count` values, in seconds."""

    count: int
    p50: float
    p90: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The figures of one run; latencies in seconds, None where there is no data.

    `outcomes` counts requests by error category ("ok" for complete answers), `tokens_from` complete answers by who
    counted their tokens ("usage" is the server's); `usage_tokens` is the usage's mean beside a tokenizer's count.
    `seconds` runs from the first intended start to the last end, and the rates are complete answers, output tokens and
    good requests per second of it.
    """

    requests: int
    outcomes: dict[str, int] = field(default_factory=dict)
    tokens_from: dict[str, int] = field(default_factory=dict)
    seconds: float | None = None
    requests_per_second: float | None = None
    output_tokens_per_second: float | None = None
    goodput: float | None = None
    prompt_tokens: float | None = None
    output_tokens: float | None = None
    usage_tokens: float | None = None
    ttft: Quantiles | None = None
    tpot: Quantiles | None = None
    itl: Quantiles | None = None
    e2e: Quantiles | None = None
    send_lag: Quantiles | None = None


def summarize(recording: Recording, goodput: RequestSli | None = None) -> Summary:
    """The figures of a recording; `goodput` is the SLI that tells a good request.

    Requests that this client broke off add neither time nor tokens.
    """
    records = recording.records
    answered = [record for record in records if record.error is None]
    ended = [record for record in records if record.error != "cancelled"]
    seconds = _seconds(ended)
    good = goodput.count(recording.each_request()) if goodput else None
    return Summary(
        requests=len(records),
        outcomes=dict(Counter(record.error or OK for record in records)),
        tokens_from=dict(Counter(record.tokens_from or USAGE for record in answered)),
        seconds=seconds,
        requests_per_second=_per(len(answered), seconds),
        output_tokens_per_second=_per(sum(record.output_tokens or 0 for record in ended), seconds),
        goodput=_per(good.good, seconds) if good else None,
        prompt_tokens=_mean(record.prompt_tokens for record in answered),
        output_tokens=_mean(record.output_tokens for record in answered),
        usage_tokens=_mean(record.usage_tokens for record in answered),
        ttft=quantiles(record.ttft for record in records),
        tpot=quantiles(record.tpot for record in records),
        itl=_quantiles(Tally(record.gaps_ns for record in records)),
        e2e=quantiles(record.e2e for record in records),
        send_lag=quantiles(record.send_lag for record in records),
    )


def quantiles(values: Iterable[float | None]) -> Quantiles | None:
    """Quantiles of the values that are there, None when there are none."""
    return _quantiles(sorted(value for value in values if value is not None))


def _quantiles(ordered: Sequence[float]) -> Quantiles | None:
    if not ordered:
        return None
    p50, p90, p95, p99 = (quantile(ordered, q) for q in (0.50, 0.90, 0.95, 0.99))
    return Quantiles(count=len(ordered), p50=p50, p90=p90, p95=p95, p99=p99)


def quantile(ordered: Sequence[float], q: float) -> float:
    """The q-quantile of sorted values by linear interpolation between the two nearest ranks (numpy's default).

    The p50 of 1, 2, 3, 4 is 2.5. Raises IndexError when there are no values.
    """
    position = q * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


class Tally(Sequence[float]):
    """The gaps of many answers as a sorted sequence in seconds; counted by microsecond, as there may be millions."""

    def __init__(self, answers: Iterable[Iterable[int]]) -> None:
        """Of each answer its gaps in nanoseconds."""
        counts: Counter[int] = Counter()
        for gaps in answers:
            counts.update([(gap + 500) // 1000 for gap in gaps])
        self._microseconds = sorted(counts)
        self._up_to = list(accumulate(counts[value] for value in self._microseconds))

    def __len__(self) -> int:
        return self._up_to[-1] if self._up_to else 0

    @overload
    def __getitem__(self, index: int) -> float: ...
    @overload
    def __getitem__(self, index: slice) -> list[float]: ...
    def __getitem__(self, index: int | slice) -> float | list[float]:
        ranks = range(len(self))[index]
        return self._at(ranks) if isinstance(ranks, int) else [self._at(rank) for rank in ranks]

    def _at(self, rank: int) -> float:
        return self._microseconds[bisect_right(self._up_to, rank)] / 1e6


def tokens_between(records: Iterable[RequestRecord], edges: Sequence[int]) -> list[int]:
    """Output tokens that came from each edge (ns, rising) up to the next."""
    found = [0] * (len(edges) - 1)
    for record in records:
        stamps = list(record.token_ns)
        counts = record.token_counts
        up_to = list(accumulate(counts, initial=0)) if counts else range(len(stamps) + 1)
        at = bisect_left(stamps, edges[0])
        part = bisect_right(edges, stamps[at]) - 1 if at < len(stamps) else len(found)
        while at < len(stamps) and part < len(found):
            end = bisect_left(stamps, edges[part + 1], at)
            found[part] += up_to[end] - up_to[at]
            at, part = end, part + 1
    return found


def _seconds(records: Sequence[RequestRecord]) -> float | None:
    if not records:
        return None
    return (max(record.done_ns for record in records) - min(record.scheduled_ns for record in records)) / NS


def _per(amount: float, seconds: float | None) -> float | None:
    return amount / seconds if seconds else None


def _mean(values: Iterable[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
