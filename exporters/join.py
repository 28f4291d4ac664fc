"""Which GPU serves which model."""

from collections.abc import Iterable, Iterator

from exporters.model import EngineScrape, GpuReading


def engine_gpus(engines: Iterable[EngineScrape], gpus: Iterable[GpuReading]) -> Iterator[tuple[str, str]]:
    """The (model_name, gpu_uuid) pairs: a pod's engines use the GPUs of the pod, all of them."""
    uuids = [gpu.uuid for gpu in gpus]
    for model in sorted({model for engine in engines for model in engine.models}):
        for uuid in uuids:
            yield model, uuid
