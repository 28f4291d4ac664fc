"""Is one figure worse than it was: bounds that know the noise within a run and from run to run, and a decision.

Within a run, a quantile lies between the values whose shares are the wanted one plus and minus what chance moves it;
requests that follow each other are alike, so n of them are taken as the n / tau independent ones that blocks of
consecutive requests show them to be (`slo.sampling.tau`): what a block bootstrap of the quantile converges to, without
drawing. Where a side has several runs, their spread gives bounds of its own, and the wider of the two holds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from statistics import NormalDist, correlation, mean, median, stdev, variance

from slo.evidence.sampling import tau
from slo.stats import t_quantile

# A PASS is this sure that the figure is no worse than the margin, whatever the number of figures.
SURE = 0.95
POWER = 0.80
# A change of twice the minimum effect never passes with more than 5 % chance.
_MARGIN = 2.0
# Parts of a run whose shares are set side by side to see how alike two runs are.
_STRETCHES = 24


class Outcome(StrEnum):
    """Inconclusive is never green."""

    PASS = "PASS"  # noqa: S105 (no password)
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """One figure of one run as a logarithm; chance moves it by `below` and `above` per standard deviation."""

    log: float
    below: float
    above: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How much worse a figure got: `value` is 1.1 for 10 % worse, within `low` and `high`.

    `low` holds at 1 - `alarm`, which is the false-alarm rate of this figure; `high` at 95 %. `detectable` is the
    smallest worsening, as a share, that is found with a chance of 80 %; infinite where the runs are too short.
    """

    name: str
    value: float
    low: float
    high: float
    detectable: float
    alarm: float
    effect: float
    runs: tuple[int, int]

    @property
    def outcome(self) -> Outcome:
        """FAIL: surely worse, and by the minimum effect. PASS: surely not worse by twice that."""
        if self.value >= 1 + self.effect:
            return Outcome.FAIL if self.low > 1 else Outcome.INCONCLUSIVE
        return Outcome.PASS if self.high < 1 + _MARGIN * self.effect else Outcome.INCONCLUSIVE


def quantile_spread(values: Sequence[float], q: float) -> Spread | None:
    """The q-quantile of one run's values, in the order of their requests; None for too few of them, or zeros there."""
    ordered = sorted(values)
    if not ordered:
        return None
    middle = ordered[int(q * len(ordered))]
    deviation = math.sqrt(q * (1 - q) * tau([value <= middle for value in values]) / len(ordered))
    # Two deviations are looked at: that is near where the bounds will be, and the tails of a density differ.
    ranks = [int((q + sign * 2 * deviation) * len(ordered)) for sign in (-1, 1)]
    if ranks[0] < 0 or ranks[1] >= len(ordered):
        return None
    low, high = (ordered[rank] for rank in ranks)
    if low <= 0:
        return None
    return Spread(log=math.log(middle), below=math.log(middle / low) / 2, above=math.log(high / middle) / 2)


def mean_spread(parts: Sequence[float]) -> Spread | None:
    """The mean of a run's consecutive parts; None for fewer than ten, or nothing in them."""
    if len(parts) < 10 or mean(parts) <= 0:
        return None
    alike = max(0.0, _autocorrelation(parts))
    deviation = stdev(parts) / mean(parts) / math.sqrt(len(parts)) * math.sqrt((1 + alike) / (1 - alike))
    return Spread(log=math.log(mean(parts)), below=deviation, above=deviation)


def inverse(spread: Spread) -> Spread:
    """The same figure as its inverse, for figures of which less is worse."""
    return Spread(log=-spread.log, below=spread.above, above=spread.below)


def likeness(old: Sequence[float], new: Sequence[float]) -> float:
    """How much of the noise of two runs is the same, 0 to 1: that of one schedule sent to both.

    The correlation of a figure of their consecutive parts, less one standard error.
    """
    if len(old) != len(new) or len(old) < 10 or not (stdev(old) and stdev(new)):
        return 0.0
    seen = max(-0.999, min(correlation(old, new), 0.999))
    return max(0.0, math.tanh(math.atanh(seen) - 1 / math.sqrt(len(old) - 3)))


def shares_below(values: Sequence[float], q: float) -> list[float]:
    """Part by part of a run, the share of its values up to the q-quantile of all; empty for too few values."""
    if len(values) < 4 * _STRETCHES:
        return []
    middle = sorted(values)[int(q * len(values))]
    edges = [i * len(values) // _STRETCHES for i in range(_STRETCHES + 1)]
    return [mean(value <= middle for value in values[begin:end]) for begin, end in pairwise(edges)]


def change(
    name: str,
    old: Sequence[Spread],
    new: Sequence[Spread],
    *,
    alarm: float,
    effect: float,
    alike: float = 0.0,
) -> Change:
    """From the runs of one side to those of the other, each side's median.

    `alarm` and `effect` are as in `Change`, `alike` is the likeness of a run of one side and one of the other.
    """
    difference = median(run.log for run in new) - median(run.log for run in old)
    within_low = _within([run.below for run in new], [run.above for run in old], alike)
    within_high = _within([run.above for run in new], [run.below for run in old], alike)
    low = max(_z(1 - alarm) * within_low, _between(old, new, 1 - alarm))
    high = max(_z(SURE) * within_high, _between(old, new, SURE))
    unlucky = low * _z(POWER) / _z(1 - alarm)
    return Change(
        name=name,
        value=math.exp(difference),
        low=math.exp(difference - low),
        high=math.exp(difference + high),
        detectable=math.exp(max(low, math.log1p(effect)) + unlucky) - 1,
        alarm=alarm,
        effect=effect,
        runs=(len(old), len(new)),
    )


def _within(new: Sequence[float], old: Sequence[float], alike: float) -> float:
    """The deviation of the difference of two medians of runs, from the deviation of each run.

    What is alike in all runs does not average out over the runs of a side, but cancels between the sides.
    """
    ours, theirs = (math.sqrt(mean(deviation**2 for deviation in side)) for side in (new, old))
    own = _of_median(len(new)) * ours**2 + _of_median(len(old)) * theirs**2
    return math.sqrt((1 - alike) * own + alike * (ours - theirs) ** 2)


def _of_median(runs: int) -> float:
    """The variance of a median of so many values, in variances of one; at most that, for three and more."""
    return 1 / runs if runs < 3 else math.pi / 2 / runs


def _between(old: Sequence[Spread], new: Sequence[Spread], confidence: float) -> float:
    """How far apart two medians of runs may be when nothing changed, as the runs of each side differ; 0 if unknown."""
    freedom = len(old) + len(new) - 2
    if not freedom:
        return 0.0
    squares = sum((len(side) - 1) * variance([run.log for run in side]) for side in (old, new) if len(side) > 1)
    one = math.sqrt(squares / freedom)
    return t_quantile(confidence, freedom) * one * math.sqrt(_of_median(len(old)) + _of_median(len(new)))


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf(confidence)


def _autocorrelation(parts: Sequence[float]) -> float:
    """Of neighbours; below 1."""
    centre = mean(parts)
    square = sum((part - centre) ** 2 for part in parts)
    product = sum((a - centre) * (b - centre) for a, b in pairwise(parts))
    return product / square if square else 0.0
