"""What the GPUs do, draw and suffer, and which model they do it for."""

from slo import catalog
from slo.boards import common
from slo.boards.common import INTERVAL, gauge, gpu_watts, link, of_models, rate, ratio, series
from slo.catalog import Metric
from slo.layout import Dashboard, Row
from slo.panels import Column, Label, Panel, Target, Text, stat, state_timeline, table, timeseries

_LEGEND = "{{instance}} GPU {{gpu}}"
_TEMPERATURE_COLORS = ((None, "green"), (80, "orange"), (90, "red"))


def board() -> Dashboard:
    """The GPU board."""
    return common.dashboard(
        "gpu",
        "GPU",
        "What the GPUs do, draw and suffer, and which model they do it for. The model filter acts on the panels "
        "that name models; a GPU without one shows in all others.",
        Row("Now", _now()),
        Row("Work", _work()),
        Row("Power and energy", _power()),
        Row("Health", _health()),
        Row("Models on these GPUs", (_models(),)),
    )


def _once(metric: Metric) -> str:
    """A gauge per GPU, however many sidecars report it."""
    return gauge("max", metric, "gpu_uuid")


def _per_gpu(metric: Metric, what: str = "", dashed: bool = False) -> Target:
    return Target(series(metric), f"{what} {_LEGEND}".strip(), dashed=dashed)


def _now() -> tuple[Panel, ...]:
    used, free = (f"sum({_once(metric)})" for metric in (catalog.GPU_MEMORY_USED, catalog.GPU_MEMORY_FREE))
    return (
        stat("GPUs", "GPUs that report.", "none", Target(f"count({_once(catalog.GPU_POWER)})"), width=4),
        stat("Power", "Power of all GPUs together.", "watt", Target(f"sum({_once(catalog.GPU_POWER)})"), width=4),
        stat(
            "Utilisation",
            "Mean share of time in which a kernel ran.",
            "percentunit",
            Target(f"avg({_once(catalog.GPU_UTILIZATION)})"),
            width=4,
        ),
        stat(
            "Memory used", "Share of all device memory.", "percentunit", Target(f"{used} / ({used} + {free})"), width=4
        ),
        stat(
            "Hottest",
            "Temperature of the hottest GPU.",
            "celsius",
            Target(f"max({series(catalog.GPU_TEMPERATURE)})"),
            width=4,
            thresholds=_TEMPERATURE_COLORS,
        ),
        stat(
            "GPUs with an XID",
            "GPUs whose driver reported an error since it was loaded.",
            "none",
            Target(f"sum({_once(catalog.GPU_LAST_XID)} > bool 0)"),
            width=4,
            thresholds=((None, "green"), (1, "red")),
        ),
    )


def _work() -> tuple[Panel, ...]:
    return (
        timeseries(
            "Utilisation",
            "Share of time in which any kernel ran. One small kernel counts as much as a full GPU: see activity.",
            "percentunit",
            _per_gpu(catalog.GPU_UTILIZATION),
            maximum=1,
        ),
        timeseries(
            "SM, tensor and DRAM activity",
            "Share of cycles in which the multiprocessors, the tensor cores and the memory worked (profiling fields). "
            "Prefill is bound by tensor, decode by DRAM.",
            "percentunit",
            _per_gpu(catalog.GPU_SM_ACTIVE, "SM"),
            _per_gpu(catalog.GPU_TENSOR_ACTIVE, "tensor"),
            _per_gpu(catalog.GPU_DRAM_ACTIVE, "DRAM"),
            maximum=1,
        ),
        timeseries(
            "Memory",
            "Device memory in use; dashed, used and free together.",
            "bytes",
            _per_gpu(catalog.GPU_MEMORY_USED, "used"),
            Target(
                f"{series(catalog.GPU_MEMORY_USED)} + {series(catalog.GPU_MEMORY_FREE)}",
                f"total {_LEGEND}",
                dashed=True,
            ),
        ),
    )


def _power() -> tuple[Panel, ...]:
    return (
        timeseries(
            "Power against its limit",
            "Power draw; dashed, the limit in force. A GPU at its limit lowers its clocks.",
            "watt",
            _per_gpu(catalog.GPU_POWER),
            _per_gpu(catalog.GPU_POWER_LIMIT, "limit", dashed=True),
        ),
        timeseries(
            "Energy per second",
            "Mean power from the energy counter, which misses no peak between two readings.",
            "watt",
            Target(f"rate({series(catalog.GPU_ENERGY)}[{INTERVAL}])", _LEGEND),
        ),
        timeseries(
            "Output tokens per joule",
            "Output tokens of a model over the energy of the GPUs it runs on.",
            "short",
            Target(ratio(rate(catalog.GENERATION_TOKENS, "model_name"), of_models(gpu_watts())), "{{model_name}}"),
        ),
    )


def _health() -> tuple[Panel, ...]:
    return (
        timeseries("Temperature", "Temperature of the GPU.", "celsius", _per_gpu(catalog.GPU_TEMPERATURE)),
        timeseries(
            "Clocks",
            "Clocks of the multiprocessors and of the memory. A drop under load is throttling.",
            "hertz",
            _per_gpu(catalog.GPU_SM_CLOCK, "SM"),
            _per_gpu(catalog.GPU_MEMORY_CLOCK, "memory"),
        ),
        timeseries(
            "PCIe replays per second",
            "Packets sent again over PCIe: a steady rate is a bad link.",
            "cps",
            Target(f"rate({series(catalog.GPU_PCIE_REPLAYS)}[{INTERVAL}])", _LEGEND),
        ),
        _throttling(),
        state_timeline(
            "Last XID",
            "Code of the last error the driver reported. It stays until the next one or until the driver is reloaded.",
            "prefix:XID ",
            _per_gpu(catalog.GPU_LAST_XID),
            thresholds=((None, "green"), (1, "red")),
            texts=(Text(0, "none", "green"),),
        ),
    )


def _throttling() -> Panel:
    # DCGM's default fields say nothing of throttling: a GPU that is read through them must not look healthy.
    unknown = f"{series(catalog.GPU_POWER)} * 0 - 1"
    return state_timeline(
        "Throttling",
        "Whether the clocks are held down, by reason. Known where the sidecar reads the GPU through NVML.",
        "none",
        Target(f"{series(catalog.GPU_THROTTLED)} or on (instance, gpu_uuid) {unknown}", f"{_LEGEND} {{{{reason}}}}"),
        texts=(Text(-1, "not reported", "text"), Text(0, "no", "green"), Text(1, "throttled", "orange")),
    )


def _models() -> Panel:
    labels = (
        Label("model_name", "Model", link("engine", "model_name")),
        Label("instance", "Instance"),
        Label("gpu", "GPU"),
        Label("gpu_uuid", "UUID"),
    )
    by = ", ".join(label.name for label in labels)

    def of_model(metric: Metric) -> str:
        joined = f"on (job, instance, gpu_uuid) group_right (gpu) {series(catalog.ENGINE_GPU_INFO)}"
        return f"max by ({by}) ({series(metric)} * {joined})"

    return table(
        "GPUs by model",
        "The GPUs that serve each model, with what they do now. A GPU that serves two models has two lines.",
        labels,
        Column("Utilisation", of_model(catalog.GPU_UTILIZATION), "percentunit"),
        Column("Memory used", of_model(catalog.GPU_MEMORY_USED), "bytes"),
        Column("Power", of_model(catalog.GPU_POWER), "watt"),
        Column("Temperature", of_model(catalog.GPU_TEMPERATURE), "celsius", _TEMPERATURE_COLORS),
    )
