"""The highest rate at which a service meets its spec: a search within a budget of time, and what follows from it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean

from loadgen.capacity.search import Bracket, Point, Promise, Share, add, bracket, estimate, next_rate
from loadgen.capacity.trial import Trial, judged, trial
from loadgen.judging.regression import Outcome
from loadgen.results.record import Recording
from loadgen.results.summary import Quantiles, quantiles
from slo.spec.model import Spec
from slo.stats import requests_needed

# A quick look, which doubles the rate until something breaks, is this long; a run of the search at least twice that.
_LOOK = 5.0
_SHARE_OF_BUDGET = 1 / 40
_MOST_OF_BUDGET = 1 / 5
# A client that was too slow once may have had a bad moment.
_CHANCES = 2


class ProbeError(Exception):
    """No more runs can be had; the text says why. What is known by then is the answer."""


# Runs a load of so many requests per second for so many seconds, and waits for every answer. May raise ProbeError.
Probe = Callable[[float, float], Recording]


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """All runs at one rate; `worst` is the promise that decides, then its share and that share's 95 % bounds."""

    rate: float
    outcome: Outcome
    runs: int
    requests: int
    failed: int
    good: float
    in_flight: float
    worst: str
    ratio: float | None
    low: float
    high: float
    ttft: Quantiles | None
    tpot: Quantiles | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """Requests per second that meet the spec: surely `passed`, surely not `failed`, about `estimated`.

    `limit` is the SLO that breaks there. PASS: a rate passes. FAIL: none does, and one surely fails. `ended` says why
    the search stopped.
    """

    outcome: Outcome
    passed: float | None
    failed: float | None
    estimated: float | None
    limit: str | None
    levels: tuple[Level, ...]
    ended: str

    @property
    def in_flight(self) -> float | None:
        """Mean requests in flight at the rate that surely passes."""
        return next((level.in_flight for level in self.levels if level.rate == self.passed), None)

    def replicas(self, rate: float, behind: int = 1) -> int | None:
        """Replicas for `rate` requests per second, where `behind` of them served the target."""
        return math.ceil(rate * behind / self.passed - 1e-9) if self.passed else None


class Search:
    """Finds the capacity with `probe` within `budget` seconds of `clock`; `tell` hears of every run.

    The spec must have an SLO that requests show (`judged`).
    """

    def __init__(
        self, spec: Spec, probe: Probe, *, budget: float, clock: Callable[[], float], tell: Callable[[Trial], None]
    ) -> None:
        self._spec, self._probe, self._tell = spec, probe, tell
        self._clock, self._budget, self._ends = clock, budget, clock() + budget
        self._promises = [Promise(slo.id, slo.objective) for slo in judged(spec)]
        self._trials: list[Trial] = []
        self._points: list[Point] = []
        self._too_slow: list[float] = []
        self._ended = ""

    def run(self, start: float, precision: float = 0.05) -> Capacity:
        """Search from the rate `start` on, until a passing and a failing rate are nearer than `precision` (a share)."""
        try:
            self._search(start, precision)
        except ProbeError as reason:
            self._ended = str(reason)
        return self._capacity(bracket(self._points, self._promises))

    def _search(self, start: float, precision: float) -> None:
        guess = self._look(start)
        while not self._ended:
            rate = next_rate(self._points, self._promises, guess, precision, self._ceiling())
            if rate is None:
                self._ended = "as precise as asked" if self._ceiling() is None else "the client is too slow for more"
            elif seen := self._try(rate, self._seconds(rate)):
                self._points = add(self._points, rate, seen.shares)
                self._trials.append(seen)

    def _look(self, start: float) -> tuple[float, float]:
        """The last rate of a doubling series that looked good, and the first that did not."""
        rate = start
        while (seen := self._try(rate, _LOOK)) and min(self._rooms(seen.shares)) >= 0:
            rate *= 2
        return rate / 2, rate

    def _rooms(self, shares: Sequence[Share]) -> list[float]:
        """By how much each promise is kept; without any request it is not."""
        return [(share.ratio or 0.0) - promise.objective for share, promise in zip(shares, self._promises, strict=True)]

    def _seconds(self, rate: float) -> float:
        """So that two runs leave no doubt about a rate at which all is good, as far as the budget allows."""
        needed = max(requests_needed(promise.objective) for promise in self._promises)
        wanted = max(2 * _LOOK, self._budget * _SHARE_OF_BUDGET, 0.75 * needed / rate)
        return min(wanted, self._budget * _MOST_OF_BUDGET)

    def _try(self, rate: float, seconds: float) -> Trial | None:
        """One run; None when no time is left for it, or the client was too slow."""
        if self._clock() + seconds > self._ends:
            self._ended = "the budget is used up"
            return None
        seen = trial(self._spec, rate, self._probe(rate, seconds))
        self._tell(seen)
        if seen.doubts:
            self._too_slow.append(rate)
            return None
        return seen

    def _ceiling(self) -> float | None:
        """The lowest rate for which this client is too slow."""
        return min((rate for rate in self._too_slow if self._too_slow.count(rate) >= _CHANCES), default=None)

    def _capacity(self, found: Bracket) -> Capacity:
        guess = estimate(self._points, self._promises)
        failing = found.failed is not None and found.passed is None
        outcome = Outcome.PASS if found.passed else Outcome.FAIL if failing else Outcome.INCONCLUSIVE
        return Capacity(
            outcome=outcome,
            passed=found.passed,
            failed=found.failed,
            estimated=min(max(guess[0], found.passed or 0.0), found.failed or math.inf) if guess else None,
            limit=guess[1] if guess else None,
            levels=tuple(self._level(point) for point in self._points),
            ended=self._ended,
        )

    def _level(self, point: Point) -> Level:
        trials = [seen for seen in self._trials if seen.rate == point.rate]
        shares = point.shares()
        worst = point.worst(self._promises)
        low, high = shares[worst].bounds
        return Level(
            rate=point.rate,
            outcome=point.outcome(self._promises),
            runs=len(trials),
            requests=sum(seen.requests for seen in trials),
            failed=sum(seen.failed for seen in trials),
            good=mean(seen.good for seen in trials),
            in_flight=mean(seen.in_flight for seen in trials),
            worst=self._promises[worst].name,
            ratio=shares[worst].ratio,
            low=low,
            high=high,
            ttft=_quantiles([seen.ttft for seen in trials]),
            tpot=_quantiles([seen.tpot for seen in trials]),
        )


def _quantiles(runs: Sequence[Sequence[float]]) -> Quantiles | None:
    return quantiles(value for run in runs for value in run)
