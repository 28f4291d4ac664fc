"""NVML -> GPU readings, through the functions of the `pynvml` module (distribution nvidia-ml-py)."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from exporters.model import GpuReading, GpuScrape, SourceError
from slo import catalog
from slo.catalog import Metric

_K = TypeVar("_K")
_V = TypeVar("_V")

# Bits of nvmlDeviceGetCurrentClocksEventReasons (nvml.h), named as dcgm-exporter names them. Bit 1, an idle GPU, is
# left out: nothing holds its clocks down.
THROTTLE_REASONS = {
    "clocks_setting": 0x002,
    "power_cap": 0x004,
    "hw_slowdown": 0x008,
    "sync_boost": 0x010,
    "sw_thermal": 0x020,
    "hw_thermal": 0x040,
    "hw_power_brake": 0x080,
    "display_clocks": 0x100,
}
_HINT = "give the container access to the GPUs and their driver, or choose --gpu dcgm or --gpu none"

# nvmlDeviceGetPcieThroughput is left out: it blocks for 20 ms per direction and GPU.
_CALLS: tuple[Callable[[Any, Any], dict[Metric, float]], ...] = (
    lambda nvml, gpu: _utilization(nvml.nvmlDeviceGetUtilizationRates(gpu)),
    lambda nvml, gpu: _memory(nvml.nvmlDeviceGetMemoryInfo(gpu, version=nvml.nvmlMemory_v2)),
    lambda nvml, gpu: {catalog.GPU_POWER: nvml.nvmlDeviceGetPowerUsage(gpu) / 1e3},
    lambda nvml, gpu: {catalog.GPU_POWER_LIMIT: nvml.nvmlDeviceGetEnforcedPowerLimit(gpu) / 1e3},
    lambda nvml, gpu: {catalog.GPU_ENERGY: nvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1e3},
    lambda nvml, gpu: {catalog.GPU_TEMPERATURE: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU)},
    lambda nvml, gpu: {catalog.GPU_SM_CLOCK: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM) * 1e6},
    lambda nvml, gpu: {catalog.GPU_MEMORY_CLOCK: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_MEM) * 1e6},
    lambda nvml, gpu: {catalog.GPU_PCIE_REPLAYS: nvml.nvmlDeviceGetPcieReplayCounter(gpu)},
)


def _utilization(rates: Any) -> dict[Metric, float]:
    return {catalog.GPU_UTILIZATION: rates.gpu / 100, catalog.GPU_MEMORY_UTILIZATION: rates.memory / 100}


def _memory(info: Any) -> dict[Metric, float]:
    return {catalog.GPU_MEMORY_USED: info.used, catalog.GPU_MEMORY_FREE: info.free}


def _throttled(nvml: Any, gpu: Any) -> dict[str, bool]:
    reasons = nvml.nvmlDeviceGetCurrentClocksEventReasons(gpu)
    return {name: bool(reasons & bit) for name, bit in THROTTLE_REASONS.items()}


class NvmlReader:
    """Reads all GPUs that the process can see. Its calls block, and with a wedged driver for ever."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._driver: str | None = None
        self._seen: dict[str, str] = {}  # UUID -> the index it had when first seen: a lost GPU shifts the others'
        self._unsupported: set[tuple[str, object]] = set()

    def read(self) -> GpuScrape:
        """One reading. Raises SourceError when there is no driver or no GPU answers."""
        try:
            if self._driver is None:
                self._nvml.nvmlInit()
                self._driver = self._nvml.nvmlSystemGetDriverVersion()
            count = self._nvml.nvmlDeviceGetCount()
        except self._nvml.NVMLError as error:
            self._driver = None  # start over with the next reading: drivers are installed and reloaded
            raise SourceError(f"NVML: {error}: {_HINT}") from None
        lost: dict[str, str] = {}
        gpus = tuple(self._read_all(count, lost))
        if not gpus:
            reasons = "".join(f"; {gpu}: {reason}" for gpu, reason in lost.items())
            raise SourceError(f"NVML: {count} GPUs, none that answers{reasons}: {_HINT}")
        gone = self._seen.keys() - {gpu.uuid for gpu in gpus} - lost.keys()
        return GpuScrape(gpus, lost | dict.fromkeys(sorted(gone), "gone"))

    def _read_all(self, count: int, lost: dict[str, str]) -> Iterator[GpuReading]:
        at_index = {index: uuid for uuid, index in self._seen.items()}
        for index in range(count):
            uuid = at_index.get(str(index), f"index {index}")
            try:
                gpu = self._nvml.nvmlDeviceGetHandleByIndex(index)
                uuid = self._nvml.nvmlDeviceGetUUID(gpu)
                self._seen.setdefault(uuid, str(index))
                yield self._read_one(uuid, gpu)
            except self._nvml.NVMLError as error:
                lost[uuid] = str(error)

    def _read_one(self, uuid: str, gpu: Any) -> GpuReading:
        values: dict[Metric, float] = {}
        for call in _CALLS:
            values |= self._call(uuid, call, gpu)
        return GpuReading(
            uuid=uuid,
            index=self._seen[uuid],
            name=self._nvml.nvmlDeviceGetName(gpu),
            driver=self._driver or "",
            values=values,
            throttled=self._call(uuid, _throttled, gpu),
        )

    def _call(self, uuid: str, call: Callable[[Any, Any], dict[_K, _V]], gpu: Any) -> dict[_K, _V]:
        """What `call` tells, or nothing. Raises NVMLError when the GPU is lost."""
        if (uuid, call) in self._unsupported:
            return {}
        nvml = self._nvml
        try:
            return call(nvml, gpu)
        except (nvml.NVMLError_GpuIsLost, nvml.NVMLError_ResetRequired, nvml.NVMLError_Unknown):
            raise
        except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound, nvml.NVMLError_NoPermission):
            self._unsupported.add((uuid, call))
        except nvml.NVMLError:
            pass  # no value this time
        return {}
