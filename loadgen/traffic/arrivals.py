"""When requests are due: seeded schedules of offsets from the start of a run, without a clock.

A schedule is absolute: a request that leaves late moves no other request.
"""

import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice, takewhile
from typing import Literal

Arrivals = Literal["poisson", "constant", "gamma", "trace"]

NS = 1_000_000_000

_NUMBER = r"(\d+(?:\.\d+)?)"
_STAGE = re.compile(rf"{_NUMBER}(?:\.\.{_NUMBER}(?:/(\d{{1,4}}))?)?:{_NUMBER}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much to send: open loop at `rate` arrivals per second, or closed loop with `concurrency` in flight.

    Exactly one of `rate` and `concurrency` is set. `requests` (a number) and `duration` (seconds) end it. With `stages`
    (what `parse_stages` reads) the rate changes and `rate` is its mean; with `trace` (a file's name and digest) the
    arrivals are those of the file, `speed` times as fast. What arrives is a conversation, of one request by default.
    """

    rate: float | None = None
    arrivals: Arrivals | None = None
    burstiness: float | None = None
    concurrency: int | None = None
    requests: int | None = None
    duration: float | None = None
    stages: str | None = None
    trace: str | None = None
    speed: float | None = None

    @property
    def title(self) -> str:
        """In a few words: `20/s`, `8 in flight`, `stages 1..10/4:60` or `replay of azure.csv, 2 times as fast`."""
        if self.stages:
            return f"stages {self.stages}"
        if self.trace:
            name = self.trace.rpartition(" sha256:")[0] or self.trace
            return f"replay of {name}" + (f", {self.speed:g} times as fast" if self.speed else "")
        return f"{self.rate:g}/s" if self.rate else f"{self.concurrency} in flight"

    def rate_at(self, seconds: float) -> float | None:
        """Arrivals per second that are asked for so far into the run; None in a closed loop."""
        if not self.stages:
            return self.rate
        for stage in parse_stages(self.stages):
            if seconds < stage.seconds:
                return stage.start + (stage.end - stage.start) * seconds / stage.seconds
            seconds -= stage.seconds
        return 0.0

    def offsets(self, seed: int, traced: Sequence[int] = ()) -> Iterator[int]:
        """The whole open-loop schedule in nanoseconds; ValueError for a closed loop, which has none.

        `traced` are the offsets of the trace, when the load is one.
        """
        if self.rate is None:
            raise ValueError("a closed loop has no schedule")
        if self.trace:
            schedule: Iterator[int] = (int(offset / (self.speed or 1.0)) for offset in traced)
        else:
            units = even() if self.arrivals == "constant" else uneven(self.burstiness or 1.0, seed)
            schedule = staged(units, parse_stages(self.stages)) if self.stages else paced(units, self.rate)
        return until(schedule, requests=self.requests, duration=self.duration)


@dataclass(frozen=True, slots=True)
class Stage:
    """`seconds` during which the rate goes evenly from `start` to `end` arrivals per second."""

    start: float
    end: float
    seconds: float

    @property
    def title(self) -> str:
        """In a few words: `10/s for 60 s`, `1..10/s for 60 s`."""
        rates = f"{self.start:.4g}" if self.start == self.end else f"{self.start:.4g}..{self.end:.4g}"
        return f"{rates}/s for {self.seconds:g} s"

    @property
    def arrivals(self) -> float:
        """How many are expected in it."""
        return (self.start + self.end) / 2 * self.seconds

    def when(self, arrivals: float) -> float:
        """Seconds into the stage at which so many are expected: the inverse of the integral of its rate."""
        slope = (self.end - self.start) / self.seconds
        rate_then = math.sqrt(max(0.0, self.start**2 + 2 * slope * arrivals))
        return 2 * arrivals / (self.start + rate_then) if arrivals else 0.0


def parse_stages(text: str) -> tuple[Stage, ...]:
    """Read `10:60` (10/s for 60 s), `1..10:60` (a ramp) and `1..10/4:60` (4 levels of 60 s), joined by commas.

    Raises ValueError, saying which part is wrong.
    """
    return tuple(stage for part in text.split(",") for stage in _parse_stage(part))


def _parse_stage(text: str) -> list[Stage]:
    match = _STAGE.fullmatch(text.strip())
    start, end, levels, seconds = match.groups() if match else (None,) * 4
    if not start or not seconds or not float(seconds) or not float(start) + float(end or 0) or levels == "1":
        raise ValueError(
            f"{text!r} is no stage; write 10:60 (10/s for 60 s), 1..10:60 (a ramp) or 1..10/4:60 (4 levels)"
        )
    first, last = float(start), float(end or start)
    if not levels:
        return [Stage(first, last, float(seconds))]
    steps = int(levels) - 1
    rates = [first + (last - first) * i / steps for i in range(steps + 1)]
    return [Stage(rate, rate, float(seconds)) for rate in rates]


def mean_rate(stages: Sequence[Stage]) -> float:
    """Arrivals per second over all stages."""
    return sum(stage.arrivals for stage in stages) / sum(stage.seconds for stage in stages)


def even() -> Iterator[float]:
    """Endless, evenly spaced: 0, 1, 2 and so on."""
    return map(float, count())


def uneven(burstiness: float, seed: int) -> Iterator[float]:
    """Endless, one per unit on average; gamma distributed gaps with a coefficient of variation of 1/sqrt(burstiness).

    Below 1 is burstier than Poisson, 1 is Poisson (independent users), above is smoother: the meaning vLLM's benchmark
    gives the word.
    """
    rng = random.Random(f"arrivals {seed}")
    now = 0.0
    while True:
        now += rng.gammavariate(burstiness, 1 / burstiness)
        yield now


def paced(units: Iterator[float], rate: float) -> Iterator[int]:
    """Offsets in ns of a unit-rate process at `rate` per second."""
    return (int(unit * NS / rate) for unit in units)


def staged(units: Iterator[float], stages: Sequence[Stage]) -> Iterator[int]:
    """Offsets in ns of a unit-rate process carried to the changing rate; ends with the last stage.

    A unit-rate Poisson process becomes exactly the Poisson process of that rate, an even one stays without noise.
    """
    begun = expected = 0.0  # seconds, and arrivals, before the current stage
    unit = next(units)
    for stage in stages:
        while unit < expected + stage.arrivals:
            yield int((begun + stage.when(unit - expected)) * NS)
            unit = next(units)
        begun, expected = begun + stage.seconds, expected + stage.arrivals


def until(offsets: Iterator[int], *, requests: int | None = None, duration: float | None = None) -> Iterator[int]:
    """The first `requests` offsets, or those before `duration` seconds; both limits hold when both are given."""
    if duration is not None:
        end = duration * NS
        offsets = takewhile(lambda offset: offset < end, offsets)
    return islice(offsets, requests)
