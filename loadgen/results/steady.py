"""Which part of a run is steady: the warm-up and the cool-down are cut by a stated rule, the same for every run.

`auto` drops the requests of the first and of the last seconds of the schedule, as many as a typical (median) answer
takes: until then requests in flight still grow, and from then on they only end. Of the start more goes where TTFT has
not settled: up to the batch of five that makes the standard error of the rest smallest (MSER-5, White 1997), but at
most a quarter of the run. A run too short to keep half of its requests is not cut.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import mean, median
from typing import Literal

from loadgen.results.record import Recording, RequestRecord
from loadgen.results.summary import tokens_between
from loadgen.traffic.arrivals import NS
from slo.sli import Request

# A number is the seconds to drop at either end.
Rule = Literal["auto", "none"] | float

_BATCH = 5
_MOST = 0.25
_KEPT = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What was dropped: requests, and how many of them failed, before and after the kept part of the schedule.

    `begin` and `end` of that part are in seconds from the start of the run.
    """

    rule: Rule
    begin: float
    end: float
    before: int = 0
    after: int = 0
    failed: int = 0

    def __str__(self) -> str:
        """One line for a report."""
        if not self.before + self.after:
            return f"nothing cut (steady state: {self.rule})"
        failed = f", {self.failed} of them failed" if self.failed else ""
        return (
            f"steady state ({self._rule()}): kept {self.begin:.1f} s to {self.end:.1f} s, cut {self.before} requests "
            f"of the warm-up and {self.after} of the cool-down{failed}"
        )

    def _rule(self) -> str:
        return self.rule if isinstance(self.rule, str) else f"{self.rule:g} s at either end"


def steady(recording: Recording, rule: Rule = "auto") -> tuple[Recording, Cut]:
    """The recording with only the requests that were due in its steady part, and what was dropped."""
    records = sorted(recording.records, key=lambda record: record.scheduled_ns)
    if not records:
        return recording, Cut(rule=rule, begin=0.0, end=0.0)
    first, last = records[0].scheduled_ns, records[-1].scheduled_ns
    begin, end = _window(records, rule)
    kept = [record for record in records if begin <= record.scheduled_ns <= end]
    if rule == "auto" and len(kept) < _KEPT * len(records):
        begin, end, kept = first, last, records
    dropped = [record for record in records if not begin <= record.scheduled_ns <= end]
    before = sum(record.scheduled_ns < begin for record in dropped)
    cut = Cut(
        rule=rule,
        begin=begin / NS,
        end=end / NS,
        before=before,
        after=len(dropped) - before,
        failed=sum(record.error is not None for record in dropped),
    )
    return replace(recording, records=tuple(kept)), cut


def clipped(recording: Recording, cut: Cut) -> Iterator[Request]:
    """What the kept part of a run saw of every complete answer in flight in it, whenever that was asked for.

    For SLIs of seconds: to a second belong all its tokens. Each answer is cut off where the part begins and ends, and
    none where nothing was cut.
    """
    if not cut.before + cut.after:
        yield from recording.each_request()
        return
    begin, end, started = int(cut.begin * NS), int(cut.end * NS), recording.header.started_unix_ns
    for record in recording.records:
        due, done = max(record.scheduled_ns, begin), min(record.done_ns, end)
        if record.error or due >= done:
            continue
        whole = (due, done) == (record.scheduled_ns, record.done_ns)
        yield record.to_request(started) if whole else _clip(record, due, done, started)


def _clip(record: RequestRecord, begin: int, end: int, started_unix_ns: int) -> Request:
    """A request with the tokens that came between, as if it had been asked for and had ended there."""
    tokens, stamps = tokens_between([record], [begin, end + 1])[0], list(record.token_ns)
    first = next((stamp for stamp in stamps if begin <= stamp <= end), None)
    share = tokens / (sum(record.token_counts) or len(stamps)) if tokens else 0.0
    return Request(
        start=(started_unix_ns + begin) / NS,
        ttft=None if first is None else (first - begin) / NS,
        e2e=(end - begin) / NS,
        output_tokens=round((record.output_tokens or 0) * share),
    )


def _window(records: Sequence[RequestRecord], rule: Rule) -> tuple[int, int]:
    """The first and the last intended start to keep."""
    first, last = records[0].scheduled_ns, records[-1].scheduled_ns
    if rule == "none":
        return first, last
    if rule != "auto":
        return first + int(rule * NS), last - int(rule * NS)
    answers = [e2e for record in records if (e2e := record.e2e) is not None]
    typical = int(median(answers) * NS) if answers else 0
    served = [record for record in records if record.token_ns]
    settled = served[settles([record.ttft or 0.0 for record in served])].scheduled_ns if served else first
    return max(first + typical, settled) if typical else first, last - typical


def settles(values: Sequence[float]) -> int:
    """The index from which values are steady, by MSER-5; 0 when none has to go."""
    batches = [mean(values[i : i + _BATCH]) for i in range(0, len(values) - _BATCH + 1, _BATCH)]
    best, least, total, squares = 0, float("inf"), 0.0, 0.0
    for index in range(len(batches) - 1, -1, -1):
        total, squares = total + batches[index], squares + batches[index] ** 2
        number = len(batches) - index
        error = (squares - total**2 / number) / number**2
        if index <= _MOST * len(batches) and error <= least:
            best, least = index, error
    return best * _BATCH
