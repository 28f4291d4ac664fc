"""What a good event is: one definition per SLI, read as PromQL, per request, and from an exposition.

Every SLI answers the same questions: `good` and `total` as PromQL (events per second over a window) for the
rules, and `count` over requests as spans or load-test records tell them; a `RequestSli` also judges one alone.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from slo import catalog
from slo.catalog import Metric
from slo.promql import EXPORTER, Matcher, Scope, Selector, aggregate, sum_rate

# Time-slice SLIs count minutes in production, where a scrape every 15-30 s allows no finer slice.
SLICE = "1m"
SLICE_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request as somebody saw it. Times in seconds, `start` in Unix time; None is unknown or not applicable.

    `ok` is True for a complete answer, False for a failure of the service (5xx, refused, timed out, cut off),
    None for what does not count either way (4xx, cancelled by the client).
    """

    start: float
    ok: bool | None = True
    ttft: float | None = None
    tpot: float | None = None
    e2e: float | None = None
    queue: float | None = None
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Count:
    """Good events of all events that count."""

    good: int
    total: int

    @property
    def ratio(self) -> float | None:
        """Good share, or None when nothing counted."""
        return self.good / self.total if self.total else None


# Series that are added (+1) or subtracted (-1).
Terms = tuple[tuple[int, Selector], ...]


class Sli(Protocol):
    """What every SLI offers: `condition` is a good event in words, `unit_of_count` what `count` counts."""

    @property
    def condition(self) -> str: ...

    @property
    def unit_of_count(self) -> str: ...

    def good(self, window: str, scope: Scope) -> str:
        """PromQL: good events per second over `window`."""
        ...

    def total(self, window: str, scope: Scope) -> str:
        """PromQL: all events per second over `window`."""
        ...

    def count(self, requests: Sequence[Request], /) -> Count | None:
        """Good and total over many requests; None when requests cannot tell."""
        ...


class RequestSli(ABC):
    """The SLIs whose event is one request: `judge` tells a good one, and their PromQL is a sum of counters."""

    @property
    def unit_of_count(self) -> str:
        return "requests"

    @abstractmethod
    def good_terms(self) -> Terms:
        """Counters whose sum is the good events."""

    @abstractmethod
    def total_terms(self) -> Terms:
        """Counters whose sum is all events."""

    @abstractmethod
    def judge(self, request: Request) -> bool | None:
        """Whether a request is good; None when it does not count."""

    def good(self, window: str, scope: Scope) -> str:
        return _combine(self.good_terms(), window, scope)

    def total(self, window: str, scope: Scope) -> str:
        return _combine(self.total_terms(), window, scope)

    def count(self, requests: Sequence[Request], /) -> Count | None:
        verdicts = [verdict for verdict in map(self.judge, requests) if verdict is not None]
        return Count(sum(verdicts), len(verdicts))


_FIELD_OF: Mapping[str, str] = {
    catalog.TTFT.name: "ttft",
    catalog.TPOT.name: "tpot",
    catalog.E2E.name: "e2e",
    catalog.QUEUE_TIME.name: "queue",
}


@dataclass(frozen=True, slots=True)
class LatencySli(RequestSli):
    """Good: a latency of at most `threshold` seconds. A request that has no such latency does not count."""

    metric: Metric
    threshold: float

    @property
    def condition(self) -> str:
        return f"{_FIELD_OF[self.metric.name]} ≤ {self.threshold * 1000:g} ms"

    def good_terms(self) -> Terms:
        """The bucket that ends at the threshold; ValueError when no bucket does."""
        return ((1, Selector(self.metric, "_bucket", (Matcher("le", "=", self.metric.edge(self.threshold)),))),)

    def total_terms(self) -> Terms:
        return ((1, Selector(self.metric, "_count")),)

    def judge(self, request: Request) -> bool | None:
        value = getattr(request, _FIELD_OF[self.metric.name])
        return None if value is None else value <= self.threshold


_CLIENT_ERROR = "4xx|4.."
_SERVER_ERROR = "5xx|5.."
# The routes that generate text; probes and model listings must not dilute the ratio.
GENERATION_HANDLERS = "/v1/(chat/completions|completions|responses)"


@dataclass(frozen=True, slots=True)
class AvailabilitySli(RequestSli):
    """Good: an answer that is not the service's failure. The client's own errors (4xx) do not count."""

    handlers: str = GENERATION_HANDLERS

    @property
    def condition(self) -> str:
        return "answered"

    def good_terms(self) -> Terms:
        return ((1, self._requests(f"{_CLIENT_ERROR}|{_SERVER_ERROR}")),)

    def total_terms(self) -> Terms:
        return ((1, self._requests(_CLIENT_ERROR)),)

    def good(self, window: str, scope: Scope) -> str:
        # After a start that only ever failed there is no series of good answers: that is zero, not absence.
        good, total = RequestSli.good(self, window, scope), self.total(window, scope)
        return f"{good} or {total} * 0"

    def judge(self, request: Request) -> bool | None:
        return request.ok

    def _requests(self, excluded: str) -> Selector:
        matchers = (Matcher("handler", "=~", self.handlers), Matcher("status", "!~", excluded))
        return Selector(catalog.HTTP_REQUESTS, "", matchers)


@dataclass(frozen=True, slots=True)
class GoodputSli(RequestSli):
    """Good: every latency condition met by the same request.

    Separate histograms cannot say which requests broke two conditions at once, so the PromQL subtracts each
    condition's bad requests: a guaranteed floor. Requests and spans are judged exactly.
    """

    conditions: tuple[LatencySli, ...]

    @property
    def condition(self) -> str:
        return " and ".join(condition.condition for condition in self.conditions)

    def good_terms(self) -> Terms:
        first, *others = self.conditions
        terms = list(first.good_terms())
        for condition in others:
            terms += condition.good_terms()
            terms += [(-sign, selector) for sign, selector in condition.total_terms()]
        return tuple(terms)

    def total_terms(self) -> Terms:
        return self.conditions[0].total_terms()

    def good(self, window: str, scope: Scope) -> str:
        return f"clamp_min({RequestSli.good(self, window, scope)}, 0)"

    def judge(self, request: Request) -> bool | None:
        verdicts = [condition.judge(request) for condition in self.conditions]
        if request.ok is None or verdicts[0] is None:
            return None
        return request.ok and False not in verdicts


@dataclass(frozen=True, slots=True)
class ThroughputSli:
    """Good: a minute in which at least `floor` output tokens per second were made, while there was demand.

    Only minutes with at least `demand` requests in flight from their first to their last second count: an idle
    service owes no throughput. Tokens and requests are those of all replicas together.
    """

    floor: float
    demand: int

    @property
    def condition(self) -> str:
        return f"≥ {self.floor:g} tok/s with ≥ {self.demand} in flight"

    @property
    def unit_of_count(self) -> str:
        return "seconds"

    def total(self, window: str, scope: Scope) -> str:
        return _slices(self._demanded(scope), window)

    def good(self, window: str, scope: Scope) -> str:
        made = sum_rate(Selector(catalog.GENERATION_TOKENS), SLICE, scope)
        return _slices(f"{self._demanded(scope)} * ({made} >= bool {self.floor:g})", window)

    def count(self, requests: Sequence[Request], /) -> Count | None:
        """Second by second, which is stricter than production's minutes; tokens are spread over each decode."""
        if not requests:
            return Count(0, 0)
        origin = min(r.start for r in requests)
        seconds = int(max(r.start + (r.e2e or 0) for r in requests) - origin)
        tokens = _tokens_per_second(requests, origin, seconds)
        demanded = [s for s, low in enumerate(_least_in_flight(requests, origin, seconds)) if low >= self.demand]
        return Count(sum(tokens[s] >= self.floor for s in demanded), len(demanded))

    def _demanded(self, scope: Scope) -> str:
        by = scope.by_for(catalog.RUNNING)
        parts = [
            aggregate("sum", f"min_over_time({Selector(metric).render(scope)}[{SLICE}])", by)
            for metric in (catalog.RUNNING, catalog.WAITING)
        ]
        return f"(({' + '.join(parts)}) >= bool {self.demand})"


@dataclass(frozen=True, slots=True)
class SaturationSli:
    """Good: a minute of one engine in which on average less than `limit` of its KV cache was in use."""

    limit: float

    @property
    def condition(self) -> str:
        return f"KV cache < {self.limit:.0%} full"

    @property
    def unit_of_count(self) -> str:
        return "engine minutes"

    def total(self, window: str, scope: Scope) -> str:
        return _slices(aggregate("count", self._usage(scope), scope.by_for(catalog.KV_USAGE)), window)

    def good(self, window: str, scope: Scope) -> str:
        below = f"{self._usage(scope)} < bool {self.limit:g}"
        return _slices(aggregate("sum", below, scope.by_for(catalog.KV_USAGE)), window)

    def count(self, _requests: Sequence[Request], /) -> Count | None:
        """Always None: requests do not see the cache."""
        return None

    def _usage(self, scope: Scope) -> str:
        return f"avg_over_time({Selector(catalog.KV_USAGE).render(scope)}[{SLICE}])"


def _combine(terms: Terms, window: str, scope: Scope) -> str:
    first, *rest = terms
    text = sum_rate(first[1], window, scope)
    return text + "".join(f" {'+' if sign > 0 else '-'} {sum_rate(s, window, scope)}" for sign, s in rest)


def _slices(expr: str, window: str) -> str:
    """Slices per second: the mean number of slices open at a time, over their length."""
    return f"avg_over_time(({expr})[{window}:{SLICE}]) / {SLICE_SECONDS}"


def _least_in_flight(requests: Sequence[Request], origin: float, seconds: int) -> list[int]:
    """The fewest requests in flight at any instant of each second after `origin`."""
    steps = [(r.start - origin, 1) for r in requests if r.e2e]
    steps += [(r.start + r.e2e - origin, -1) for r in requests if r.e2e]
    least, level, last = [len(requests)] * seconds, 0, 0.0
    for time, step in [*sorted(steps), (float(seconds), 0)]:
        if time > last:  # what starts just as another ends leaves no gap
            for second in range(int(last), min(seconds, math.ceil(time))):
                least[second] = min(least[second], level)
        level, last = level + step, time
    return least


def _tokens_per_second(requests: Sequence[Request], origin: float, seconds: int) -> list[int]:
    """The output tokens of each second after `origin`, each request's spread evenly from its first to its last."""
    tokens = [0] * (seconds + 1)
    for request in requests:
        if request.e2e is None or request.ttft is None or not request.output_tokens:
            continue
        first = request.start - origin + request.ttft
        step = (request.e2e - request.ttft) / max(1, request.output_tokens - 1)
        for i in range(request.output_tokens):
            tokens[min(int(first + i * step), seconds)] += 1
    return tokens


def exact_terms(slo_id: str) -> tuple[Terms, Terms]:
    """Good and total of an SLO as the sidecar counts them from spans, request by request."""
    matcher = (Matcher("slo", "=", slo_id),)
    good, total = Selector(catalog.SLO_GOOD_EVENTS, "", matcher), Selector(catalog.SLO_EVENTS, "", matcher)
    return ((1, good),), ((1, total),)


def exact(slo_id: str, window: str, scope: Scope) -> tuple[str, str]:
    """Good and total of `exact_terms` as PromQL; ValueError for sources without the sidecar."""
    if scope.source != EXPORTER:
        raise ValueError("only the sidecar counts events from spans; build with --source exporter")
    good, total = exact_terms(slo_id)
    return _combine(good, window, scope), _combine(total, window, scope)
