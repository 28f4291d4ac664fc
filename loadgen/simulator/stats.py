"""What the simulated engine counts: plain numbers that `metrics.py` renders as vLLM's families."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate, count

from slo import catalog


class Histogram:
    """Counts per bucket and the sum of what was observed. `bounds` are the upper bounds without +Inf."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value in the bucket whose upper bound is the first not below it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """How many values were observed."""
        return sum(self.counts)

    def cumulative(self) -> list[tuple[str, float]]:
        """(`le` text, count of values up to it) per bucket, ending in +Inf."""
        edges = [*(repr(float(bound)) for bound in self.bounds), "+Inf"]
        return list(zip(edges, map(float, accumulate(self.counts)), strict=True))


@dataclass(frozen=True, slots=True)
class Timings:
    """The phases of one finished request in seconds, exact: histograms and spans take the same object."""

    ttft: float
    e2e: float
    queue: float
    prefill: float
    decode: float
    inference: float
    tpot: float


def token_buckets(largest: int) -> tuple[float, ...]:
    """vLLM's edges for token counts: the 1-2-5 series up to the longest context."""
    return tuple(_one_two_five(largest))


def _one_two_five(largest: int) -> Iterator[float]:
    for exponent in count():
        for digit in (1, 2, 5):
            if digit * 10**exponent > largest:
                return
            yield float(digit * 10**exponent)


PREEMPTION_BUCKETS = (1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0)
N_BUCKETS = (1.0, 2.0, 5.0, 10.0, 20.0)


def _latency() -> Histogram:
    return Histogram(catalog.REQUEST_LATENCY_BUCKETS)


def _token_latency() -> Histogram:
    return Histogram(catalog.TOKEN_LATENCY_BUCKETS)


@dataclass(slots=True)
class EngineStats:
    """All counters and histograms of one engine since it started."""

    max_model_len: int
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    generation_tokens: int = 0
    preemptions: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0
    finished: Counter[str] = field(default_factory=Counter)
    ttft: Histogram = field(default_factory=lambda: Histogram(catalog.TTFT_BUCKETS))
    itl: Histogram = field(default_factory=_token_latency)
    tpot: Histogram = field(default_factory=_token_latency)
    e2e: Histogram = field(default_factory=_latency)
    queue: Histogram = field(default_factory=_latency)
    prefill: Histogram = field(default_factory=_latency)
    decode: Histogram = field(default_factory=_latency)
    inference: Histogram = field(default_factory=_latency)
    iteration_tokens: Histogram = field(default_factory=lambda: Histogram(catalog.ITERATION_TOKENS_BUCKETS))
    request_preemptions: Histogram = field(default_factory=lambda: Histogram(PREEMPTION_BUCKETS))
    params_n: Histogram = field(default_factory=lambda: Histogram(N_BUCKETS))
    request_prompt_tokens: Histogram = field(init=False)
    request_generation_tokens: Histogram = field(init=False)
    params_max_tokens: Histogram = field(init=False)
    max_generation_tokens: Histogram = field(init=False)
    prefill_computed_tokens: Histogram = field(init=False)

    def __post_init__(self) -> None:
        edges = token_buckets(self.max_model_len)
        self.request_prompt_tokens = Histogram(edges)
        self.request_generation_tokens = Histogram(edges)
        self.params_max_tokens = Histogram(edges)
        self.max_generation_tokens = Histogram(edges)
        self.prefill_computed_tokens = Histogram(edges)

    def observe_phases(self, timings: Timings) -> None:
        """Book the phases of a finished request. TTFT is not here: it counts at the first token, finished or not."""
        self.tpot.observe(timings.tpot)
        self.e2e.observe(timings.e2e)
        self.queue.observe(timings.queue)
        self.prefill.observe(timings.prefill)
        self.decode.observe(timings.decode)
        self.inference.observe(timings.inference)
