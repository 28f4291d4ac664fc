"""`slo-exporter describe --gpus`: which GPU signal each source has, under which name."""

from slo import catalog
from slo.catalog import Metric
from slo.gpus import GPU_SOURCES

_TITLES = {
    "nvml": "NVML",
    "dcgm": "dcgm-exporter",
    "amd": "AMD device-metrics-exporter",
    "gaudi": "Gaudi metric exporter",
    "intel": "Intel xpumd",
}


def table() -> str:
    """The table of docs/gpu.md, in Markdown. A name that stands for one value of a label has it in parentheses."""
    head = ["signal", *(_TITLES[source] for source in GPU_SOURCES)]
    rows = [[_signal(metric), *(_cell(metric, source) for source in GPU_SOURCES)] for metric in _told()]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)) + "\n"


def _told() -> list[Metric]:
    return [metric for metric in catalog.families() if metric.upstream.keys() & GPU_SOURCES.keys()]


def _signal(metric: Metric) -> str:
    labels = metric.labels[len(catalog.GPU_LABELS) :]
    return f"`{metric.name}`" + (f" by {', '.join(labels)}" if labels else "")


def _cell(metric: Metric, source: str) -> str:
    names = (
        f"`{upstream}`" + (f" ({upstream.label})" * bool(upstream.label))
        for upstream in metric.upstream.get(source, ())
    )
    return ", ".join(names) or "-"
