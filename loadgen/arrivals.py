"""When requests are due: seeded schedules of offsets from the start of a run, without a clock.

A schedule is absolute: a request that leaves late moves no other request.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice, takewhile
from typing import Literal

Arrivals = Literal["poisson", "constant", "gamma"]

NS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much to send: open loop at `rate` requests per second, or closed loop with `concurrency` requests in flight.

    Exactly one of `rate` and `concurrency` is set, and one of `requests` (a number) and `duration` (seconds).
    """

    rate: float | None = None
    arrivals: Arrivals | None = None
    burstiness: float | None = None
    concurrency: int | None = None
    requests: int | None = None
    duration: float | None = None

    def offsets(self, seed: int) -> Iterator[int]:
        """The whole open-loop schedule in nanoseconds; ValueError for a closed loop, which has none."""
        if self.rate is None:
            raise ValueError("a closed loop has no schedule")
        if self.arrivals == "constant":
            schedule = constant(self.rate)
        elif self.arrivals == "gamma":
            schedule = gamma(self.rate, self.burstiness or 1.0, seed)
        else:
            schedule = poisson(self.rate, seed)
        return until(schedule, requests=self.requests, duration=self.duration)


def constant(rate: float) -> Iterator[int]:
    """Endless offsets in ns, `rate` per second, evenly spaced from 0."""
    return (int(i * NS / rate) for i in count())


def poisson(rate: float, seed: int) -> Iterator[int]:
    """Endless offsets in ns of a Poisson process: independent users, gaps with a coefficient of variation of 1."""
    return gamma(rate, 1.0, seed)


def gamma(rate: float, burstiness: float, seed: int) -> Iterator[int]:
    """Endless offsets in ns whose gaps are gamma distributed with a coefficient of variation of 1/sqrt(burstiness).

    Below 1 is burstier than Poisson, 1 is Poisson, above is smoother: the meaning vLLM's benchmark gives the word.
    """
    rng = random.Random(f"arrivals {seed}")
    now = 0.0
    while True:
        now += rng.gammavariate(burstiness, 1 / (burstiness * rate))
        yield int(now * NS)


def until(offsets: Iterator[int], *, requests: int | None = None, duration: float | None = None) -> Iterator[int]:
    """The first `requests` offsets, or those before `duration` seconds; both limits hold when both are given."""
    if duration is not None:
        end = duration * NS
        offsets = takewhile(lambda offset: offset < end, offsets)
    return islice(offsets, requests)
