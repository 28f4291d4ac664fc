"""The values of a GPU on their way into a reading, whatever source they come from."""

from collections.abc import Mapping

from exporters.model import GpuReading
from slo import catalog
from slo.catalog import Metric

# A value's family, and the value of the family's last label where it has one beyond those of a GPU.
Cell = tuple[Metric, str]

# What is a MIG instance's own; the rest (power, energy, clocks, temperatures, errors) is measured on the whole board.
OF_INSTANCE = frozenset({
    catalog.GPU_MEMORY_USED, catalog.GPU_MEMORY_FREE, catalog.GPU_MEMORY_RESERVED, catalog.GPU_GRAPHICS_ACTIVE,
    catalog.GPU_SM_ACTIVE, catalog.GPU_TENSOR_ACTIVE, catalog.GPU_DRAM_ACTIVE, catalog.GPU_PROCESS_MEMORY,
})  # fmt: skip


def reading(cells: Mapping[Cell, float], uuid: str, index: str, **identity: str) -> GpuReading:
    """The reading made of `cells`; `identity` is name, driver, parent and profile, as far as they are known."""
    labelled: dict[Metric, dict[str, float]] = {}
    for (metric, label), value in cells.items():
        if label:
            labelled.setdefault(metric, {})[label] = value
    values = {metric: value for (metric, label), value in cells.items() if not label}
    return GpuReading(uuid=uuid, index=index, values=values, labelled=labelled, **identity)
