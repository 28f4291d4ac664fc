"""What the GPUs do, draw and suffer, and which model they do it for."""

from slo import catalog
from slo.boards import common
from slo.boards.common import INTERVAL, gauge, gpu_rate, link, of_models, rate, ratio, series
from slo.boards.layout import Dashboard, Row
from slo.boards.panel import Column, Label, Panel, Target, Text
from slo.boards.panels import stat, state_timeline, table, timeseries
from slo.catalog import Metric

_LEGEND = "{{instance}} GPU {{gpu}}"
_HOT = 90
_TEMPERATURE_COLORS = ((None, "green"), (80, "orange"), (_HOT, "red"))


def board() -> Dashboard:
    """The GPU board."""
    return common.dashboard(
        "gpu",
        "GPU",
        "What the GPUs do, draw and suffer, and which model they do it for. The model filter acts on the panels "
        "that name models; a GPU without one shows in all others.",
        Row("Now", _now()),
        Row("Models on these GPUs", (_models(),)),
        Row("Work", _work()),
        Row("Power and energy", _power()),
        Row("Health", _health()),
        Row("Links and errors", (*_links(), *_errors())),
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
        stat("Power, all", "Power of all GPUs together.", "watt", Target(f"sum({_once(catalog.GPU_POWER)})"), width=4),
        stat(
            "Utilisation, mean",
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
            width=6,
        ),
        timeseries(
            "Energy per second",
            "Mean power from the energy counter, which misses no peak between two readings.",
            "watt",
            Target(f"rate({series(catalog.GPU_ENERGY)}[{INTERVAL}])", _LEGEND),
            width=6,
        ),
        timeseries(
            "Output tokens per joule",
            "Output tokens of a model over the energy of the GPUs it runs on.",
            "short",
            Target(_tokens_per(catalog.GPU_ENERGY), "{{model_name}}"),
            width=6,
        ),
        timeseries(
            "Output tokens per GPU-second",
            "Output tokens of a model over the time of the GPUs it runs on, used or idle.",
            "short",
            Target(_tokens_per(catalog.GPU_SECONDS), "{{model_name}}"),
            width=6,
        ),
    )


def _tokens_per(spent: Metric) -> str:
    return ratio(rate(catalog.GENERATION_TOKENS, "model_name"), of_models(gpu_rate(spent)))


def _links() -> tuple[Panel, ...]:
    return (
        _traffic("PCIe", catalog.GPU_PCIE_BYTES, catalog.GPU_PCIE_RATE, "Between GPU and host: weights, offloaded KV."),
        _traffic("NVLink", catalog.GPU_NVLINK_BYTES, catalog.GPU_NVLINK_RATE, "Between GPUs: tensor parallelism."),
        timeseries(
            "PCIe replays per second",
            "Packets sent again over PCIe: a steady rate is a bad link.",
            "cps",
            Target(f"rate({series(catalog.GPU_PCIE_REPLAYS)}[{INTERVAL}])", _LEGEND),
        ),
    )


def _traffic(link: str, counter: Metric, per_second: Metric, text: str) -> Panel:
    # Profiling fields have only a rate; a counter, where there is one, misses nothing.
    expr = f"rate({series(counter)}[{INTERVAL}]) or on (instance, gpu_uuid, direction) {series(per_second)}"
    return timeseries(f"{link} traffic", text, "Bps", Target(expr, f"{_LEGEND} {{{{direction}}}}"))


def _errors() -> tuple[Panel, ...]:
    return (
        timeseries(
            "Memory errors (ECC)",
            "New errors per minute. Corrected ones wear the spare rows; an uncorrected one ends the work it hit.",
            "none",
            Target(f"60 * rate({series(catalog.GPU_ECC_ERRORS)}[{INTERVAL}])", f"{_LEGEND} {{{{type}}}}"),
            width=12,
        ),
        state_timeline(
            "Last XID",
            "Code of the last error the driver reported. It stays until the next one or until the driver is reloaded.",
            "prefix:XID ",
            _per_gpu(catalog.GPU_LAST_XID),
            thresholds=((None, "green"), (1, "red")),
            texts=(Text(0, "none", "green"),),
        ),
    )


def _health() -> tuple[Panel, ...]:
    return (
        timeseries(
            "Temperature",
            "Temperature of the GPU. Above the dashed line it is about to slow itself down.",
            "celsius",
            _per_gpu(catalog.GPU_TEMPERATURE),
            limits=(_HOT,),
        ),
        timeseries(
            "Clocks",
            "Clocks of the multiprocessors and of the memory. A drop under load is throttling.",
            "hertz",
            _per_gpu(catalog.GPU_SM_CLOCK, "SM"),
            _per_gpu(catalog.GPU_MEMORY_CLOCK, "memory"),
        ),
        _throttling(),
    )


def _throttling() -> Panel:
    # DCGM's default fields say nothing of throttling: a GPU that is read through them must not look healthy.
    unknown = f'label_replace({series(catalog.GPU_POWER)} * 0 - 1, "reason", "any reason", "", "")'
    return state_timeline(
        "Throttling",
        "Whether the clocks are held down, by reason. Known where the sidecar reads the GPU through NVML.",
        "none",
        Target(f"{series(catalog.GPU_THROTTLED)} or on (instance, gpu_uuid) {unknown}", f"{_LEGEND} {{{{reason}}}}"),
        width=8,
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
