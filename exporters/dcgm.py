"""dcgm-exporter's metrics page -> GPU readings."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from math import isnan
from typing import NamedTuple

from exporters import text
from exporters.model import GpuReading, GpuScrape, SourceError
from slo import catalog
from slo.catalog import Metric

_HINT = "point --dcgm-url at a dcgm-exporter (usually http://HOST:9400)"
# DCGM's marks for "no value": blank, not found, not supported, not permitted, as int32, float and int64.
_BLANK32 = range(0x7FFFFFF0, 0x7FFFFFF4)
_BLANK_FLOAT = range(2**47, 2**47 + 4)
_BLANK64 = 2.0**63


class _Field(NamedTuple):
    metric: Metric
    rank: int
    scale: float


_FIELDS = {
    upstream.name.encode(): _Field(metric, rank, upstream.scale)
    for metric in catalog.families()
    for rank, upstream in enumerate(metric.upstream.get("dcgm", ()))
}


class _Row(NamedTuple):
    field: _Field
    labels: Mapping[str, str]
    value: float


class Pod(NamedTuple):
    """The pod whose GPUs are wanted, where dcgm-exporter says who uses which."""

    name: str
    namespace: str


def parse(body: bytes, pod: Pod | None = None) -> GpuScrape:
    """Read a page of dcgm-exporter, keeping the GPUs of `pod` when the rows name pods.

    A GPU cut into MIG instances counts as one, by the first row of it that is kept. Raises SourceError when the page
    is not dcgm-exporter's, or none of its GPUs is the pod's.
    """
    try:
        text.check_complete(body)
        rows = list(_rows(body))
    except ValueError as error:
        raise SourceError(str(error)) from None
    if not rows:
        raise SourceError(f"{text.what_is(body)}, without any DCGM field: {_HINT}")
    return GpuScrape(tuple(_gpus(_of_pod(rows, pod))))


def _rows(body: bytes) -> Iterator[_Row]:
    for sample in text.samples(body):
        field = _FIELDS.get(sample.name)
        if field is None:
            continue
        value = text.number(sample.value)
        labels = {name.decode(): text.plain(raw) for name, raw in sample.labels.items()}
        if _uuid(labels) and not _is_blank(value):
            yield _Row(field, labels, value * field.scale)


def _of_pod(rows: list[_Row], pod: Pod | None) -> list[_Row]:
    if pod is None or not any(_owner(row.labels).name for row in rows):
        return rows
    kept = [row for row in rows if _owner(row.labels) == pod]
    if not kept:
        raise SourceError(f"no GPU of this node is in use by pod {pod.namespace}/{pod.name}")
    return kept


def _gpus(rows: list[_Row]) -> Iterator[GpuReading]:
    labels: dict[str, Mapping[str, str]] = {}
    values: dict[str, dict[Metric, float]] = defaultdict(dict)
    for row in sorted(rows, key=lambda row: row.field.rank):  # of two names for a field the newer one is used
        uuid = _uuid(row.labels)
        labels.setdefault(uuid, row.labels)
        values[uuid].setdefault(row.field.metric, row.value)
    for uuid, of_gpu in labels.items():
        yield GpuReading(
            uuid=uuid,
            index=of_gpu.get("gpu", ""),
            name=_first(of_gpu, "modelName", "model_name"),
            driver=of_gpu.get("DCGM_FI_DRIVER_VERSION", ""),
            values=values[uuid],
        )


def _uuid(labels: Mapping[str, str]) -> str:
    return _first(labels, "UUID", "gpu_uuid")


def _owner(labels: Mapping[str, str]) -> Pod:
    # Behind a Prometheus, `pod` may be the exporter's own and the owner `exported_pod`.
    return Pod(_first(labels, "exported_pod", "pod"), _first(labels, "exported_namespace", "namespace"))


def _first(labels: Mapping[str, str], *names: str) -> str:
    return next((labels[name] for name in names if labels.get(name)), "")


def _is_blank(value: float) -> bool:
    return isnan(value) or value >= _BLANK64 or value in _BLANK32 or value in _BLANK_FLOAT
