"""dcgm-exporter's pages, old and new spelling -> GPU readings."""

from pathlib import Path

import pytest

from exporters import dcgm
from exporters.model import GpuReading, SourceError
from slo import catalog

HANDWRITTEN = Path(__file__).parent / "handwritten"
OLD = (HANDWRITTEN / "dcgm-4.5.txt").read_bytes()
NEW = (HANDWRITTEN / "dcgm-4.6.txt").read_bytes()


def read(page: bytes, pod: dcgm.Pod | None = None) -> dict[str, GpuReading]:
    return {gpu.uuid: gpu for gpu in dcgm.parse(page, pod).gpus}


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


@pytest.mark.parametrize("page", [OLD, NEW], ids=["pod", "exported_pod"])
def test_only_the_own_pods_gpus_are_kept(page: bytes) -> None:
    """Where rows say which pod uses a GPU, the other pods' GPUs are not ours."""
    assert read(page, dcgm.Pod("chat-0", "prod")).keys() == {"GPU-aaaa"}


def test_own_pod_matters_only_where_rows_name_pods() -> None:
    """Without pod labels (dcgm-exporter outside Kubernetes) every GPU is kept."""
    page = b'DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-cccc"} 5\n'
    assert read(page, dcgm.Pod("chat-0", "prod")).keys() == {"GPU-cccc"}


@pytest.mark.parametrize(
    ("page", "pod", "said"),
    [
        (OLD, dcgm.Pod("chat-0", "test"), "no GPU of this node is in use by pod test/chat-0"),
        (b"vllm:num_requests_running 1\n", None, "without any DCGM field: point --dcgm-url"),
        (b"<html>\n", None, "no sample line: '<html>'"),
        (b"", None, "an empty page"),
        (OLD[:-4], None, "cut short"),
    ],
)
def test_pages_without_a_usable_gpu_are_refused(page: bytes, pod: dcgm.Pod | None, said: str) -> None:
    """No GPU is a failure that says why, never an empty success."""
    with pytest.raises(SourceError, match=said):
        dcgm.parse(page, pod)
