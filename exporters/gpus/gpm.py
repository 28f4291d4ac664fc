"""GPU performance monitoring of NVML (Hopper and newer): how busy SMs, tensor cores and memory were since last time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import isnan
from typing import Any

from exporters.gpus.cells import Cell
from exporters.gpus.signals import Signals, wishes

# Two samples must be this many seconds apart (nvml.h says 100 ms).
_APART = 0.1
METRICS = [(upstream.name, wish) for upstream, wish in wishes("NVML_GPM_")]


@dataclass(slots=True)
class _Samples:
    """Of one GPU or instance: the last sample and when it was taken, one to fill next, and what the two gave."""

    last: Any
    spare: Any
    taken: float | None = None
    cells: dict[Cell, float] = field(default_factory=dict)


class Gpm:
    """Keeps the last sample of each GPU; a reading spans the time from that one."""

    def __init__(self, nvml: Any, signals: Signals, clock: Callable[[], float]) -> None:
        self._nvml = nvml
        self._signals = signals
        self._clock = clock
        self._samples: dict[str, _Samples] = {}
        self._request: Any = None

    def read(self, uuid: str, gpu: Any, instance: int | None = None) -> dict[Cell, float]:
        """Ratios since the last reading; nothing at the first one. `uuid` is the instance's where one is given.

        Raises LostError when the GPU is lost.
        """
        return self._signals.ask(uuid, "gpm", lambda: self._read(uuid, gpu, instance)) or {}

    def _read(self, uuid: str, gpu: Any, instance: int | None) -> dict[Cell, float]:
        nvml = self._nvml
        if uuid not in self._samples:
            if not nvml.nvmlGpmQueryDeviceSupport(gpu).isSupportedDevice:
                raise nvml.NVMLError(nvml.NVML_ERROR_NOT_SUPPORTED)
            self._samples[uuid] = _Samples(nvml.nvmlGpmSampleAlloc(), nvml.nvmlGpmSampleAlloc())
        samples, now = self._samples[uuid], self._clock()
        if samples.taken is not None and now - samples.taken < _APART:
            return samples.cells
        if instance is None:
            nvml.nvmlGpmSampleGet(gpu, samples.spare)
        else:
            nvml.nvmlGpmMigSampleGet(gpu, instance, samples.spare)
        if samples.taken is not None:
            samples.cells = self._between(samples.last, samples.spare)
        samples.last, samples.spare, samples.taken = samples.spare, samples.last, now
        return samples.cells

    def _between(self, earlier: Any, later: Any) -> dict[Cell, float]:
        if self._request is None:  # 20 KB: made once
            self._request = self._nvml.c_nvmlGpmMetricsGet_t()
        request = self._request
        request.version = self._nvml.NVML_GPM_METRICS_GET_VERSION
        request.numMetrics = len(METRICS)
        request.sample1, request.sample2 = earlier, later
        for slot, (name, _) in zip(request.metrics, METRICS, strict=False):
            slot.metricId = getattr(self._nvml, name)
        self._nvml.nvmlGpmMetricsGet(request)
        return {
            wish.cell: slot.value * wish.scale
            for slot, (_, wish) in zip(request.metrics, METRICS, strict=False)
            if slot.nvmlReturn == self._nvml.NVML_SUCCESS and not isnan(slot.value)
        }
