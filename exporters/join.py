"""Which GPU serves which model."""

from collections.abc import Iterable, Iterator

from exporters.model import EngineScrape, GpuReading


def engine_gpus(engines: Iterable[EngineScrape], gpus: Iterable[GpuReading]) -> Iterator[tuple[str, str]]:
    """The (model_name, gpu_uuid) pairs: a pod's engines use the GPUs of the pod, all of them."""
    uuids = [gpu.uuid for gpu in serving(gpus)]
    for model in sorted({model for engine in engines for model in engine.models}):
        for uuid in uuids:
            yield model, uuid


def serving(gpus: Iterable[GpuReading]) -> list[GpuReading]:
    """The GPUs that do the work: of one that is cut into MIG instances, those."""
    gpus = list(gpus)
    parents = {gpu.parent for gpu in gpus}
    return [gpu for gpu in gpus if gpu.uuid not in parents]
