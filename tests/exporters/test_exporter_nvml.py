"""The NVML reader over recorded answers: what is absent, lost, shifted, cut into instances or not there at all."""

import threading
import time
from collections.abc import Iterator

import pynvml
import pytest
from exporter_servers import wait_for
from nvml_replay import Replay, capture
from record_nvml import record

from exporters.gpus.nvml import NvmlReader
from exporters.gpus.ours import RollCall, Wanted
from exporters.gpus.signals import CALLS, FIELDS, REASONS
from exporters.model import GpuReading, GpuScrape, SourceError
from slo import catalog
from slo.gpus import nvml as names

A, B = "GPU-aaaaaaaa-0000-0000-0000-000000000000", "GPU-bbbbbbbb-0000-0000-0000-000000000000"


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def h200() -> Iterator[Replay]:
    """Two H200 that tell everything; what the reader asks and the capture lacks fails the test."""
    replay = Replay(capture("nvml-handmade-h200.json"))
    yield replay
    assert not replay.unknown


def readings(reader: NvmlReader, clock: Clock) -> dict[str, GpuReading]:
    """The second reading, by UUID: GPM needs two."""
    reader.read()
    clock.now += 1
    return {gpu.uuid: gpu for gpu in reader.read().gpus}


def test_every_signal_in_base_units(h200: Replay, clock: Clock) -> None:
    """Percent, mW, mJ, MHz, ns and KiB become ratio, watts, joules, hertz, seconds and bytes."""
    gpu = readings(NvmlReader(h200, clock=clock), clock)[A]
    assert (gpu.index, gpu.name, gpu.driver, gpu.parent) == ("0", "NVIDIA H200", "580.95.05", "")
    assert gpu.values == {
        catalog.GPU_UTILIZATION: pytest.approx(0.87),
        catalog.GPU_MEMORY_UTILIZATION: pytest.approx(0.35),
        catalog.GPU_MEMORY_USED: 140335120384,
        catalog.GPU_MEMORY_FREE: 9663676416,
        catalog.GPU_MEMORY_RESERVED: 756023296,
        catalog.GPU_POWER: 412.5,
        catalog.GPU_POWER_LIMIT: 700.0,
        catalog.GPU_ENERGY: pytest.approx(123456.789),
        catalog.GPU_TEMPERATURE: 54,
        catalog.GPU_MEMORY_TEMPERATURE: 61,
        catalog.GPU_SM_CLOCK: 1.98e9,
        catalog.GPU_MEMORY_CLOCK: 3.201e9,
        catalog.GPU_GRAPHICS_ACTIVE: pytest.approx(0.915),
        catalog.GPU_SM_ACTIVE: pytest.approx(0.7325),
        catalog.GPU_TENSOR_ACTIVE: pytest.approx(0.41),
        catalog.GPU_DRAM_ACTIVE: pytest.approx(0.625),
        catalog.GPU_ROW_REMAP_PENDING: 0,
        catalog.GPU_ROW_REMAP_FAILURE: 0,
        catalog.GPU_PCIE_REPLAYS: 3,
        catalog.GPU_RECOVERY_ACTION: 0,
        catalog.GPU_LAST_XID: 0,
    }
    throttled = gpu.labelled[catalog.GPU_THROTTLED_SECONDS]
    assert {reason for reason, seconds in throttled.items() if seconds} == {
        "power_cap",
        "sw_thermal",
        "low_utilization",
    }
    assert (throttled["power_cap"], throttled["sw_thermal"]) == (pytest.approx(5), pytest.approx(0.25))
    assert gpu.labelled[catalog.GPU_ECC_ERRORS] == {"corrected": 12, "uncorrected": 0}
    assert gpu.labelled[catalog.GPU_REMAPPED_ROWS] == {"corrected": 1, "uncorrected": 0}
    assert gpu.labelled[catalog.GPU_PCIE_BYTES] == {"transmit": 9e9, "receive": 8e10}
    assert gpu.labelled[catalog.GPU_NVLINK_BYTES] == {"transmit": 1_024_000_000, "receive": 2_048_000_000}
    assert gpu.labelled[catalog.GPU_PROCESS_MEMORY] == {"4711": 139586437120}


@pytest.mark.parametrize(
    ("bits", "reasons"),
    [
        (0x1, set()),
        (0x1 | 0x4 | 0x20, {"power_cap", "sw_thermal"}),
        (0x600, {"board_limit", "reliability"}),
        (0x1000, {"other"}),
    ],
)
def test_throttle_reasons_are_bits(bits: int, reasons: set[str], h200: Replay, clock: Clock) -> None:
    """Every bit is a reason but the first, an idle GPU; a bit that nobody knew is told too."""
    h200.calls["nvmlDeviceGetCurrentClocksEventReasons(gpu0)"] = bits
    throttled = readings(NvmlReader(h200, clock=clock), clock)[A].labelled[catalog.GPU_THROTTLED]
    assert {reason for reason, on in throttled.items() if on} == reasons
    assert "hw_slowdown" in throttled


def test_names_of_the_table_exist_in_pynvml() -> None:
    """Each function, field, argument and GPM metric that the table names is one of nvidia-ml-py's."""
    functions = {call.function for call in CALLS} | {call.argument for call in CALLS if call.argument}
    gpm = {up.name for ups in names.NAMES.values() for up in ups if up.name.startswith("NVML_GPM_")}
    for name in {*functions, *(field for field, _ in FIELDS), *REASONS, *gpm}:
        assert hasattr(pynvml, name), name


def test_what_a_board_does_not_support_is_absent_and_not_asked_again(h200: Replay, clock: Clock) -> None:
    """NotSupported makes a signal absent for good, of one GPU; a passing error makes it absent once."""
    ecc = f"nvmlDeviceGetFieldValues(gpu0, {pynvml.NVML_FI_DEV_ECC_SBE_AGG_TOTAL})"
    answer = h200.calls[ecc]
    h200.calls[ecc] = {"nvmlReturn": pynvml.NVML_ERROR_NOT_SUPPORTED}
    h200.calls["nvmlDeviceGetUtilizationRates(gpu0)"] = {"error": pynvml.NVML_ERROR_NOT_SUPPORTED}
    power = h200.calls["nvmlDeviceGetPowerUsage(gpu0)"]
    h200.calls["nvmlDeviceGetPowerUsage(gpu0)"] = {"error": pynvml.NVML_ERROR_TIMEOUT}
    reader = NvmlReader(h200, clock=clock)
    first, other = reader.read().gpus
    assert not {catalog.GPU_UTILIZATION, catalog.GPU_POWER} & first.values.keys()
    assert catalog.GPU_UTILIZATION in other.values
    assert first.labelled[catalog.GPU_ECC_ERRORS] == {"uncorrected": 0}
    h200.calls[ecc], h200.calls["nvmlDeviceGetPowerUsage(gpu0)"] = answer, power
    h200.asked.clear()
    second = reader.read().gpus[0]
    assert catalog.GPU_POWER in second.values
    assert second.labelled[catalog.GPU_ECC_ERRORS] == {"uncorrected": 0}
    assert "nvmlDeviceGetUtilizationRates(gpu0)" not in h200.asked


def test_an_older_name_fills_in_where_the_newer_is_unknown(clock: Clock) -> None:
    """An old driver knows ThrottleReasons, not EventReasons, and energy as a function, not as a field."""
    calls = capture("nvml-handmade-h200.json")
    calls["nvmlDeviceGetCurrentClocksThrottleReasons(gpu0)"] = calls.pop("nvmlDeviceGetCurrentClocksEventReasons(gpu0)")
    del calls["nvmlDeviceGetTemperatureV(gpu0, 0)"]
    del calls[f"nvmlDeviceGetFieldValues(gpu0, {pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION})"]
    gpu = NvmlReader(Replay(calls), clock=clock).read().gpus[0]
    assert gpu.labelled[catalog.GPU_THROTTLED]["power_cap"]
    assert (gpu.values[catalog.GPU_TEMPERATURE], gpu.values[catalog.GPU_ENERGY]) == (54, pytest.approx(123456.789))


@pytest.mark.parametrize("error", [15, 16, 999])
@pytest.mark.parametrize("call", ["*", "nvmlDeviceGetPowerUsage", "nvmlDeviceGetHandleByIndex", "nvmlGpmSampleGet"])
def test_a_lost_gpu_is_reported_and_the_others_go_on(call: str, error: int, h200: Replay, clock: Clock) -> None:
    """A GPU that fell off the bus is named by its UUID, whichever call finds out; it comes back when it answers."""
    reader = NvmlReader(h200, clock=clock)
    reader.read()
    clock.now += 1
    before = dict(h200.calls)
    if call == "nvmlDeviceGetHandleByIndex":
        h200.calls["nvmlDeviceGetHandleByIndex(0)"] = {"error": error}
    else:
        h200.fail(call, "gpu0", error)
    scrape = reader.read()
    assert [gpu.uuid for gpu in scrape.gpus] == [B]
    assert scrape.lost == {A: str(pynvml.NVMLError(error))}
    h200.calls |= before
    assert reader.read().lost == {}


def test_a_field_that_says_the_gpu_is_lost_is_believed(h200: Replay, clock: Clock) -> None:
    """The batch of fields answers value by value: GPU_IS_LOST in one is a lost GPU, UNKNOWN just no value."""
    field = f"nvmlDeviceGetFieldValues(gpu0, {pynvml.NVML_FI_DEV_MEMORY_TEMP})"
    reader = NvmlReader(h200, clock=clock)
    h200.calls[field] = {"nvmlReturn": pynvml.NVML_ERROR_UNKNOWN}
    assert catalog.GPU_MEMORY_TEMPERATURE not in reader.read().gpus[0].values
    h200.calls[field] = {"nvmlReturn": pynvml.NVML_ERROR_GPU_IS_LOST}
    assert reader.read().lost.keys() == {A}


def test_a_gpu_that_vanishes_shifts_no_series(h200: Replay, clock: Clock) -> None:
    """When NVML renumbers the rest, they keep the index they were first seen with, and the missing one is told."""
    reader, calls = NvmlReader(h200, clock=clock), RollCall()
    calls.check(reader.read())
    h200.calls["nvmlDeviceGetCount()"] = 1
    h200.calls["nvmlDeviceGetHandleByIndex(0)"] = {"handle": "gpu1"}
    scrape = calls.check(reader.read())
    assert [(gpu.uuid, gpu.index) for gpu in scrape.gpus] == [(B, "1")]
    assert scrape.lost == {A: "gone"}
    h200.calls["nvmlDeviceGetHandleByIndex(0)"] = {"error": 15}
    with pytest.raises(SourceError, match=B):  # the index 0 is now this one's
        reader.read()


@pytest.mark.parametrize("error", [12, 9, 18], ids=["no library", "no driver", "mismatch"])
def test_no_driver_is_an_error_until_there_is_one(error: int, h200: Replay, clock: Clock) -> None:
    """A driver that is missing or was exchanged under us says what to do, and is tried again, less and less often."""
    h200.calls["nvmlInit()"] = {"error": error}
    reader = NvmlReader(h200, clock=clock)
    said = str(pynvml.NVMLError(error)).split("/")[0]
    for _ in range(600):
        with pytest.raises(SourceError, match=f"{said}.*--gpu none"):
            reader.read()
        clock.now += 1
    assert 10 <= h200.asked.count("nvmlInit()") <= 20
    h200.calls["nvmlInit()"] = None
    clock.now += 60
    assert len(reader.read().gpus) == 2


def test_a_driver_that_is_reloaded_is_started_anew(h200: Replay, clock: Clock) -> None:
    """Uninitialized in the middle ends the session; the next one begins with everything forgotten."""
    reader = NvmlReader(h200, clock=clock)
    reader.read()
    h200.calls["nvmlDeviceGetCount()"] = {"error": pynvml.NVML_ERROR_UNINITIALIZED}
    with pytest.raises(SourceError, match="Uninitialized"):
        reader.read()
    assert "nvmlShutdown()" in h200.asked
    h200.calls["nvmlDeviceGetCount()"] = 2
    clock.now += 1
    assert catalog.GPU_SM_ACTIVE not in reader.read().gpus[0].values  # samples do not outlive the driver


def test_no_gpu_is_a_failure(h200: Replay, clock: Clock) -> None:
    """Zero visible GPUs is a broken device mount, not an idle machine; and the library must begin anew to see more."""
    h200.calls["nvmlDeviceGetCount()"] = 0
    reader = NvmlReader(h200, clock=clock)
    with pytest.raises(SourceError, match="NVML: 0 GPUs: give the container access"):
        reader.read()
    h200.calls["nvmlDeviceGetCount()"] = 2
    clock.now += 1
    assert len(reader.read().gpus) == 2
    assert h200.asked.count("nvmlInit()") == 2
    h200.fail("*", "gpu0", 15)
    h200.fail("*", "gpu1", 15)
    with pytest.raises(SourceError, match=f"none that answers; {A}: GPU is lost; {B}: "):
        reader.read()


def test_gpm_needs_two_samples_some_time_apart(h200: Replay, clock: Clock) -> None:
    """The first reading has no ratios; one within 100 ms repeats those it has and disturbs no sample."""
    reader = NvmlReader(h200, clock=clock)
    assert catalog.GPU_SM_ACTIVE not in reader.read().gpus[0].values
    clock.now += 0.05
    assert catalog.GPU_SM_ACTIVE not in reader.read().gpus[0].values
    clock.now += 0.06
    assert catalog.GPU_SM_ACTIVE in reader.read().gpus[0].values
    taken = h200.asked.count("nvmlGpmSampleGet(gpu0)")
    clock.now += 0.05
    assert catalog.GPU_SM_ACTIVE in reader.read().gpus[0].values
    assert h200.asked.count("nvmlGpmSampleGet(gpu0)") == taken == 2
    h200.calls["nvmlGpmMetricsGet(gpu0, 2)"] = {"nvmlReturn": 0, "value": float("nan")}
    clock.now += 1
    assert catalog.GPU_SM_ACTIVE not in reader.read().gpus[0].values


def test_mig_instances_are_gpus_of_their_own(clock: Clock) -> None:
    """Memory is the instance's; power, energy and errors stay with the board, once, however many instances it has."""
    replay = Replay(capture("nvml-handmade-a100-mig.json"))
    gpus = readings(NvmlReader(replay, clock=clock), clock)
    board, first, second = gpus.values()
    assert (first.index, second.index) == ("0:0", "0:1")
    assert first.parent == second.parent == board.uuid
    assert (first.profile, board.profile) == ("3g.20gb", "")
    assert first.values[catalog.GPU_MEMORY_USED] == 18e9
    assert second.values[catalog.GPU_MEMORY_USED] == 3e9
    assert catalog.GPU_MEMORY_USED not in board.values
    assert catalog.GPU_ENERGY in board.values
    assert catalog.GPU_ENERGY not in {**first.values, **second.values}
    assert catalog.GPU_UTILIZATION not in board.values


def test_gpm_of_an_instance_is_sampled_through_its_gpu(clock: Clock) -> None:
    """On Hopper each instance has ratios of its own, taken with the number of its GPU instance."""
    calls = capture("nvml-handmade-a100-mig.json")
    calls["nvmlGpmQueryDeviceSupport(gpu0)"] = {"version": 1, "isSupportedDevice": 1}
    for instance, percent in ((1, 80.0), (2, 20.0)):
        calls[f"nvmlGpmMigSampleGet(gpu0, {instance})"] = None
        calls[f"nvmlGpmMetricsGet(gpu0/gi{instance}, 2)"] = {"nvmlReturn": 0, "value": percent}
    gpus = readings(NvmlReader(Replay(calls), clock=clock), clock)
    busy = [gpu.values.get(catalog.GPU_SM_ACTIVE) for gpu in gpus.values()]
    assert busy == [None, pytest.approx(0.8), pytest.approx(0.2)]


def test_the_same_xid_twice_is_counted_twice(h200: Replay, clock: Clock) -> None:
    """Events are counted per GPU and code with the time of the last, whoever scrapes, and a lost GPU's count too."""
    reader = NvmlReader(h200, clock=clock, wall=lambda: 1_700_000_000.0)
    reader.read()
    for event in (("gpu0", 79), ("gpu0", 79), 15, ("gpu0", 31), ("gpu1", 94)):
        h200.events.put(event)

    def scraped() -> dict[str, GpuReading]:
        return {gpu.uuid: gpu for gpu in reader.read().gpus}

    wait_for(lambda: scraped()[B].values[catalog.GPU_LAST_XID] == 94)
    first, second = scraped()[A], scraped()[B]
    assert first.labelled[catalog.GPU_XID_ERRORS] == {"79": 2, "31": 1}
    assert first.labelled[catalog.GPU_XID_LAST_SEEN] == {"79": 1.7e9, "31": 1.7e9}
    assert first.values[catalog.GPU_LAST_XID] == 31
    assert second.labelled[catalog.GPU_XID_ERRORS] == {"94": 1}


def test_a_gpu_lost_by_an_xid_still_tells_which(h200: Replay, clock: Clock) -> None:
    """Its errors, and nothing else of it, stay on the page: also of the only GPU that there is."""
    reader = NvmlReader(h200, clock=clock)
    reader.read()
    h200.events.put(("gpu0", 79))
    wait_for(lambda: reader.read().gpus[0].values[catalog.GPU_LAST_XID] == 79)
    for gpu in ("gpu0", "gpu1"):
        h200.fail("*", gpu, pynvml.NVML_ERROR_GPU_IS_LOST)
    scrape = reader.read()
    assert scrape.lost.keys() == {A, B}
    assert [(gpu.uuid, gpu.index, gpu.values) for gpu in scrape.gpus] == [(A, "0", {catalog.GPU_LAST_XID: 79})]
    assert scrape.gpus[0].labelled[catalog.GPU_XID_ERRORS] == {"79": 1}


def test_xids_are_absent_where_events_are_not_allowed(h200: Replay, clock: Clock) -> None:
    """Without the right to register, there is no zero that would claim there were no errors."""
    h200.calls["nvmlDeviceRegisterEvents(gpu0, 8, events)"] = {"error": pynvml.NVML_ERROR_NO_PERMISSION}
    first, second = NvmlReader(h200, clock=clock).read().gpus
    assert catalog.GPU_LAST_XID not in first.values
    assert second.values[catalog.GPU_LAST_XID] == 0


def test_xid_counts_outlive_the_driver(h200: Replay, clock: Clock) -> None:
    """A reload of the driver, which often follows an XID, does not reset its counter."""
    reader = NvmlReader(h200, clock=clock)
    reader.read()
    h200.events.put(("gpu0", 48))
    wait_for(lambda: reader.read().gpus[0].values[catalog.GPU_LAST_XID] == 48)
    h200.calls["nvmlDeviceGetCount()"] = {"error": pynvml.NVML_ERROR_UNINITIALIZED}
    with pytest.raises(SourceError):
        reader.read()
    h200.calls["nvmlDeviceGetCount()"] = 2
    clock.now += 1
    assert reader.read().gpus[0].labelled[catalog.GPU_XID_ERRORS] == {"48": 1}


def test_gpus_that_are_not_ours_are_not_asked(h200: Replay, clock: Clock) -> None:
    """With --gpu-uuids the other GPUs' drivers are left in peace: they may hang for all we know."""
    ours = Wanted((B,), "--gpu-uuids")
    assert [gpu.uuid for gpu in NvmlReader(h200, ours, clock).read().gpus] == [B]
    assert "nvmlDeviceGetPowerUsage(gpu0)" not in h200.asked
    with pytest.raises(SourceError, match="none of its 2 GPUs is one that --gpu-uuids names"):
        NvmlReader(h200, Wanted(("GPU-x",), "--gpu-uuids"), clock).read()


def test_a_reading_is_a_handful_of_driver_calls(h200: Replay, clock: Clock) -> None:
    """One call fetches all fields, nothing that cannot change is asked twice, and the slow PCIe call never."""
    reader = NvmlReader(h200, clock=clock)
    reader.read()
    h200.asked.clear()
    clock.now += 1
    reader.read()
    of_first = [call for call in h200.asked if "(gpu0" in call]
    assert len(of_first) <= 16
    assert of_first.count("nvmlDeviceGetFieldValues(gpu0)") == 1
    assert not [call for call in h200.asked if "PcieThroughput" in call]


@pytest.mark.parametrize("name", ["nvml-handmade-h200.json", "nvml-handmade-a100-mig.json"])
def test_a_recording_replays_to_the_same_readings(name: str, clock: Clock) -> None:
    """What record_nvml.py writes of a driver is enough for the reader to find all that it found there."""

    def found(replay: Replay) -> dict[str, GpuReading]:
        return readings(NvmlReader(replay, clock=clock, wall=lambda: 0.0), clock)

    original = Replay(capture(name))
    recorded = record(original, sleep=time.sleep)
    assert found(Replay(recorded)) == found(Replay(capture(name)))
    assert not {call for call in recorded if "PcieThroughput" in call}


def test_a_wedged_call_hangs_no_xid_and_no_second_reader(h200: Replay, clock: Clock) -> None:
    """While one driver call never returns, events go on being counted, and a later reading finds them."""
    reader, release, results = NvmlReader(h200, clock=clock), threading.Event(), list[GpuScrape]()
    reader.read()
    wedged = h200.handle  # called for the first GPU's handle

    def hang(name: str, kind: object = pynvml.c_nvmlDevice_t) -> object:
        if threading.current_thread().name == "wedged":
            assert release.wait(10)
        return wedged(name, kind)

    h200.handle = hang  # type: ignore[method-assign]
    thread = threading.Thread(target=lambda: results.append(reader.read()), name="wedged")
    thread.start()
    h200.events.put(("gpu0", 63))
    wait_for(h200.events.empty)
    assert not results
    release.set()
    thread.join()
    wait_for(lambda: reader.read().gpus[0].values[catalog.GPU_LAST_XID] == 63)
