"""Which GPU serves which model."""

from collections.abc import Iterable, Iterator
from itertools import product

from exporters.model import GpuReading


def engine_gpus(models: Iterable[str], gpus: Iterable[GpuReading]) -> Iterator[tuple[str, str]]:
    """The (model_name, gpu_uuid) pairs: a pod's engines use the GPUs of the pod, all of them."""
    return product(models, [gpu.uuid for gpu in serving(gpus)])


def serving(gpus: Iterable[GpuReading]) -> list[GpuReading]:
    """The GPUs that do the work: of one that is cut into MIG instances, those."""
    gpus = list(gpus)
    parents = {gpu.parent for gpu in gpus}
    return [gpu for gpu in gpus if gpu.uuid not in parents]
