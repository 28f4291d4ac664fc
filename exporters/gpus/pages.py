"""The metrics pages of GPU exporters (NVIDIA's, AMD's, Intel's) -> GPU readings."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple

from exporters.engines import text
from exporters.gpus.cells import OF_INSTANCE, Cell, reading
from exporters.model import GpuReading, GpuScrape, SourceError
from slo import catalog
from slo.catalog import Metric
from slo.gpus import GPU_SOURCES
from slo.gpus.table import throttle_reasons

# Marks for "no value": DCGM's blank, not found, not supported, not permitted as int32 and as float, and an integer of
# 32 bits all set; the marks among the 64-bit integers are all that is as large as _BLANK64.
_BLANK = frozenset({*range(0x7FFFFFF0, 0x7FFFFFF4), *range(2**47, 2**47 + 4), 2**32 - 1})
_BLANK64 = 2.0**63


@dataclass(frozen=True, slots=True, kw_only=True)
class Exporter:
    """Where an exporter listens, and which labels of its rows say what; of several the first that is there counts.

    `prefix` may stand before every name. Rows of a partition (but the first) are a GPU of their own; rows of a MIG
    instance are split between the instance and its GPU.
    """

    kind: str
    port: int
    uuid: tuple[str, ...]
    index: tuple[str, ...]
    name: tuple[str, ...]
    driver: str = ""
    instance: str = ""
    profile: str = ""
    partition: str = ""
    prefix: bytes = b""


EXPORTERS: Mapping[str, Exporter] = {
    exporter.kind: exporter
    for exporter in (
        Exporter(kind="dcgm", port=9400, uuid=("UUID", "gpu_uuid"), index=("gpu",), name=("modelName", "model_name"),
                 driver="DCGM_FI_DRIVER_VERSION", instance="GPU_I_ID", profile="GPU_I_PROFILE"),
        Exporter(kind="amd", port=5000, uuid=("gpu_uuid", "serial_number", "gpu_id"), index=("gpu_id",),
                 name=("card_model", "card_series"), driver="driver_version", partition="gpu_partition_id",
                 prefix=b"amd_"),
        # The labels of Gaudi's rows are not documented: these are guesses.
        Exporter(kind="gaudi", port=41611, uuid=("UUID", "uuid", "serial", "device"), index=("device", "index"),
                 name=("model", "name"), driver="driver_version"),
        Exporter(kind="intel", port=8080, uuid=("hw_id",), index=("pci_bdf",), name=("hw_model",)),
    )
}  # fmt: skip


class _Field(NamedTuple):
    cell: Cell
    rank: int
    scale: float
    where: tuple[tuple[bytes, str], ...]


def _fields(kind: str) -> Mapping[bytes, list[_Field]]:
    found: dict[bytes, list[_Field]] = defaultdict(list)
    for name, upstreams in GPU_SOURCES[kind].items():
        for rank, upstream in enumerate(upstreams):
            where = tuple((label.encode(), value) for label, value in upstream.where.items())
            cell = (catalog.by_name(name), upstream.label)
            found[upstream.name.encode()].append(_Field(cell, rank, upstream.scale, where))
    return found


_FIELDS = {kind: _fields(kind) for kind in EXPORTERS}


class _Row(NamedTuple):
    field: _Field
    labels: Mapping[str, str]
    value: float


class Pod(NamedTuple):
    """The pod whose GPUs are wanted, where the exporter says who uses which."""

    name: str
    namespace: str


def parse(body: bytes, exporter: Exporter, pod: Pod | None = None) -> GpuScrape:
    """Read a page of `exporter`, keeping the GPUs of `pod`, or all of them when there is none.

    Raises SourceError when the page is not the exporter's, or it cannot be told which of its GPUs are the pod's.
    """
    try:
        text.check_complete(body)
        rows = list(_rows(body, exporter))
    except ValueError as error:
        raise SourceError(str(error)) from None
    if not rows:
        where = f"is it the page of the {exporter.kind} exporter (usually http://HOST:{exporter.port})?"
        raise SourceError(f"{text.what_is(body)}, without any GPU metric known of {exporter.kind}: {where}")
    return GpuScrape(tuple(_gpus(_of_pod(rows, exporter, pod), exporter)))


def _rows(body: bytes, exporter: Exporter) -> Iterator[_Row]:
    fields = _FIELDS[exporter.kind]
    for sample in text.samples(body):
        for field in fields.get(sample.name.removeprefix(exporter.prefix), ()):
            if any(sample.labels.get(label, b"").decode() != value for label, value in field.where):
                continue
            value = text.number(sample.value)
            labels = {name.decode(): text.plain(raw) for name, raw in sample.labels.items()}
            if _uuid(labels, exporter) and not _is_blank(value, field.cell[0]):
                yield _Row(field, labels, value * field.scale)


def _of_pod(rows: list[_Row], exporter: Exporter, pod: Pod | None) -> list[_Row]:
    if pod is None:
        return rows
    if kept := [row for row in rows if _owner(row.labels) == pod]:
        return kept
    if any(_owner(row.labels).name for row in rows):
        raise SourceError(f"no GPU of this node is in use by pod {pod.namespace}/{pod.name}")
    if len({_uuid(row.labels, exporter) for row in rows}) > 1:
        raise SourceError(
            "several GPUs on this node, and no row says which pod uses which: let the exporter name pods "
            "(DCGM_EXPORTER_KUBERNETES=true), or name this pod's GPUs with --gpu-uuids"
        )
    return rows


def _gpus(rows: list[_Row], exporter: Exporter) -> Iterator[GpuReading]:
    labels: dict[str, dict[str, str]] = defaultdict(dict)
    best: dict[str, dict[Cell, tuple[int, float]]] = defaultdict(dict)
    for row in rows:
        uuid = _whose(row, exporter)
        labels[uuid] = {**row.labels, **labels[uuid]}
        # Of several names the first counts; of several rows (sensors, engines, sharers) the largest value.
        candidate = (-row.field.rank, row.value)
        best[uuid][row.field.cell] = max(candidate, best[uuid].get(row.field.cell, candidate))
    for uuid, of_gpu in labels.items():
        cells = {cell: value for cell, (_, value) in best[uuid].items() if cell[0] is not catalog.GPU_INFO}
        yield _reading(_unmasked(cells), uuid, of_gpu, exporter)


def _unmasked(cells: dict[Cell, float]) -> dict[Cell, float]:
    """With the reasons for throttling one by one, which DCGM gives as a mask."""
    mask = cells.pop((catalog.GPU_THROTTLED, ""), None)
    reasons = {} if mask is None else throttle_reasons(int(mask))
    return cells | {(catalog.GPU_THROTTLED, reason): float(on) for reason, on in reasons.items()}


def _reading(cells: Mapping[Cell, float], uuid: str, labels: Mapping[str, str], exporter: Exporter) -> GpuReading:
    parent, slash, _ = uuid.rpartition("/gi")
    return reading(
        cells,
        uuid,
        _first(labels, *exporter.index),
        name=_first(labels, *exporter.name),
        driver=labels.get(exporter.driver, ""),
        parent=parent if slash else "",
        profile=labels.get(exporter.profile, "") if slash else "",
    )


def _whose(row: _Row, exporter: Exporter) -> str:
    """The UUID of the GPU, or `GPU/giN` where the value is that of its instance N."""
    uuid, instance = _uuid(row.labels, exporter), row.labels.get(exporter.instance)
    return f"{uuid}/gi{instance}" if instance and row.field.cell[0] in OF_INSTANCE else uuid


def _uuid(labels: Mapping[str, str], exporter: Exporter) -> str:
    uuid, partition = _first(labels, *exporter.uuid), labels.get(exporter.partition, "")
    return f"{uuid}/{partition}" if uuid and partition not in ("", "0") else uuid


def _owner(labels: Mapping[str, str]) -> Pod:
    # Behind a Prometheus, `pod` may be the exporter's own and the owner `exported_pod`.
    return Pod(_first(labels, "exported_pod", "pod"), _first(labels, "exported_namespace", "namespace"))


def _first(labels: Mapping[str, str], *names: str) -> str:
    return next((labels[name] for name in names if labels.get(name)), "")


def _is_blank(value: float, metric: Metric) -> bool:
    below_zero = value < 0 and metric.unit != "celsius"
    return not isfinite(value) or below_zero or value >= _BLANK64 or value in _BLANK
