"""The NVML reader against a stand-in for the driver: what is absent, lost, shifted or not there at all."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from exporters.model import SourceError
from exporters.nvml import NvmlReader
from slo import catalog


@dataclass
class Gpu:
    """A GPU of the stand-in; `broken` maps a function name to the error it raises, "*" all of them."""

    uuid: str
    broken: dict[str, pynvml.NVMLError] = field(default_factory=dict)


READINGS = {
    "nvmlDeviceGetName": "NVIDIA H200",
    "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=87, memory=35),
    "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=100, reserved=10, used=60, free=30),
    "nvmlDeviceGetPowerUsage": 412500,
    "nvmlDeviceGetEnforcedPowerLimit": 700000,
    "nvmlDeviceGetTotalEnergyConsumption": 123456789,
    "nvmlDeviceGetTemperature": 54,
    "nvmlDeviceGetClockInfo": 1980,
    "nvmlDeviceGetPcieReplayCounter": 3,
    "nvmlDeviceGetCurrentClocksEventReasons": 0x1 | 0x4 | 0x20,
}


class FakeNvml:
    """What the reader uses of the pynvml module, over a list of GPUs; `asked` collects the calls."""

    def __init__(self, *gpus: Gpu) -> None:
        self.gpus = list(gpus)
        self.asked: list[str] = []
        self.init_error: pynvml.NVMLError | None = None

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's name
        if self.init_error:
            raise self.init_error

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "580.10"

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        if self.init_error:
            raise self.init_error
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Gpu:  # noqa: N802
        return self._answer("nvmlDeviceGetHandleByIndex", self.gpus[index], self.gpus[index])

    def nvmlDeviceGetUUID(self, gpu: Gpu) -> str:  # noqa: N802
        return self._answer("nvmlDeviceGetUUID", gpu, gpu.uuid)

    def __getattr__(self, name: str) -> Any:
        if name in READINGS:
            return lambda gpu, *_, **__: self._answer(name, gpu, READINGS[name])
        return getattr(pynvml, name)  # constants and errors

    def _answer(self, name: str, gpu: Gpu, answer: Any) -> Any:
        self.asked.append(name)
        if error := gpu.broken.get(name) or gpu.broken.get("*"):
            raise error
        return answer


def test_every_signal_in_base_units() -> None:
    """Percent, mW, mJ and MHz become ratio, watts, joules and hertz; throttle reasons are 0 or 1, idle is none."""
    (gpu,) = NvmlReader(FakeNvml(Gpu("GPU-a"))).read().gpus
    assert (gpu.uuid, gpu.index, gpu.name, gpu.driver) == ("GPU-a", "0", "NVIDIA H200", "580.10")
    assert gpu.values == {
        catalog.GPU_UTILIZATION: 0.87,
        catalog.GPU_MEMORY_UTILIZATION: 0.35,
        catalog.GPU_MEMORY_USED: 60,
        catalog.GPU_MEMORY_FREE: 30,
        catalog.GPU_POWER: 412.5,
        catalog.GPU_POWER_LIMIT: 700.0,
        catalog.GPU_ENERGY: 123456.789,
        catalog.GPU_TEMPERATURE: 54,
        catalog.GPU_SM_CLOCK: 1.98e9,
        catalog.GPU_MEMORY_CLOCK: 1.98e9,
        catalog.GPU_PCIE_REPLAYS: 3,
    }
    assert {name for name, on in gpu.throttled.items() if on} == {"power_cap", "sw_thermal"}
    assert "hw_slowdown" in gpu.throttled


def test_what_a_board_does_not_support_is_absent_and_not_asked_again() -> None:
    """NotSupported makes a signal absent for good; a passing error makes it absent once."""
    gpu = Gpu(
        "GPU-a",
        {
            "nvmlDeviceGetTotalEnergyConsumption": pynvml.NVMLError_NotSupported(),
            "nvmlDeviceGetCurrentClocksEventReasons": pynvml.NVMLError_FunctionNotFound(),
            "nvmlDeviceGetPowerUsage": pynvml.NVMLError_Timeout(),
        },
    )
    fake = FakeNvml(gpu)
    reader = NvmlReader(fake)
    (first,) = reader.read().gpus
    assert not {catalog.GPU_ENERGY, catalog.GPU_POWER} & first.values.keys()
    assert first.throttled == {}
    gpu.broken.clear()
    fake.asked.clear()
    (second,) = reader.read().gpus
    assert catalog.GPU_POWER in second.values
    assert catalog.GPU_ENERGY not in second.values
    assert "nvmlDeviceGetTotalEnergyConsumption" not in fake.asked


@pytest.mark.parametrize(
    "error", [pynvml.NVMLError_GpuIsLost(), pynvml.NVMLError_ResetRequired(), pynvml.NVMLError_Unknown()]
)
def test_a_lost_gpu_is_reported_and_the_others_go_on(error: pynvml.NVMLError) -> None:
    """A GPU that fell off the bus is named by its UUID, whichever call finds out; it comes back when it answers."""
    first, second = Gpu("GPU-a"), Gpu("GPU-b")
    reader = NvmlReader(FakeNvml(first, second))
    reader.read()
    for call in ("*", "nvmlDeviceGetPowerUsage"):
        first.broken = {call: error}
        scrape = reader.read()
        assert [gpu.uuid for gpu in scrape.gpus] == ["GPU-b"]
        assert scrape.lost == {"GPU-a": str(error)}
    first.broken = {}
    assert reader.read().lost == {}


def test_a_gpu_that_vanishes_shifts_no_series() -> None:
    """When NVML renumbers the rest, they keep the index they were first seen with, and the missing one is lost."""
    fake = FakeNvml(Gpu("GPU-a"), Gpu("GPU-b"))
    reader = NvmlReader(fake)
    reader.read()
    del fake.gpus[0]
    scrape = reader.read()
    assert [(gpu.uuid, gpu.index) for gpu in scrape.gpus] == [("GPU-b", "1")]
    assert scrape.lost == {"GPU-a": "gone"}


def test_no_driver_is_an_error_until_there_is_one() -> None:
    """A driver that is missing, or reloaded in between, is an error that says what to do, and is tried again."""
    fake = FakeNvml(Gpu("GPU-a"))
    reader = NvmlReader(fake)
    fake.init_error = pynvml.NVMLError_LibraryNotFound()
    with pytest.raises(SourceError, match=r"Shared Library Not Found.*--gpu none"):
        reader.read()
    fake.init_error = None
    assert reader.read().gpus
    fake.init_error = pynvml.NVMLError_Uninitialized()
    with pytest.raises(SourceError, match="Uninitialized"):
        reader.read()
    fake.init_error = None
    assert reader.read().gpus


@pytest.mark.parametrize("gpus", [(), (Gpu("GPU-a", {"*": pynvml.NVMLError_GpuIsLost()}),)], ids=["none", "all lost"])
def test_no_gpu_is_a_failure(gpus: tuple[Gpu, ...]) -> None:
    """Zero visible GPUs is a broken device mount, not an idle machine."""
    with pytest.raises(SourceError, match="none that answers"):
        NvmlReader(FakeNvml(*gpus)).read()


def test_the_slow_pcie_throughput_is_never_asked() -> None:
    """nvmlDeviceGetPcieThroughput would block every scrape for 40 ms per GPU; the reader does not know it."""
    fake = FakeNvml(Gpu("GPU-a"))
    NvmlReader(fake).read()
    assert "nvmlDeviceGetPcieThroughput" not in fake.asked
    assert len(fake.asked) == 2 + len(READINGS) + 1  # the clock is asked twice
