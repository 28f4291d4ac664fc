"""What NVML tells of one GPU, by the names in the catalogue: as few driver calls as will do, and each may fail alone.

nvmlDeviceGetPcieThroughput is never asked: it blocks for 20 ms per direction and GPU.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, TypeVar

from exporters.gpus.cells import OF_INSTANCE, Cell
from slo import catalog
from slo.catalog import Upstream
from slo.gpus import GPU_SOURCES
from slo.gpus.table import throttle_reasons

T = TypeVar("T")

# nvmlValueType_t -> the member of the union that holds the value.
_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
_ALL_LINKS = 0xFFFFFFFF  # the scope of an NVLink field that means the sum over all links
_CALL = re.compile(r"(nvml\w+)(?:\((\w+)\))?(?:\.(\w+))?")


class Wish(NamedTuple):
    """A value wanted of some call: where it goes, and what turns its unit into ours."""

    cell: Cell
    scale: float
    attribute: str | None = None


class _Call(NamedTuple):
    function: str
    argument: str | None


def wishes(prefix: str) -> Iterator[tuple[Upstream, Wish]]:
    """The names of NVML that begin with `prefix`, in the order of the catalogue."""
    for name, upstreams in GPU_SOURCES["nvml"].items():
        for upstream in upstreams:
            if upstream.name.startswith(prefix):
                yield upstream, Wish((catalog.by_name(name), upstream.label), upstream.scale)


def _calls() -> dict[_Call, list[Wish]]:
    """The plain functions: those of one number or of a record of numbers."""
    found: dict[_Call, list[Wish]] = {}
    for upstream, wish in wishes("nvmlDevice"):
        if wish.cell[0] in (catalog.GPU_THROTTLED, catalog.GPU_PROCESS_MEMORY):
            continue
        match = _CALL.fullmatch(upstream.name)
        assert match, upstream.name
        found.setdefault(_Call(match[1], match[2]), []).append(wish._replace(attribute=match[3]))
    return found


CALLS = _calls()
FIELDS = [(upstream.name, wish) for upstream, wish in wishes("NVML_FI_")]
REASONS = [upstream.name for upstream, _ in wishes("nvmlDeviceGetCurrentClocks")]


class LostError(Exception):
    """The GPU is gone, needs a reset or answers nonsense; the text is NVML's."""


class Signals:
    """Asks one driver, and remembers per GPU what it does not support."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._unsupported: set[tuple[str, str]] = set()
        self._lost = (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_RESET_REQUIRED, nvml.NVML_ERROR_UNKNOWN)
        # What will not change while the driver runs.
        self._never = (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND, nvml.NVML_ERROR_NO_PERMISSION)

    def board(self, uuid: str, gpu: Any) -> dict[Cell, float]:
        """All but GPM of a GPU. Raises LostError when it is lost."""
        cells = self._fields(uuid, gpu)
        for call, wanted in CALLS.items():
            self._call(cells, uuid, gpu, call, wanted)
        for reason, on in self._throttled(uuid, gpu).items():
            cells[catalog.GPU_THROTTLED, reason] = on
        return cells | self._processes(uuid, gpu)

    def instance(self, uuid: str, mig: Any) -> dict[Cell, float]:
        """What a MIG instance tells of itself but GPM. Raises LostError when its GPU is lost."""
        cells: dict[Cell, float] = {}
        for call, wanted in CALLS.items():
            self._call(cells, uuid, mig, call, [wish for wish in wanted if wish.cell[0] in OF_INSTANCE])
        return cells | self._processes(uuid, mig)

    def ask(self, uuid: str, what: str, call: Callable[[], T]) -> T | None:
        """What `call` gives; None when the GPU cannot tell, now or ever. Raises LostError when it is lost."""
        if (uuid, what) in self._unsupported:
            return None
        try:
            return call()
        except self._nvml.NVMLError as error:
            self._failed(uuid, what, error.value)
            return None

    def _failed(self, uuid: str, what: str, code: int) -> None:
        if code in self._lost:
            raise LostError(str(self._nvml.NVMLError(code)))
        if code in self._never:
            self._unsupported.add((uuid, what))

    def _call(self, cells: dict[Cell, float], uuid: str, gpu: Any, call: _Call, wanted: list[Wish]) -> None:
        """Fill in what one function gives of the cells that are still empty."""
        missing = [wish for wish in wanted if wish.cell not in cells]
        if not missing:
            return
        arguments = [getattr(self._nvml, call.argument)] if call.argument else []
        answer = self.ask(uuid, "".join(map(str, call)), lambda: getattr(self._nvml, call.function)(gpu, *arguments))
        if answer is not None:
            for wish in missing:
                value = getattr(answer, wish.attribute) if wish.attribute else answer
                cells[wish.cell] = value * wish.scale

    def _fields(self, uuid: str, gpu: Any) -> dict[Cell, float]:
        """All field values, in one call to the driver."""
        asked = [(name, wish) for name, wish in FIELDS if (uuid, name) not in self._unsupported]
        ids = [self._id(name) for name, _ in asked]
        answers = self.ask(uuid, "fields", lambda: self._nvml.nvmlDeviceGetFieldValues(gpu, ids)) if ids else None
        cells: dict[Cell, float] = {}
        for (name, wish), answer in zip(asked, answers or (), strict=False):
            if answer.nvmlReturn == self._nvml.NVML_SUCCESS:
                value = getattr(answer.value, _MEMBERS[answer.valueType])
                cells.setdefault(wish.cell, value * wish.scale)
            elif answer.nvmlReturn != self._nvml.NVML_ERROR_UNKNOWN:  # of one field it says little about the GPU
                self._failed(uuid, name, answer.nvmlReturn)
        return cells

    def _id(self, name: str) -> int | tuple[int, int]:
        number = getattr(self._nvml, name)
        return (number, _ALL_LINKS) if "NVLINK" in name else number

    def _throttled(self, uuid: str, gpu: Any) -> dict[str, bool]:
        for name in REASONS:
            bits = self.ask(uuid, name, partial(getattr(self._nvml, name), gpu))
            if bits is not None:
                return throttle_reasons(bits)
        return {}

    def _processes(self, uuid: str, gpu: Any) -> dict[Cell, float]:
        ask = self._nvml.nvmlDeviceGetComputeRunningProcesses_v3
        found = self.ask(uuid, "processes", lambda: ask(gpu)) or ()
        cells: dict[Cell, float] = {}
        for process in found:
            if process.usedGpuMemory is not None:
                cell = (catalog.GPU_PROCESS_MEMORY, str(process.pid))
                cells[cell] = cells.get(cell, 0.0) + process.usedGpuMemory
        return cells
