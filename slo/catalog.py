"""Every metric family this project emits: the single place where a name, unit, label or bucket is written.

Exporter, rules, dashboards, simulator and load generator reach a family through the constants below,
so a typo is an AttributeError and not an empty panel. A rename in an engine costs one entry in `upstream`.
Bucket bounds are vLLM's defaults (unchanged from 0.8.5 to 0.33, vllm/v1/metrics/loggers.py and buckets.py).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Upstream:
    """A name some source gives a family. `scale` turns its unit into ours; versions are the releases sampled."""

    name: str
    since: str = ""
    until: str = ""
    scale: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One family. `upstream` lists, per source, the names to look for: the newest first, and only one is used."""

    name: str
    kind: Kind
    help: str
    unit: str = ""
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = field(default=(), hash=False)
    upstream: Mapping[str, tuple[Upstream, ...]] = field(default_factory=dict, hash=False)
    otel: str = ""

    def edge(self, threshold: float) -> str:
        """The `le` text of the bucket that ends at `threshold` (in `unit`); ValueError names the nearest edges."""
        if threshold in self.buckets:
            return repr(float(threshold))
        below = [b for b in self.buckets if b < threshold][-1:]
        above = [b for b in self.buckets if b > threshold][:1]
        near = " and ".join(f"{edge:g}" for edge in below + above)
        raise ValueError(f"{threshold:g} is no bucket edge of {self.name}; the nearest are {near}")


TTFT_BUCKETS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5,
                10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0)  # fmt: skip
TOKEN_LATENCY_BUCKETS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5,
                         10.0, 20.0, 40.0, 80.0)  # fmt: skip
REQUEST_LATENCY_BUCKETS = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0,
                           120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0)  # fmt: skip
ITERATION_TOKENS_BUCKETS = tuple(float(b) for b in (1, *(2**i for i in range(3, 15))))

ENGINE_LABELS = ("model_name", "engine")
GPU_LABELS = ("gpu_uuid", "gpu")
SPAN_LABELS = ("model_name",)

_families: dict[str, Metric] = {}


def families() -> Iterator[Metric]:
    """All families, in the order they are written here."""
    return iter(_families.values())


def by_name(name: str) -> Metric:
    """The family called `name`; KeyError when the catalogue has none."""
    return _families[name]


def _add(metric: Metric) -> Metric:
    if metric.name in _families:
        raise ValueError(f"the catalogue already has {metric.name}")
    _families[metric.name] = metric
    return metric


def _engine(name: str, kind: Kind, text: str, *vllm: Upstream, unit: str = "", labels: tuple[str, ...] = (),
            buckets: tuple[float, ...] = (), otel: str = "") -> Metric:  # fmt: skip
    return _add(Metric(name=name, kind=kind, help=text, unit=unit, labels=ENGINE_LABELS + labels,
                       buckets=buckets, upstream={"vllm": vllm}, otel=otel))  # fmt: skip


def _gpu(name: str, kind: Kind, text: str, *dcgm: Upstream, unit: str = "", labels: tuple[str, ...] = (),
         otel: str = "") -> Metric:  # fmt: skip
    return _add(Metric(name=name, kind=kind, help=text, unit=unit, labels=GPU_LABELS + labels,
                       upstream={"dcgm": dcgm}, otel=otel))  # fmt: skip


def _own(name: str, kind: Kind, text: str, *labels: str, unit: str = "", buckets: tuple[float, ...] = ()) -> Metric:
    return _add(Metric(name=name, kind=kind, help=text, unit=unit, labels=labels, buckets=buckets))


# --- engine: latency ------------------------------------------------------------------------------------------------

TTFT = _engine(
    "llm_time_to_first_token_seconds", Kind.HISTOGRAM,
    "Time from arrival to the first token, queueing included. Counted at the first token, so aborted requests count.",
    Upstream("vllm:time_to_first_token_seconds", "0.5"),
    unit="s", buckets=TTFT_BUCKETS, otel="gen_ai.server.time_to_first_token",
)  # fmt: skip
TPOT = _engine(
    "llm_time_per_output_token_seconds", Kind.HISTOGRAM,
    "Per finished request: decode time / (output tokens - 1). vLLM records 0 for answers of one token.",
    Upstream("vllm:request_time_per_output_token_seconds", "0.11"),
    unit="s", buckets=TOKEN_LATENCY_BUCKETS, otel="gen_ai.server.time_per_output_token",
)  # fmt: skip
# vLLM's old time_per_output_token_seconds always held the gap between engine steps: it is ITL, never TPOT.
ITL = _engine(
    "llm_inter_token_latency_seconds", Kind.HISTOGRAM,
    "Gap between two outputs of a request, one sample per engine step.",
    Upstream("vllm:inter_token_latency_seconds", "0.10.2"),
    Upstream("vllm:time_per_output_token_seconds", "0.5", "0.14"),
    unit="s", buckets=TOKEN_LATENCY_BUCKETS,
)  # fmt: skip
E2E = _engine(
    "llm_request_duration_seconds", Kind.HISTOGRAM, "Arrival to last token of a finished request.",
    Upstream("vllm:e2e_request_latency_seconds", "0.5"),
    unit="s", buckets=REQUEST_LATENCY_BUCKETS, otel="gen_ai.server.request.duration",
)  # fmt: skip
QUEUE_TIME = _engine(
    "llm_request_queue_seconds", Kind.HISTOGRAM, "Time a request waited to be scheduled for the first time.",
    Upstream("vllm:request_queue_time_seconds", "0.6.6"), Upstream("vllm:time_in_queue_requests", "0.6.6", "0.9.0"),
    unit="s", buckets=REQUEST_LATENCY_BUCKETS,
)  # fmt: skip
PREFILL_TIME = _engine(
    "llm_request_prefill_seconds", Kind.HISTOGRAM, "First scheduling to first token.",
    Upstream("vllm:request_prefill_time_seconds", "0.6.6"), unit="s", buckets=REQUEST_LATENCY_BUCKETS,
)  # fmt: skip
DECODE_TIME = _engine(
    "llm_request_decode_seconds", Kind.HISTOGRAM, "First token to last token.",
    Upstream("vllm:request_decode_time_seconds", "0.6.6"), unit="s", buckets=REQUEST_LATENCY_BUCKETS,
)  # fmt: skip
INFERENCE_TIME = _engine(
    "llm_request_inference_seconds", Kind.HISTOGRAM, "First scheduling to last token.",
    Upstream("vllm:request_inference_time_seconds", "0.6.6"), unit="s", buckets=REQUEST_LATENCY_BUCKETS,
)  # fmt: skip

# --- engine: work ---------------------------------------------------------------------------------------------------

PROMPT_TOKENS = _engine(
    "llm_prompt_tokens_total", Kind.COUNTER, "Prompt tokens, cached ones included.",
    Upstream("vllm:prompt_tokens_total", "0.5"), unit="tokens",
)  # fmt: skip
GENERATION_TOKENS = _engine(
    "llm_generation_tokens_total", Kind.COUNTER, "Output tokens.",
    Upstream("vllm:generation_tokens_total", "0.5"), unit="tokens",
)  # fmt: skip
CACHED_PROMPT_TOKENS = _engine(
    "llm_prompt_tokens_cached_total", Kind.COUNTER, "Prompt tokens taken from a KV cache, local or external.",
    Upstream("vllm:prompt_tokens_cached_total", "0.16"), unit="tokens",
)  # fmt: skip
FINISHED = _engine(
    "llm_requests_finished_total", Kind.COUNTER,
    "Finished requests by reason (stop, length, abort, error, repetition). vLLM misses client disconnects.",
    Upstream("vllm:request_success_total", "0.5"), labels=("finished_reason",),
)  # fmt: skip
REQUEST_PROMPT_TOKENS = _engine(
    "llm_request_prompt_tokens", Kind.HISTOGRAM, "Prompt length of finished requests. Edges follow max_model_len.",
    Upstream("vllm:request_prompt_tokens", "0.5"), unit="tokens",
)  # fmt: skip
REQUEST_GENERATION_TOKENS = _engine(
    "llm_request_generation_tokens", Kind.HISTOGRAM, "Output length of finished requests. Edges follow max_model_len.",
    Upstream("vllm:request_generation_tokens", "0.5"), unit="tokens",
)  # fmt: skip
# The upstream name ends in _total and yet it is a histogram.
ITERATION_TOKENS = _engine(
    "llm_iteration_tokens", Kind.HISTOGRAM, "Tokens computed per engine step.",
    Upstream("vllm:iteration_tokens_total", "0.6.6"), unit="tokens", buckets=ITERATION_TOKENS_BUCKETS,
)  # fmt: skip
HTTP_REQUESTS = _engine(
    "llm_http_requests_total", Kind.COUNTER,
    "HTTP requests by handler and status class (2xx, 4xx, 5xx); the status is the one the response began with.",
    Upstream("http_requests_total", "0.6"), labels=("handler", "method", "status"),
)  # fmt: skip
REJECTIONS = _engine(
    "llm_admission_rejections_total", Kind.COUNTER, "Requests refused by the engine's queue limits.",
    Upstream("vllm:admission_rejections_total", "0.32"), labels=("reason",),
)  # fmt: skip
CORRUPTED = _engine(
    "llm_corrupted_requests_total", Kind.COUNTER, "Requests whose logits held NaN (only when the engine checks).",
    Upstream("vllm:corrupted_requests_total", "0.12"),
)  # fmt: skip

# --- engine: scheduler and KV cache ---------------------------------------------------------------------------------

RUNNING = _engine(
    "llm_requests_running", Kind.GAUGE, "Requests in the running batch.", Upstream("vllm:num_requests_running", "0.5")
)
WAITING = _engine(
    "llm_requests_waiting", Kind.GAUGE, "Requests waiting to be scheduled.",
    Upstream("vllm:num_requests_waiting", "0.5"),
)  # fmt: skip
KV_USAGE = _engine(
    "llm_kv_cache_usage_ratio", Kind.GAUGE, "Share of KV-cache blocks in use.",
    Upstream("vllm:kv_cache_usage_perc", "0.9.2"), Upstream("vllm:gpu_cache_usage_perc", "0.5", "0.11"),
    unit="ratio",
)  # fmt: skip
# Read from the labels of vllm:cache_config_info: kv_cache_size_tokens, or num_gpu_blocks x block_size before it.
KV_CAPACITY = _engine(
    "llm_kv_cache_capacity_tokens", Kind.GAUGE, "Tokens that the KV cache can hold.",
    Upstream("vllm:cache_config_info", "0.5"), unit="tokens",
)  # fmt: skip
PREEMPTIONS = _engine(
    "llm_preemptions_total", Kind.COUNTER, "Running requests pushed back to the queue for want of KV blocks.",
    Upstream("vllm:num_preemptions_total", "0.5"),
)  # fmt: skip
# The gpu_ names counted blocks up to 0.8.5 and tokens from 0.9.1: their ratio is right everywhere.
PREFIX_QUERIES = _engine(
    "llm_prefix_cache_queries_total", Kind.COUNTER, "Tokens looked up in the prefix cache.",
    Upstream("vllm:prefix_cache_queries_total", "0.9.2"),
    Upstream("vllm:gpu_prefix_cache_queries_total", "0.7.3", "0.11"), unit="tokens",
)  # fmt: skip
PREFIX_HITS = _engine(
    "llm_prefix_cache_hits_total", Kind.COUNTER, "Tokens found in the prefix cache.",
    Upstream("vllm:prefix_cache_hits_total", "0.9.2"), Upstream("vllm:gpu_prefix_cache_hits_total", "0.7.3", "0.11"),
    unit="tokens",
)  # fmt: skip
DRAFT_TOKENS = _engine(
    "llm_spec_decode_draft_tokens_total", Kind.COUNTER, "Tokens proposed by speculative decoding.",
    Upstream("vllm:spec_decode_num_draft_tokens_total", "0.5.5"), unit="tokens",
)  # fmt: skip
ACCEPTED_TOKENS = _engine(
    "llm_spec_decode_accepted_tokens_total", Kind.COUNTER, "Proposed tokens that were accepted.",
    Upstream("vllm:spec_decode_num_accepted_tokens_total", "0.5.5"), unit="tokens",
)  # fmt: skip
SLEEP_STATE = _engine(
    "llm_engine_sleep_state", Kind.GAUGE, "1 for the state the engine is in: awake, weights_offloaded, discard_all.",
    Upstream("vllm:engine_sleep_state", "0.12"), labels=("sleep_state",),
)  # fmt: skip
FLOPS = _engine(
    "llm_estimated_flops_per_gpu_total", Kind.COUNTER, "Estimated floating-point operations (--enable-mfu-metrics).",
    Upstream("vllm:estimated_flops_per_gpu_total", "0.18"),
)  # fmt: skip

# --- GPU ------------------------------------------------------------------------------------------------------------
# DCGM 4.6 renamed hundreds of fields and kept the old names as aliases; both are accepted (gpu section of docs).

MIB = 1024.0 * 1024.0

GPU_UTILIZATION = _gpu(
    "llm_gpu_utilization_ratio", Kind.GAUGE, "Share of time in which any kernel ran.",
    Upstream("DCGM_FI_DEV_GPU_UTIL", scale=0.01),
    Upstream("DCGM_FI_DEV_GPU_UTIL_RATIO", scale=0.01),  # still 0..100 whatever its name says
    unit="ratio", otel="hw.gpu.utilization",
)  # fmt: skip
GPU_MEMORY_UTILIZATION = _gpu(
    "llm_gpu_memory_utilization_ratio", Kind.GAUGE, "Share of time in which device memory was read or written.",
    Upstream("DCGM_FI_DEV_MEM_COPY_UTIL", scale=0.01), unit="ratio",
)  # fmt: skip
GPU_MEMORY_USED = _gpu(
    "llm_gpu_memory_used_bytes", Kind.GAUGE, "Device memory in use.",
    Upstream("DCGM_FI_DEV_FB_USED", scale=MIB), unit="bytes", otel="hw.gpu.memory.usage",
)  # fmt: skip
GPU_MEMORY_FREE = _gpu(
    "llm_gpu_memory_free_bytes", Kind.GAUGE, "Device memory free.",
    Upstream("DCGM_FI_DEV_FB_FREE", scale=MIB), unit="bytes",
)  # fmt: skip
GPU_POWER = _gpu(
    "llm_gpu_power_watts", Kind.GAUGE, "Power draw of the board.",
    Upstream("DCGM_FI_DEV_POWER_USAGE"), Upstream("DCGM_FI_DEV_BOARD_POWER_WATTS"), unit="watts", otel="hw.power",
)  # fmt: skip
GPU_POWER_LIMIT = _gpu(
    "llm_gpu_power_limit_watts", Kind.GAUGE, "Enforced power limit.",
    Upstream("DCGM_FI_DEV_ENFORCED_POWER_LIMIT"), Upstream("DCGM_FI_DEV_BOARD_POWER_LIMIT_ENFORCED_WATTS"),
    Upstream("DCGM_FI_DEV_POWER_MGMT_LIMIT"), Upstream("DCGM_FI_DEV_BOARD_POWER_LIMIT_REQUESTED_WATTS"),
    unit="watts",
)  # fmt: skip
GPU_ENERGY = _gpu(
    "llm_gpu_energy_joules_total", Kind.COUNTER, "Energy since the driver was loaded.",
    Upstream("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", scale=1e-3), unit="joules", otel="hw.energy",
)  # fmt: skip
GPU_TEMPERATURE = _gpu(
    "llm_gpu_temperature_celsius", Kind.GAUGE, "Temperature of the GPU.",
    Upstream("DCGM_FI_DEV_GPU_TEMP"), Upstream("DCGM_FI_DEV_GPU_TEMP_CELSIUS"), unit="celsius",
    otel="hw.temperature",
)  # fmt: skip
GPU_SM_CLOCK = _gpu(
    "llm_gpu_sm_clock_hertz", Kind.GAUGE, "Clock of the streaming multiprocessors.",
    Upstream("DCGM_FI_DEV_SM_CLOCK", scale=1e6), unit="hertz",
)  # fmt: skip
GPU_MEMORY_CLOCK = _gpu(
    "llm_gpu_memory_clock_hertz", Kind.GAUGE, "Clock of the device memory.",
    Upstream("DCGM_FI_DEV_MEM_CLOCK", scale=1e6), unit="hertz",
)  # fmt: skip
GPU_SM_ACTIVE = _gpu(
    "llm_gpu_sm_active_ratio", Kind.GAUGE, "Share of cycles with a warp on the multiprocessors (profiling).",
    Upstream("DCGM_FI_PROF_SM_ACTIVE"), Upstream("DCGM_FI_PROF_SM_UTIL_RATIO"), unit="ratio",
)  # fmt: skip
GPU_TENSOR_ACTIVE = _gpu(
    "llm_gpu_tensor_active_ratio", Kind.GAUGE, "Share of cycles the tensor pipe was active (profiling).",
    Upstream("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE"), Upstream("DCGM_FI_PROF_TENSOR_UTIL_RATIO"), unit="ratio",
)  # fmt: skip
GPU_DRAM_ACTIVE = _gpu(
    "llm_gpu_dram_active_ratio", Kind.GAUGE, "Share of cycles device memory was sending or receiving (profiling).",
    Upstream("DCGM_FI_PROF_DRAM_ACTIVE"), Upstream("DCGM_FI_PROF_DRAM_UTIL_RATIO"), unit="ratio",
)  # fmt: skip
GPU_THROTTLED = _gpu(
    "llm_gpu_throttled", Kind.GAUGE, "1 while the clocks are held down for this reason (NVML).", labels=("reason",)
)
GPU_PCIE_REPLAYS = _gpu(
    "llm_gpu_pcie_replays_total", Kind.COUNTER, "PCIe replays.",
    Upstream("DCGM_FI_DEV_PCIE_REPLAY_COUNTER"), Upstream("DCGM_FI_DEV_PCIE_REPLAY_TOTAL"),
)  # fmt: skip
# A gauge holding the *code* of the last XID, sticky until the next one: dcgm-exporter has no event counter.
GPU_LAST_XID = _gpu(
    "llm_gpu_last_xid", Kind.GAUGE, "Code of the last XID error, 0 for none; it stays until the next error.",
    Upstream("DCGM_FI_DEV_XID_ERRORS"), Upstream("DCGM_FI_DEV_XID_ERROR"),
)  # fmt: skip
GPU_INFO = _gpu("llm_gpu_info", Kind.GAUGE, "1, with the device name and driver.", labels=("name", "driver"))
ENGINE_GPU_INFO = _own(
    "llm_engine_gpu_info", Kind.GAUGE, "1 for every GPU that serves a model: joins engine and GPU families.",
    "model_name", "gpu_uuid",
)  # fmt: skip

# --- spans ----------------------------------------------------------------------------------------------------------

SPAN_TTFT = _own("llm_span_time_to_first_token_seconds", Kind.HISTOGRAM,
                 "TTFT as the engine's own request spans say, exact per request.", *SPAN_LABELS,
                 unit="s", buckets=TTFT_BUCKETS)  # fmt: skip
SPAN_TPOT = _own("llm_span_time_per_output_token_seconds", Kind.HISTOGRAM,
                 "TPOT from request spans; answers of one token have none.", *SPAN_LABELS,
                 unit="s", buckets=TOKEN_LATENCY_BUCKETS)  # fmt: skip
SPAN_E2E = _own("llm_span_request_duration_seconds", Kind.HISTOGRAM, "Request duration from request spans.",
                *SPAN_LABELS, unit="s", buckets=REQUEST_LATENCY_BUCKETS)  # fmt: skip
SPAN_QUEUE_TIME = _own("llm_span_request_queue_seconds", Kind.HISTOGRAM, "Queue time from request spans.",
                       *SPAN_LABELS, unit="s", buckets=REQUEST_LATENCY_BUCKETS)  # fmt: skip
SPAN_PROMPT_TOKENS = _own("llm_span_prompt_tokens_total", Kind.COUNTER, "Prompt tokens from request spans.",
                          *SPAN_LABELS, unit="tokens")  # fmt: skip
SPAN_GENERATION_TOKENS = _own("llm_span_generation_tokens_total", Kind.COUNTER, "Output tokens from request spans.",
                              *SPAN_LABELS, unit="tokens")  # fmt: skip
SLO_EVENTS = _own("llm_slo_events_total", Kind.COUNTER, "Requests that count for an SLO, judged one by one from spans.",
                  "slo", *SPAN_LABELS)  # fmt: skip
SLO_GOOD_EVENTS = _own("llm_slo_good_events_total", Kind.COUNTER, "Of those, the good ones.", "slo", *SPAN_LABELS)

# --- the exporter itself --------------------------------------------------------------------------------------------

SOURCE_UP = _own("llm_exporter_source_up", Kind.GAUGE, "1 when the last reading of this source succeeded.",
                 "source", "endpoint")  # fmt: skip
SOURCE_SECONDS = _own("llm_exporter_source_duration_seconds", Kind.GAUGE, "How long the last reading took.",
                      "source", "endpoint", unit="s")  # fmt: skip
SPANS_RECEIVED = _own("llm_exporter_spans_received_total", Kind.COUNTER, "Spans taken in, of any name.")
SPANS_REJECTED = _own("llm_exporter_spans_rejected_total", Kind.COUNTER,
                      "Request spans that could not be used, or export requests refused.", "reason")  # fmt: skip
BUILD_INFO = _own("llm_exporter_build_info", Kind.GAUGE, "1, with the version of the exporter.", "version")
