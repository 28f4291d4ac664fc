"""The sources of GPU telemetry: one table each, from the catalogue's families to the source's names for them."""

from collections.abc import Mapping

from slo.gpus import amd, dcgm, gaudi, intel, nvml
from slo.metric import Upstream

GPU_SOURCES: Mapping[str, Mapping[str, tuple[Upstream, ...]]] = {
    "nvml": nvml.NAMES,
    "dcgm": dcgm.NAMES,
    "amd": amd.NAMES,
    "gaudi": gaudi.NAMES,
    "intel": intel.NAMES,
}
