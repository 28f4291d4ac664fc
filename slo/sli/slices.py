"""The SLIs that count good minutes: throughput, stalls and KV-cache saturation.

A slice is one minute: a scrape every 15-30 s allows no finer one in production.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import chain

from slo import catalog
from slo.catalog import Metric
from slo.promql import Scope, Selector, aggregate, duration, number, sum_rate
from slo.sli.base import Count, Request

SLICE = "1m"
SLICE_SECONDS = 60


class SliceSli(ABC):
    """The SLIs whose event is one slice: `slices` and `good_slices` say how many there are at a time.

    Rules record these two once a minute and add them up; `good` and `total` are one expression, of their means.
    """

    @property
    def unit_of_rules(self) -> str:
        return "engine minutes"

    @property
    def good_comes_late(self) -> bool:
        return False

    @property
    def late(self) -> int:
        """Seconds that something must be wrong before a slice is bad."""
        return SLICE_SECONDS

    @abstractmethod
    def slices(self, scope: Scope) -> str:
        """PromQL: the number of slices open now that count."""

    @abstractmethod
    def good_slices(self, scope: Scope) -> str:
        """PromQL: of those, the good ones."""

    def good(self, window: str, scope: Scope) -> str:
        return _mean_per_second(self.good_slices(scope), window)

    def total(self, window: str, scope: Scope) -> str:
        return _mean_per_second(self.slices(scope), window)


def _mean_per_second(slices: str, window: str) -> str:
    """PromQL: slices per second, from a number of slices open at a time; `window` stands in one place only."""
    return f"avg_over_time(({slices})[{window}:{SLICE}]) / {SLICE_SECONDS}"


@dataclass(frozen=True, slots=True)
class ThroughputSli(SliceSli):
    """Good: a minute in which at least `floor` output tokens per second were made, while there was demand.

    Only minutes with at least `demand` requests in flight from their first to their last second count: an idle
    service owes no throughput. Tokens and requests are those of all replicas together.
    """

    floor: float
    demand: int

    @property
    def condition(self) -> str:
        return f"≥ {number(self.floor)} tok/s with ≥ {self.demand} in flight"

    @property
    def unit_of_count(self) -> str:
        return "seconds"

    @property
    def unit_of_rules(self) -> str:
        return "minutes under demand"

    @property
    def needs(self) -> Metric:
        return catalog.RUNNING

    def slices(self, scope: Scope) -> str:
        # In the first minute of a service its rate is not known yet: that is no failure.
        return f"{self._demanded(scope)} and {_made(scope)}"

    def good_slices(self, scope: Scope) -> str:
        return f"{self._demanded(scope)} * ({_made(scope)} >= bool {number(self.floor)})"

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
        return f"(({_least_requests(SLICE, scope.by_for(catalog.RUNNING), scope)}) >= bool {self.demand})"


@dataclass(frozen=True, slots=True)
class StallSli(SliceSli):
    """Good: a minute of one engine in which at least one token came out within `within` seconds.

    Only engines that had requests in flight all that time count. A hung engine answers nobody and so has no bad
    TTFT at all: this is the SLI that sees it.
    """

    within: int

    @property
    def late(self) -> int:
        return self.within

    @property
    def condition(self) -> str:
        return f"a token within {duration(self.within)} while requests are in flight"

    @property
    def unit_of_count(self) -> str:
        return "engine minutes"

    @property
    def needs(self) -> Metric:
        return catalog.RUNNING

    def slices(self, scope: Scope) -> str:
        return aggregate("sum", self._busy(scope), scope.by_for(catalog.RUNNING))

    def good_slices(self, scope: Scope) -> str:
        before, now = self._tokens(scope)
        return aggregate("sum", f"{self._busy(scope)} * ({now} != bool {before})", scope.by_for(catalog.RUNNING))

    def count(self, _requests: Sequence[Request], /) -> Count | None:
        """Always None: requests do not see which engine answers."""
        return None

    def _busy(self, scope: Scope) -> str:
        least = _least_requests(duration(self.within), _each_engine(scope), scope)
        # An engine that came up within the window has had no time to fail; one that has just gone makes no tokens.
        before, now = self._tokens(scope)
        return f"((({least}) >= bool 1) and {before} and {now})"

    def _tokens(self, scope: Scope) -> tuple[str, str]:
        each = _each_engine(scope)
        return tokens_until(each, scope, ago=duration(self.within)), tokens_until(each, scope)


@dataclass(frozen=True, slots=True)
class SaturationSli(SliceSli):
    """Good: a minute of one engine in which on average less than `limit` of its KV cache was in use."""

    limit: float

    @property
    def condition(self) -> str:
        return f"KV cache < {self.limit:.0%} full"

    @property
    def unit_of_count(self) -> str:
        return "engine minutes"

    @property
    def needs(self) -> Metric:
        return catalog.KV_USAGE

    def slices(self, scope: Scope) -> str:
        return aggregate("count", self._usage(scope), scope.by_for(catalog.KV_USAGE))

    def good_slices(self, scope: Scope) -> str:
        return aggregate("sum", f"{self._usage(scope)} < bool {number(self.limit)}", scope.by_for(catalog.KV_USAGE))

    def count(self, _requests: Sequence[Request], /) -> Count | None:
        """Always None: requests do not see the cache."""
        return None

    def _usage(self, scope: Scope) -> str:
        return scope.over("avg_over_time", Selector(catalog.KV_USAGE), SLICE)


def tokens_until(by: Sequence[str], scope: Scope, *, ago: str = "", within: str = SLICE) -> str:
    """PromQL: all tokens made until so long `ago`, as last seen `within` the time before that.

    For two of them to be compared: an increase between the two times would be none where scrapes were missed and the
    few that are left saw no token.
    """
    return aggregate("sum", scope.over("last_over_time", Selector(catalog.GENERATION_TOKENS), within, ago), by)


def _each_engine(scope: Scope) -> tuple[str, ...]:
    """The labels that tell single engines apart: a data-parallel deployment has several behind one address."""
    return tuple(dict.fromkeys((*scope.by_for(catalog.RUNNING), "instance", "engine")))


def _made(scope: Scope) -> str:
    """PromQL: output tokens per second in the last slice."""
    return sum_rate(Selector(catalog.GENERATION_TOKENS), SLICE, scope)


def _least_requests(window: str, by: Sequence[str], scope: Scope) -> str:
    """PromQL: the fewest requests in flight within `window`."""
    parts = [
        aggregate("sum", scope.over("min_over_time", Selector(metric), window), by)
        for metric in (catalog.RUNNING, catalog.WAITING)
    ]
    return " + ".join(parts)


def _least_in_flight(requests: Sequence[Request], origin: float, seconds: int) -> list[int]:
    """The fewest requests in flight at any instant of each second after `origin`."""
    begins = sorted(r.start - origin for r in requests if r.e2e)
    ends = sorted(r.start + r.e2e - origin for r in requests if r.e2e)
    steps = merge(((time, -1) for time in ends), ((time, 1) for time in begins))
    least, level, last = [len(requests)] * seconds, 0, 0.0
    for time, step in chain(steps, [(float(seconds), 0)]):
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
        first, total = request.start - origin + request.ttft, request.output_tokens
        step = (request.e2e - request.ttft) / max(1, total - 1)
        second, made = int(first), 0
        while made < total:  # second by second, as answers may have thousands of tokens
            by_then = min(total, math.ceil((second + 1 - first) / step)) if step > 0 else total
            tokens[min(second, seconds)] += by_then - made
            second, made = second + 1, by_then
    return tokens
