"""The GPUs of a snapshot as tables of the metrics page."""

from collections.abc import Iterator, Sequence

from exporters.gpus.economics import Usage
from exporters.model import GpuReading
from slo import catalog
from slo.catalog import Metric

# A row: the label values in the catalogue's order, and the value.
Row = tuple[tuple[str, ...], float]

_OF_GPU = tuple(metric for metric in catalog.families() if metric.labels == catalog.GPU_LABELS)
_LABELLED = tuple(
    metric
    for metric in catalog.families()
    if metric.labels[:-1] == catalog.GPU_LABELS and metric is not catalog.GPU_COST
)


def readings(gpus: Sequence[GpuReading]) -> Iterator[tuple[Metric, list[Row]]]:
    """Every family that a source can tell, and who is who."""
    for metric in _OF_GPU:
        yield metric, [((gpu.uuid, gpu.index), gpu.values[metric]) for gpu in gpus if metric in gpu.values]
    for metric in _LABELLED:
        yield (
            metric,
            [((g.uuid, g.index, label), value) for g in gpus for label, value in g.labelled.get(metric, {}).items()],
        )
    yield catalog.GPU_INFO, [((g.uuid, g.index, g.name, g.driver, g.parent, g.profile), 1) for g in gpus]


def economics(usages: Sequence[Usage]) -> Iterator[tuple[Metric, list[Row]]]:
    """Seconds at hand, and their cost where a price is known."""
    yield catalog.GPU_SECONDS, [((u.uuid, u.index), u.seconds) for u in usages]
    yield catalog.GPU_COST, [((u.uuid, u.index, u.currency), u.cost) for u in usages if u.cost is not None]
