"""The highest rate that meets a spec, from trials that are noisy: where to try next, and what the trials say.

A rate passes or fails when two runs or more of it, taken together, leave no doubt: their good share is bounded
(Clopper-Pearson) with as many independent requests as they are worth (`slo.sampling.tau`). Rates that stay in doubt
after four runs are the edge, and the search narrows it from both sides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isclose, sqrt

from loadgen.judging.regression import Outcome
from slo.evidence.sampling import tau
from slo.stats import binomial_bounds

CONFIDENCE = 0.95
_FEWEST_RUNS, _MOST_RUNS = 2, 4


@dataclass(frozen=True, slots=True)
class Promise:
    """What is asked of every rate: the SLO's id and its objective."""

    name: str
    objective: float


@dataclass(frozen=True, slots=True)
class Share:
    """Good events of all; `alike` of them in a row say as much as one independent event."""

    good: int = 0
    total: int = 0
    alike: float = 1.0

    @property
    def ratio(self) -> float | None:
        """The good share; None without events."""
        return self.good / self.total if self.total else None

    @property
    def bounds(self) -> tuple[float, float]:
        """One-sided 95 % bounds; all is possible without events."""
        if not self.total:
            return 0.0, 1.0
        return binomial_bounds(self.good / self.alike, self.total / self.alike, CONFIDENCE)


def share(verdicts: Sequence[bool], alike: float = 1.0) -> Share:
    """The share of one run's requests, in their order, of which `alike` or more in a row say as much as one.

    A lucky run has no bad requests that could show how they come in bursts: that has to be told from elsewhere.
    """
    return Share(sum(verdicts), len(verdicts), max(alike, tau(verdicts)))


def together(shares: Sequence[Share]) -> Share:
    """Of several runs. Requests of all are as alike as on average: a run that looks better is not worth more."""
    total = sum(one.total for one in shares)
    alike = sum(one.alike * one.total for one in shares) / total if total else 1.0
    return Share(sum(one.good for one in shares), total, alike)


@dataclass(frozen=True, slots=True)
class Point:
    """A rate, in requests per second, with the shares of each run at it: one per promise."""

    rate: float
    runs: tuple[tuple[Share, ...], ...] = ()

    def shares(self) -> list[Share]:
        """Of all runs together, one per promise."""
        return [together(runs) for runs in zip(*self.runs, strict=True)]

    def outcome(self, promises: Sequence[Promise]) -> Outcome:
        """PASS when every promise is surely kept, FAIL when one surely is not; neither by a single run."""
        if len(self.runs) < _FEWEST_RUNS:
            return Outcome.INCONCLUSIVE
        bounds = [(share.bounds, promise.objective) for share, promise in zip(self.shares(), promises, strict=True)]
        if any(high < objective for (_, high), objective in bounds):
            return Outcome.FAIL
        return Outcome.PASS if all(low >= objective for (low, _), objective in bounds) else Outcome.INCONCLUSIVE

    def worst(self, promises: Sequence[Promise]) -> int:
        """Which promise decides the outcome: one that surely is not kept, else the one that is least sure to be."""
        bounds = [(share.bounds, promise.objective) for share, promise in zip(self.shares(), promises, strict=True)]
        ranks = [(high >= objective, low - objective) for (low, high), objective in bounds]
        return ranks.index(min(ranks))


@dataclass(frozen=True, slots=True)
class Bracket:
    """The highest rate that passes with none that fails below it, and the lowest that fails; None if not known."""

    passed: float | None
    failed: float | None


def add(points: Sequence[Point], rate: float, shares: Sequence[Share]) -> list[Point]:
    """The points with one more run, in order of their rates."""
    known = next((point for point in points if point.rate == rate), Point(rate))
    others = [point for point in points if point.rate != rate]
    return sorted([*others, Point(rate, (*known.runs, tuple(shares)))], key=lambda point: point.rate)


def bracket(points: Sequence[Point], promises: Sequence[Promise]) -> Bracket:
    """What is sure by now."""
    outcomes = [(point.rate, point.outcome(promises)) for point in points]
    failed = min((rate for rate, outcome in outcomes if outcome is Outcome.FAIL), default=None)
    below = [rate for rate, outcome in outcomes if outcome is Outcome.PASS and (failed is None or rate < failed)]
    return Bracket(max(below, default=None), failed)


def next_rate(
    points: Sequence[Point],
    promises: Sequence[Promise],
    guess: tuple[float, float],
    precision: float,
    ceiling: float | None = None,
) -> float | None:
    """The rate to try next; None when the answer is as precise as asked, or as it gets.

    `guess` are rates that a quick look found good and bad; `ceiling` is a rate at which the client is too slow.
    """
    known = bracket(points, promises)
    low = known.passed or _below(guess[0], known.failed)
    high = known.failed or ceiling or _above(guess[1], known.passed)
    inside = [p for p in points if low <= p.rate <= high and p.outcome(promises) is Outcome.INCONCLUSIVE]
    again = [point.rate for point in inside if len(point.runs) < _MOST_RUNS]
    if again:
        return again[0]
    middle = _between(low, high, [point.rate for point in inside], precision)
    if middle is not None:
        return middle
    if known.passed is None:
        return _undecided(low, 0.5, points)
    return None if known.failed or ceiling else _undecided(high, 2.0, points)


def _below(rate: float, failed: float | None) -> float:
    while failed is not None and rate >= failed:
        rate /= 2
    return rate


def _above(rate: float, passed: float | None) -> float:
    while passed is not None and rate <= passed:
        rate *= 2
    return rate


def _between(low: float, high: float, edges: Sequence[float], precision: float) -> float | None:
    """The middle of the wider gap beside the rates that stay in doubt, on a scale of ratios."""
    first, last = (min(edges), max(edges)) if edges else (high, low)
    gaps = [(low, first), (last, high)] if edges else [(low, high)]
    begin, end = max(gaps, key=lambda gap: gap[1] / gap[0])
    return sqrt(begin * end) if end / begin > 1 + precision else None


def _undecided(rate: float, factor: float, points: Sequence[Point]) -> float:
    """The rate, or the next one `factor` away that has not been tried in vain."""
    while any(isclose(point.rate, rate) and len(point.runs) >= _MOST_RUNS for point in points):
        rate *= factor
    return rate


def estimate(points: Sequence[Point], promises: Sequence[Promise]) -> tuple[float, str] | None:
    """Where a curve that only falls, fitted to each promise's shares, crosses its objective first, and whose it is.

    None when no curve crosses between the rates that were tried.
    """
    found = []
    for index, promise in enumerate(promises):
        shares = [(point.rate, point.shares()[index]) for point in points]
        known = [(rate, s.ratio, s.total) for rate, s in shares if s.ratio is not None]
        fitted = falling([ratio for _, ratio, _ in known], [weight for *_, weight in known])
        rate = _crossing([rate for rate, *_ in known], fitted, promise.objective)
        if rate is not None:
            found.append((rate, promise.name))
    return min(found, default=None)


def falling(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The nearest sequence that never rises, in weighted squares (pool adjacent violators)."""
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        block = (value, weight, 1)
        while blocks and blocks[-1][0] < block[0]:
            mean, heavy, length = blocks.pop()
            joint = heavy + block[1]
            block = ((mean * heavy + block[0] * block[1]) / joint, joint, length + block[2])
        blocks.append(block)
    return [mean for mean, _, length in blocks for _ in range(length)]


def _crossing(rates: Sequence[float], fitted: Sequence[float], objective: float) -> float | None:
    """Between the last rate at or above the objective and the next one, on the straight line."""
    for index in range(1, len(rates)):
        before, after = fitted[index - 1], fitted[index]
        if before >= objective > after:
            return rates[index - 1] + (rates[index] - rates[index - 1]) * (before - objective) / (before - after)
    return None
