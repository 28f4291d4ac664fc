"""The simulated GPU's exposition, shaped like dcgm-exporter's: one label set for all fields, the older field names.

It serves dcgm-exporter's default fields, and of the others those that an owner of inference would switch on.
"""

from collections.abc import Mapping

from loadgen.simulator import gpu
from slo import catalog
from slo.gpus.table import THROTTLE_REASONS

LABELS: Mapping[str, str] = {
    "gpu": "0",
    "UUID": "GPU-51a00000-0000-0000-0000-000000000000",
    "pci_bus_id": "00000000:00:00.0",
    "device": "nvidia0",
    "modelName": "Simulated GPU",
    "Hostname": "llm-slo-simulator",
    "DCGM_FI_DRIVER_VERSION": "simulated",
}


def render(state: gpu.GpuState, clock: float = 1.0) -> str:
    """The text of /dcgm/metrics; heat holds a `clock` below 1, the share of the full one, down."""
    labels = ",".join(f'{name}="{value}"' for name, value in LABELS.items())
    return "".join(
        f"# HELP {name} {text} (simulated)\n# TYPE {name} {kind}\n{name}{{{labels}}} {value:.15g}\n"
        for name, kind, text, value in (*_catalogued(state, clock), *_others(state))
    )


def _catalogued(state: gpu.GpuState, clock: float) -> list[tuple[str, str, str, float]]:
    """The fields that the catalogue knows; their values are in its units and leave in DCGM's."""
    used = gpu.MEMORY_BYTES * gpu.MEMORY_UTILIZATION
    values = {
        catalog.GPU_UTILIZATION: round(state.utilization, 2),
        catalog.GPU_MEMORY_UTILIZATION: round(state.dram_active, 2),
        catalog.GPU_MEMORY_USED: used,
        catalog.GPU_MEMORY_FREE: gpu.MEMORY_BYTES - used,
        catalog.GPU_POWER: state.power_watts,
        catalog.GPU_POWER_LIMIT: gpu.POWER_LIMIT_WATTS,
        catalog.GPU_ENERGY: round(state.energy_joules, 3),
        catalog.GPU_TEMPERATURE: gpu.HOT_CELSIUS if clock < 1 else round(state.temperature_celsius),
        catalog.GPU_SM_CLOCK: gpu.SM_CLOCK_HERTZ * clock,
        catalog.GPU_THROTTLED: THROTTLE_REASONS["hw_thermal"] if clock < 1 else 0,
        catalog.GPU_MEMORY_CLOCK: gpu.MEMORY_CLOCK_HERTZ,
        catalog.GPU_SM_ACTIVE: state.utilization,
        catalog.GPU_TENSOR_ACTIVE: state.tensor_active,
        catalog.GPU_DRAM_ACTIVE: state.dram_active,
        catalog.GPU_PCIE_REPLAYS: 0.0,
        catalog.GPU_LAST_XID: 0.0,
    }
    fields = [(metric, metric.upstream["dcgm"][0], value) for metric, value in values.items()]
    for (metric, label), value in _by_label(state).items():
        fields.append((metric, next(f for f in metric.upstream["dcgm"] if f.label == label), value))
    return [(field.name, metric.kind, metric.help, value / field.scale) for metric, field, value in fields]


def _by_label(state: gpu.GpuState) -> dict[tuple[catalog.Metric, str], float]:
    """The families that DCGM splits into a field for each value of a label."""
    return {
        # Tokens are few bytes: a busy GPU exchanges the inputs and outputs of its steps with the host. Not measured.
        (catalog.GPU_PCIE_RATE, "transmit"): 60e6 * state.utilization,
        (catalog.GPU_PCIE_RATE, "receive"): 90e6 * state.utilization,
        # A single GPU has no peer to talk to, and a simulated one no memory to wear out.
        (catalog.GPU_NVLINK_RATE, "transmit"): 0.0,
        (catalog.GPU_NVLINK_RATE, "receive"): 0.0,
        (catalog.GPU_ECC_ERRORS, "corrected"): 0.0,
        (catalog.GPU_ECC_ERRORS, "uncorrected"): 0.0,
        (catalog.GPU_REMAPPED_ROWS, "corrected"): 0.0,
        (catalog.GPU_REMAPPED_ROWS, "uncorrected"): 0.0,
    }


def _others(state: gpu.GpuState) -> list[tuple[str, str, str, float]]:
    return [
        ("DCGM_FI_DEV_MEMORY_TEMP", "gauge", "Temperature of the memory.", round(state.temperature_celsius) + 8),
        ("DCGM_FI_DEV_POWER_MGMT_LIMIT", "gauge", "Power limit in W.", gpu.POWER_LIMIT_WATTS),
    ]
