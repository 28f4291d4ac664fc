"""What samples of the server's /metrics tell: lanes over time, and SLOs that requests cannot judge."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loadgen.results.record import Sample
from loadgen.traffic.arrivals import NS
from slo import catalog
from slo.sli import Count, SaturationSli, Sli, StallSli


def count_samples(sli: Sli, samples: Sequence[Sample]) -> Count | None:
    """Good of all samples, each engine's for itself; None when they say nothing of this SLI.

    Stricter than production, which averages KV-cache usage over a minute: here every sample counts.
    """
    if isinstance(sli, SaturationSli):
        usage = [value for sample in samples for value in sample.values.get(catalog.KV_USAGE.name, ())]
        return Count(sum(value < sli.limit for value in usage), len(usage)) if usage else None
    if isinstance(sli, StallSli):
        return _count_stalls(sli, samples)
    return None


def _count_stalls(sli: StallSli, samples: Sequence[Sample]) -> Count | None:
    """At each sample, of the engines that had requests in flight for so long, those that made a token since.

    None when none had: the run was too short for the SLI, or idle.
    """
    engines = list(zip(*(_engines(sample) for sample in samples), strict=False))
    if not engines:
        return None
    verdicts = [verdict for engine in engines for verdict in _stalls(sli.within, samples, engine)]
    return Count(sum(verdicts), len(verdicts)) if verdicts else None


def _engines(sample: Sample) -> list[tuple[float, float]]:
    """Requests in flight and tokens so far of every engine; none when the sample lacks one of the families."""
    names = (catalog.RUNNING.name, catalog.WAITING.name, catalog.GENERATION_TOKENS.name)
    columns = [sample.values.get(name, ()) for name in names]
    return [(running + waiting, tokens) for running, waiting, tokens in zip(*columns, strict=False)]


def _stalls(within: float, samples: Sequence[Sample], engine: Sequence[tuple[float, float]]) -> Iterator[bool]:
    for now, sample in enumerate(samples[: len(engine)]):
        then = next((i for i in range(now, -1, -1) if samples[i].at_ns <= sample.at_ns - within * NS), None)
        if then is not None and all(in_flight >= 1 for in_flight, _ in engine[then : now + 1]):
            yield engine[now][1] > engine[then][1]


@dataclass(frozen=True, slots=True)
class Lane:
    """One family over the time of the run: seconds and the value, of several engines or GPUs put together."""

    title: str
    points: tuple[tuple[float, float], ...]


def _mean_percent(values: Sequence[float]) -> float:
    return 100 * sum(values) / len(values)


def _most_percent(values: Sequence[float]) -> float:
    return 100 * max(values)


_LANES = (
    (catalog.RUNNING, "Requests running", sum),
    (catalog.WAITING, "Requests waiting", sum),
    (catalog.KV_USAGE, "KV cache in use, %, fullest engine", _most_percent),
    (catalog.GPU_POWER, "GPU power, W, all GPUs", sum),
    (catalog.GPU_UTILIZATION, "GPU busy, %, mean of GPUs", _mean_percent),
    (catalog.GPU_SM_ACTIVE, "SMs active, %, mean of GPUs", _mean_percent),
    (catalog.GPU_TENSOR_ACTIVE, "Tensor pipes active, %, mean of GPUs", _mean_percent),
    (catalog.GPU_DRAM_ACTIVE, "GPU memory active, %, mean of GPUs", _mean_percent),
)
# What is sampled: the lanes, and the counter that shows an engine's progress.
SAMPLED = (*(metric for metric, _, _ in _LANES), catalog.GENERATION_TOKENS)


def lanes(samples: Sequence[Sample]) -> list[Lane]:
    """The families that were sampled, over time."""
    found = []
    for metric, title, join in _LANES:
        points = [(s.at_ns / NS, float(join(values))) for s in samples if (values := s.values.get(metric.name))]
        if points:
            found.append(Lane(title, tuple(points)))
    return found
