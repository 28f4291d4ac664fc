"""How long prompts and answers are: distributions of token counts, read from a short text."""

import math
import random
import re
from dataclasses import dataclass

_BUCKET = re.compile(r"(\d+)(?:(?:\.\.|-)(\d+))?(?:[=,;\s]+(\d+(?:\.\d+)?))?")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_LONGEST = 10_000_000

HELP = "N, LOW..HIGH, lognormal:MEAN:STDDEV or @FILE with lines of LENGTH WEIGHT or LOW..HIGH WEIGHT"


@dataclass(frozen=True, slots=True)
class Lengths:
    """A distribution over whole numbers from 1: weighted ranges, even within each, or a log-normal (mu, sigma)."""

    ranges: tuple[tuple[int, int], ...] = ()
    weights: tuple[float, ...] = ()
    lognormal: tuple[float, float] | None = None

    def draw(self, rng: random.Random) -> int:
        """One length."""
        if self.lognormal:
            return min(_LONGEST, max(1, round(rng.lognormvariate(*self.lognormal))))
        if len(self.ranges) == 1 and self.ranges[0][0] == self.ranges[0][1]:
            return self.ranges[0][0]
        return rng.randint(*rng.choices(self.ranges, self.weights)[0])

    @property
    def mean(self) -> float:
        """The expected length."""
        if self.lognormal:
            mu, sigma = self.lognormal
            return math.exp(mu + sigma**2 / 2)
        total = sum(self.weights)
        return sum((low + high) / 2 * w / total for (low, high), w in zip(self.ranges, self.weights, strict=True))


def parse(text: str) -> Lengths:
    """Read `128`, `64..256`, `lognormal:MEAN:STDDEV` or `histogram:64=3,128..256=5`. Raises ValueError."""
    kind, _, rest = text.partition(":")
    if kind == "lognormal":
        return _lognormal(text, rest)
    if kind == "histogram":
        return histogram(rest.split(","))
    return histogram([text])


def histogram(lines: list[str]) -> Lengths:
    """Read weighted lengths or ranges, one per line: `64 3`, `64=3`, `128..256,5`; without a weight it is 1."""
    found = [_bucket(line.strip()) for line in lines if line.strip() and not line.startswith("#")]
    if not found or not sum(weight for *_, weight in found):
        raise ValueError("no length with a weight above 0")
    return Lengths(tuple((low, high) for low, high, _ in found), tuple(weight for *_, weight in found))


def to_text(lengths: Lengths) -> str:
    """What `parse` reads back, of a histogram."""
    pairs = zip(lengths.ranges, lengths.weights, strict=True)
    return "histogram:" + ",".join(f"{low}..{high}={weight:g}" for (low, high), weight in pairs)


def _bucket(text: str) -> tuple[int, int, float]:
    match = _BUCKET.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is no length; write {HELP}")
    low, high = int(match[1]), int(match[2] or match[1])
    if not 0 < low <= high <= _LONGEST:
        raise ValueError(f"{text!r}: lengths are from 1 to {_LONGEST}, the lower first")
    return low, high, float(match[3] or 1)


def _lognormal(text: str, rest: str) -> Lengths:
    """Of the mean and standard deviation of the lengths themselves, not of their logarithm."""
    numbers = rest.split(":")
    if len(numbers) != 2 or not all(map(_NUMBER.fullmatch, numbers)) or not float(numbers[0]):
        raise ValueError(f"{text!r} is no log-normal; write lognormal:MEAN:STDDEV")
    mean, deviation = map(float, numbers)
    variance = math.log(1 + (deviation / mean) ** 2)
    return Lengths(lognormal=(math.log(mean) - variance / 2, math.sqrt(variance)))
