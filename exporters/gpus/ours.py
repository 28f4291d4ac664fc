"""Which of the GPUs that a source shows are ours, and which of those are missing."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from exporters.model import GpuReading, GpuScrape, SourceError


@dataclass(frozen=True, slots=True)
class Wanted:
    """GPUs named by UUID (its beginning will do) or index; `origin` is where they were named."""

    ids: tuple[str, ...]
    origin: str

    def holds(self, gpu: GpuReading) -> bool:
        """Whether the GPU is named, or the one that it is cut from."""
        of_parent = gpu.index.partition(":")[0]
        return self.names(gpu.uuid, gpu.index) or (bool(gpu.parent) and self.names(gpu.parent, of_parent))

    def names(self, uuid: str, index: str) -> bool:
        """Whether one of the ids is this UUID or index."""
        return any(
            one in (uuid, index) or (one.startswith(("GPU-", "MIG-")) and uuid.startswith(one)) for one in self.ids
        )

    def may_hold(self, uuid: str, index: str) -> bool:
        """Whether this GPU, or a MIG instance on it, may be named."""
        on_it = any(one.startswith(("MIG-", f"{index}:", f"{uuid}/")) for one in self.ids)
        return on_it or self.names(uuid, index)


def wanted(flag: str | None, env: Mapping[str, str], of_node: bool) -> Wanted | None:
    """The GPUs that the user or the container runtime names; None when nothing does.

    `of_node` is for sources that show the whole node: in a container NVML shows, renumbered, only what
    NVIDIA_VISIBLE_DEVICES lets through, so that the indexes in it mean nothing there.
    """
    if flag:
        return Wanted(_ids(flag, indexes=True), "--gpu-uuids")
    for name, indexes in (("CUDA_VISIBLE_DEVICES", True), ("NVIDIA_VISIBLE_DEVICES", of_node)):
        if ids := _ids(env.get(name, ""), indexes):
            return Wanted(ids, name)
    return None


class RollCall:
    """Leaves the GPUs that are ours, and names those that were there before and are not any more."""

    def __init__(self, ours: Wanted | None = None) -> None:
        self._ours = ours
        self._seen: set[str] = set()

    def check(self, scrape: GpuScrape) -> GpuScrape:
        """Raises SourceError when there are GPUs and none is ours."""
        gpus = tuple(self._of_us(scrape.gpus))
        if scrape.gpus and not gpus and self._ours:
            there = ", ".join(gpu.uuid for gpu in scrape.gpus)
            raise SourceError(f"none of the GPUs that {self._ours.origin} names is here ({there} are)")
        here = {gpu.uuid for gpu in gpus}
        gone = self._seen - here - scrape.lost.keys()
        self._seen |= here
        lost = {uuid: why for uuid, why in scrape.lost.items() if self._ours is None or uuid in self._seen}
        return replace(scrape, gpus=gpus, lost=lost | dict.fromkeys(sorted(gone), "gone"))

    def _of_us(self, gpus: Iterable[GpuReading]) -> list[GpuReading]:
        gpus = list(gpus)
        kept = {gpu.uuid for gpu in gpus if self._ours is None or self._ours.holds(gpu)}
        boards = {gpu.parent for gpu in gpus if gpu.uuid in kept}
        return [gpu for gpu in gpus if gpu.uuid in kept | boards]


def _ids(text: str, indexes: bool) -> tuple[str, ...]:
    """The ids in a comma-separated list; `all`, `none`, `void`, -1 and paths are none."""
    parts = (part.strip() for part in text.split(","))
    return tuple(part for part in parts if _is_id(part) and (indexes or not part.replace(":", "").isdigit()))


def _is_id(part: str) -> bool:
    return bool(part) and part not in ("all", "none", "void", "-1") and not part.startswith("/")
