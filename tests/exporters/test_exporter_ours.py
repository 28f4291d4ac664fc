"""Which GPUs are ours: named by a flag or a variable, whole or in instances, and missed when they vanish."""

import pytest

from exporters.gpus.ours import RollCall, Wanted, wanted
from exporters.model import GpuReading, GpuScrape, SourceError

BOARD, OTHER = GpuReading(uuid="GPU-aaaa", index="0"), GpuReading(uuid="GPU-bbbb", index="1")
FIRST = GpuReading(uuid="MIG-1111", index="0:0", parent="GPU-aaaa")
SECOND = GpuReading(uuid="MIG-2222", index="0:1", parent="GPU-aaaa")
NODE = GpuScrape((BOARD, FIRST, SECOND, OTHER))


@pytest.mark.parametrize(
    ("flag", "env", "of_node", "ids"),
    [
        ("GPU-b, 0", {"CUDA_VISIBLE_DEVICES": "3"}, True, ("GPU-b", "0")),
        (None, {"CUDA_VISIBLE_DEVICES": "1", "NVIDIA_VISIBLE_DEVICES": "GPU-a"}, True, ("1",)),
        (None, {"NVIDIA_VISIBLE_DEVICES": "GPU-a,MIG-b"}, False, ("GPU-a", "MIG-b")),
        (None, {"NVIDIA_VISIBLE_DEVICES": "2,0:1"}, True, ("2", "0:1")),
        (None, {"NVIDIA_VISIBLE_DEVICES": "2,0:1"}, False, None),  # the runtime has renumbered them
        (None, {"NVIDIA_VISIBLE_DEVICES": "all"}, True, None),
        (None, {"NVIDIA_VISIBLE_DEVICES": "void", "CUDA_VISIBLE_DEVICES": "-1"}, True, None),
        (None, {"NVIDIA_VISIBLE_DEVICES": "/var/run/nvidia-container-devices"}, True, None),
        (None, {"NVIDIA_VISIBLE_DEVICES": "", "CUDA_VISIBLE_DEVICES": ","}, True, None),
        (None, {}, True, None),
    ],
)
def test_where_gpus_are_named(
    flag: str | None, env: dict[str, str], of_node: bool, ids: tuple[str, ...] | None
) -> None:
    """The flag goes before CUDA's variable and that before the runtime's; all, none, void and paths name nothing."""
    ours = wanted(flag, env, of_node)
    assert (ours and ours.ids) == ids


@pytest.mark.parametrize(
    ("ids", "kept"),
    [
        (("GPU-bb",), [OTHER]),
        (("1",), [OTHER]),
        (("GPU-aaaa",), [BOARD, FIRST, SECOND]),
        (("0",), [BOARD, FIRST, SECOND]),
        (("MIG-2222",), [BOARD, SECOND]),
        (("0:0", "1"), [BOARD, FIRST, OTHER]),
    ],
)
def test_named_gpus_are_kept(ids: tuple[str, ...], kept: list[GpuReading]) -> None:
    """By the beginning of a UUID or by index; an instance comes with its board, a board with its instances."""
    assert list(RollCall(Wanted(ids, "--gpu-uuids")).check(NODE).gpus) == kept
    asked = {gpu.uuid for gpu in (BOARD, OTHER) if Wanted(ids, "").may_hold(gpu.uuid, gpu.index)}
    assert {gpu.uuid for gpu in kept if not gpu.parent} <= asked


def test_none_of_the_named_is_here() -> None:
    """A name that fits nothing is an error that shows what there is."""
    with pytest.raises(SourceError, match=r"none of the GPUs that --gpu-uuids names is here .*GPU-bbbb are"):
        RollCall(Wanted(("GPU-zzzz",), "--gpu-uuids")).check(NODE)


def test_a_gpu_that_vanishes_from_a_page_is_missed_until_it_is_back() -> None:
    """An exporter simply stops showing a GPU that fell off the bus; strangers are not missed, nor told of when lost."""
    calls = RollCall(Wanted(("0",), "--gpu-uuids"))
    calls.check(NODE)
    without = GpuScrape((BOARD, FIRST), {"GPU-bbbb": "GPU is lost"})
    assert calls.check(without).lost == {"MIG-2222": "gone"}
    assert calls.check(NODE).lost == {}
    assert calls.check(GpuScrape((FIRST,), {"GPU-aaaa": "GPU is lost"})).lost == {
        "GPU-aaaa": "GPU is lost",
        "MIG-2222": "gone",
    }
