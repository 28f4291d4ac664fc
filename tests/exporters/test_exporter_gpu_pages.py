"""The pages of GPU exporters, every spelling of them -> GPU readings."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.gpus.pages import EXPORTERS, Pod, parse
from exporters.join import serving
from exporters.model import GpuReading, SourceError
from slo import catalog
from slo.gpus import GPU_SOURCES

HANDWRITTEN = Path(__file__).parent / "handwritten"
OLD = (HANDWRITTEN / "dcgm-4.5.txt").read_bytes()
NEW = (HANDWRITTEN / "dcgm-4.6.txt").read_bytes()
MIG = (HANDWRITTEN / "dcgm-mig.txt").read_bytes()
AMD = (HANDWRITTEN / "amd-1.5.txt").read_bytes()
INTEL = (HANDWRITTEN / "intel-xpumd-2.txt").read_bytes()
GAUDI = (HANDWRITTEN / "gaudi-1.23.txt").read_bytes()
CHAT = Pod("chat-0", "prod")


def read(page: bytes, pod: Pod | None = None, kind: str = "dcgm") -> dict[str, GpuReading]:
    return {gpu.uuid: gpu for gpu in parse(page, EXPORTERS[kind], pod).gpus}


def test_values_come_in_base_units_and_blanks_not_at_all() -> None:
    """Percent, MiB and mJ become ratio, bytes and joules; DCGM's marks for 'no value' become absence."""
    gpus = read(OLD)
    first = gpus["GPU-aaaa"]
    assert (first.index, first.name, first.driver) == ("0", "NVIDIA H100", "550.1")
    assert first.values == {
        catalog.GPU_UTILIZATION: pytest.approx(0.87),
        catalog.GPU_MEMORY_USED: 2 * 1024**3,
        catalog.GPU_ENERGY: pytest.approx(123456.789),
        catalog.GPU_LAST_XID: 79,
    }
    assert gpus["GPU-bbbb"].values.keys() == {catalog.GPU_UTILIZATION, catalog.GPU_MEMORY_USED}


def test_renamed_fields_and_labels_are_the_same_readings() -> None:
    """DCGM 4.6 spellings, hostname, gpu_uuid and model_name are read alike; its GPU_UTIL_RATIO counts to 100."""
    gpus = read(NEW)
    assert gpus.keys() == {"GPU-aaaa", "GPU-bbbb"}
    assert gpus["GPU-bbbb"].name == "NVIDIA H100"
    values = gpus["GPU-aaaa"].values
    assert values[catalog.GPU_UTILIZATION] == pytest.approx(0.87)
    assert values[catalog.GPU_POWER] == 412.5
    assert values[catalog.GPU_POWER_LIMIT] == 600
    assert values[catalog.GPU_SM_ACTIVE] == 0.5


RENAMED = {
    "DCGM_FI_DEV_POWER_USAGE": "DCGM_FI_DEV_BOARD_POWER_WATTS",
    "DCGM_FI_DEV_GPU_TEMP": "DCGM_FI_DEV_GPU_TEMP_CELSIUS",
    "DCGM_FI_DEV_MEMORY_TEMP": "DCGM_FI_DEV_MEMORY_TEMP_CELSIUS",
    "DCGM_FI_DEV_XID_ERRORS": "DCGM_FI_DEV_XID_ERROR",
    "DCGM_FI_DEV_PCIE_REPLAY_COUNTER": "DCGM_FI_DEV_PCIE_REPLAY_TOTAL",
    "DCGM_FI_DEV_ENFORCED_POWER_LIMIT": "DCGM_FI_DEV_BOARD_POWER_LIMIT_ENFORCED_WATTS",
    "DCGM_FI_DEV_POWER_MGMT_LIMIT": "DCGM_FI_DEV_BOARD_POWER_LIMIT_REQUESTED_WATTS",
    "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": "DCGM_FI_DEV_ROW_REMAP_UNCORRECTABLE_TOTAL",
    "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS": "DCGM_FI_DEV_ROW_REMAP_CORRECTABLE_TOTAL",
    "DCGM_FI_DEV_ROW_REMAP_FAILURE": "DCGM_FI_DEV_ROW_REMAP_FAILED",
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE": "DCGM_FI_PROF_GR_ENGINE_UTIL_RATIO",
    "DCGM_FI_PROF_SM_ACTIVE": "DCGM_FI_PROF_SM_UTIL_RATIO",
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": "DCGM_FI_PROF_TENSOR_UTIL_RATIO",
    "DCGM_FI_PROF_DRAM_ACTIVE": "DCGM_FI_PROF_DRAM_UTIL_RATIO",
}


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_both_names_of_a_field_are_one_value(old: str, new: str) -> None:
    """A page may have the old name, the new one, or both of them: the reading is the same, and not twice as much."""
    row = '{gpu="0",UUID="GPU-a"} 1\n'
    assert read((old + row).encode()) == read((new + row).encode()) == read((new + row + old + row).encode())
    assert len(read((old + row).encode())["GPU-a"].values) + len(read((old + row).encode())["GPU-a"].labelled) == 1


def test_violations_and_rates_have_labels_and_seconds() -> None:
    """Nanoseconds of a violation become seconds per reason; rates have a direction, and NVLink labels of its own."""
    page = b"""DCGM_FI_DEV_POWER_VIOLATION{gpu="0",UUID="GPU-a"} 5e9
DCGM_FI_DEV_ECC_DBE_VOL_TOTAL{gpu="0",UUID="GPU-a"} 1
DCGM_FI_PROF_PCIE_TX_BYTES{gpu="0",UUID="GPU-a"} 7
DCGM_FI_PROF_NVLINK_RX_BYTES{gpu="0",nvlink="3",gpu_uuid="GPU-a",model_name="H100"} 8
"""
    (gpu,) = read(page).values()
    assert gpu.labelled == {
        catalog.GPU_THROTTLED_SECONDS: {"power_cap": pytest.approx(5)},
        catalog.GPU_ECC_ERRORS: {"uncorrected": 1},
        catalog.GPU_PCIE_RATE: {"transmit": 7},
        catalog.GPU_NVLINK_RATE: {"receive": 8},
    }
    assert gpu.name == "H100"


@pytest.mark.parametrize("page", [OLD, NEW], ids=["pod", "exported_pod"])
def test_only_the_own_pods_gpus_are_kept(page: bytes) -> None:
    """Where rows say which pod uses a GPU, the other pods' GPUs are not ours, nor are those of no pod."""
    idle = b'DCGM_FI_DEV_GPU_UTIL{gpu="2",UUID="GPU-cccc"} 5\n'
    assert read(page + idle, CHAT).keys() == {"GPU-aaaa"}


def test_a_node_of_several_gpus_must_say_whose_they_are() -> None:
    """Without pod labels one GPU can only be ours; of several, none is taken for ours. Outside Kubernetes all are."""
    one, two = (f'DCGM_FI_DEV_GPU_UTIL{{gpu="{n}",UUID="GPU-{n}"}} 5\n'.encode() for n in (0, 1))
    assert read(one, CHAT).keys() == {"GPU-0"}
    with pytest.raises(SourceError, match=r"no row says which pod uses which.*--gpu-uuids"):
        read(one + two, CHAT)
    assert read(one + two).keys() == {"GPU-0", "GPU-1"}


def test_a_shared_gpu_is_one_gpu() -> None:
    """Time-slicing repeats a GPU's rows for every pod on it, and for every replica: ours count once."""
    rows = "".join(
        f'DCGM_FI_DEV_POWER_USAGE{{gpu="0",UUID="GPU-a",vgpu="{n}",namespace="prod",pod="{pod}"}} 300\n'
        for n, pod in enumerate(("chat-0", "batch-0", "chat-0"))
    )
    (gpu,) = read(rows.encode(), CHAT).values()
    assert gpu.values == {catalog.GPU_POWER: 300}


def test_mig_instances_have_their_own_series_and_the_board_its_own() -> None:
    """Each instance of the pod is a GPU; the energy that all of them repeat is the board's, once."""
    gpus = read(MIG, CHAT)
    assert gpus.keys() == {"GPU-aaaa", "GPU-aaaa/gi3", "GPU-aaaa/gi5"}
    first = gpus["GPU-aaaa/gi3"]
    assert (first.parent, first.profile, first.name, first.index) == ("GPU-aaaa", "2g.20gb", "NVIDIA A100", "0")
    assert first.values == {catalog.GPU_MEMORY_USED: 1000 * 1024**2, catalog.GPU_GRAPHICS_ACTIVE: 0.5}
    assert gpus["GPU-aaaa"].values == {catalog.GPU_ENERGY: pytest.approx(257858.316)}
    assert {gpu.uuid for gpu in serving(gpus.values())} == {"GPU-aaaa/gi3", "GPU-aaaa/gi5"}


def test_amd() -> None:
    """Names with or without the prefix amd_, MB, uJ, a clock per type; the newer power sensor goes first."""
    gpu = read(AMD, CHAT, "amd")["SN-0"]
    assert (gpu.index, gpu.name) == ("0", "Instinct MI300X")
    assert gpu.values == {
        catalog.GPU_UTILIZATION: pytest.approx(0.87),
        catalog.GPU_MEMORY_UTILIZATION: pytest.approx(0.35),
        catalog.GPU_MEMORY_USED: 183265 * 1024**2,
        catalog.GPU_MEMORY_FREE: 13327 * 1024**2,
        catalog.GPU_POWER: 748,
        catalog.GPU_ENERGY: pytest.approx(1.4e6),
        catalog.GPU_TEMPERATURE: 76,
        catalog.GPU_MEMORY_TEMPERATURE: 61,
        catalog.GPU_SM_CLOCK: 2.1e9,
        catalog.GPU_MEMORY_CLOCK: 1.292e9,
        catalog.GPU_TENSOR_ACTIVE: pytest.approx(0.4),
        catalog.GPU_PCIE_REPLAYS: 2,
    }
    assert gpu.labelled[catalog.GPU_ECC_ERRORS] == {"corrected": 4, "uncorrected": 0}
    assert read(AMD.replace(b"\namd_", b"\n"), CHAT, "amd")["SN-0"] == gpu


def test_partitions_of_an_amd_gpu_are_gpus() -> None:
    """In CPX mode partitions share the serial number and not their values; the first keeps the plain one."""
    page = "".join(
        f'gpu_used_vram{{gpu_id="{n}",serial_number="SN-0",gpu_partition_id="{n}"}} {n + 1}\n' for n in range(3)
    )
    used = {
        uuid: gpu.values[catalog.GPU_MEMORY_USED] / 1024**2 for uuid, gpu in read(page.encode(), kind="amd").items()
    }
    assert used == {"SN-0": 1, "SN-0/1": 2, "SN-0/2": 3}


def test_intel() -> None:
    """xpumd's OpenTelemetry names: the sensor of the card, the memory of the device, all engines together."""
    gpu = read(INTEL, kind="intel")["uuid-0"]
    assert (gpu.index, gpu.name) == ("0000:03:00.0", "Intel Arc Pro B60")
    assert gpu.values == {
        catalog.GPU_UTILIZATION: 0.125,
        catalog.GPU_MEMORY_USED: 8589934592,
        catalog.GPU_POWER: 31.5,
        catalog.GPU_ENERGY: 5000,
        catalog.GPU_SM_CLOCK: 9.6e8,
        catalog.GPU_TEMPERATURE: 36,
        catalog.GPU_MEMORY_TEMPERATURE: 40,
    }
    assert gpu.labelled == {catalog.GPU_PCIE_BYTES: {"receive": 1000, "transmit": 2000}}


def test_gaudi() -> None:
    """Gaudi's milliwatts, millijoules and MHz."""
    (gpu,) = read(GAUDI, kind="gaudi").values()
    assert gpu.values == {
        catalog.GPU_UTILIZATION: pytest.approx(0.55),
        catalog.GPU_MEMORY_USED: 1e6,
        catalog.GPU_MEMORY_FREE: 2e6,
        catalog.GPU_POWER: 412,
        catalog.GPU_POWER_LIMIT: 600,
        catalog.GPU_ENERGY: 7,
        catalog.GPU_TEMPERATURE: 44,
        catalog.GPU_SM_CLOCK: 1.65e9,
    }


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-5", "9223372036854775794", "2147483632", "140737488355328"])
def test_what_is_no_value_is_absent(value: str) -> None:
    """Neither NaN nor a negative power nor a mark for 'no value' reaches the page; below zero it may be cold."""
    page = f'DCGM_FI_DEV_POWER_USAGE{{UUID="GPU-a"}} {value}\nDCGM_FI_DEV_GPU_TEMP{{UUID="GPU-a"}} -5\n'
    (gpu,) = read(page.encode()).values()
    assert gpu.values == {catalog.GPU_TEMPERATURE: -5}


@pytest.mark.parametrize(
    ("page", "kind", "pod", "said"),
    [
        (OLD, "dcgm", Pod("chat-0", "test"), "no GPU of this node is in use by pod test/chat-0"),
        (b"vllm:num_requests_running 1\n", "dcgm", None, r"known of dcgm: .*http://HOST:9400"),
        (OLD, "amd", None, "without any GPU metric known of amd"),
        (b"<html>\n", "dcgm", None, "no sample line: '<html>'"),
        (b"", "dcgm", None, "an empty page"),
        (OLD[:-4], "dcgm", None, "cut short"),
        (b'DCGM_FI_DEV_GPU_TEMP{UUID="GPU-a"} warm\n', "dcgm", None, "'warm' stands where a number belongs"),
        (b'DCGM_FI_DEV_GPU_TEMP{UUID="GPU-\xff"} 5\n', "dcgm", None, "codec can't decode"),
        (b"DCGM_FI_DEV_GPU_TEMP 5\n", "dcgm", None, "without any GPU metric"),
    ],
)
def test_pages_without_a_usable_gpu_are_refused(page: bytes, kind: str, pod: Pod | None, said: str) -> None:
    """No GPU is a failure that says why, never an empty success."""
    with pytest.raises(SourceError, match=said):
        parse(page, EXPORTERS[kind], pod)


LABELS = st.dictionaries(
    st.sampled_from(["UUID", "gpu_uuid", "gpu", "GPU_I_ID", "gpu_partition_id", "hw_id", "clock_type"]),
    st.sampled_from(["GPU-a", "0", "1", "", "GPU_CLOCK_TYPE_SYSTEM", r"\"\\"]),
)
OWNER = st.sampled_from(["", 'pod="chat-0",namespace="prod"', 'exported_pod="batch-0",pod="dcgm"'])
NAME = st.sampled_from([up.name for kind in EXPORTERS for ups in GPU_SOURCES[kind].values() for up in ups])
VALUE = st.one_of(st.floats().map(repr), st.sampled_from(["1e400", "0x1", "", "4294967295"]))


def line(name: str, labels: dict[str, str], owner: str, value: str) -> bytes:
    pairs = [f'{label}="{text}"' for label, text in labels.items()]
    return f"{name}{{{','.join([*pairs, *filter(None, [owner])])}}} {value}".encode()


ROWS = st.lists(st.builds(line, NAME, LABELS, OWNER, st.floats(0, 1e6).map(repr)), min_size=1, max_size=12)
NOISE = st.lists(st.one_of(st.builds(line, NAME, LABELS, OWNER, VALUE), st.binary(max_size=40)), max_size=3)
PAGE = st.tuples(ROWS, NOISE).map(lambda parts: b"\n".join(parts[0] + parts[1]))


@given(page=PAGE, kind=st.sampled_from(sorted(EXPORTERS)), pod=st.sampled_from([None, CHAT]), cut=st.integers(0, 40))
def test_any_page_is_read_or_refused(page: bytes, kind: str, pod: Pod | None, cut: int) -> None:
    """Whatever comes, whole or cut off, is readings with finite values that nobody could dispute, or SourceError."""
    for body in (page, page + b"\n", page[:-cut] + b"\n"):
        try:
            gpus = parse(body, EXPORTERS[kind], pod).gpus
        except SourceError:
            continue
        assert gpus
        assert len({gpu.uuid for gpu in gpus}) == len(gpus)
        values = [value for gpu in gpus for row in (gpu.values, *gpu.labelled.values()) for value in row.values()]
        assert all(abs(value) < float("inf") for value in values)


@pytest.mark.parametrize("name", ["DCGM_FI_DEV_CLOCK_THROTTLE_REASONS", "DCGM_FI_DEV_CLOCKS_EVENT_REASONS"])
def test_dcgms_mask_tells_the_reasons_for_throttling(name: str) -> None:
    """Every bit is a reason, as with NVML; a mask that DCGM cannot tell is no reason and no absence of one."""
    page = b'%s{gpu="0",UUID="GPU-a"} 69\n%s{gpu="1",UUID="GPU-b"} 9223372036854775792\n' % ((name.encode(),) * 2)
    gpus = read(page)
    throttled = gpus["GPU-a"].labelled[catalog.GPU_THROTTLED]
    assert {reason for reason, on in throttled.items() if on} == {"power_cap", "hw_thermal"}
    assert throttled["hw_slowdown"] == 0
    assert "GPU-b" not in gpus or catalog.GPU_THROTTLED not in gpus["GPU-b"].labelled
