"""Every metric family this project emits: the single place where a name, unit, label or bucket is written.

Exporter, rules, dashboards, simulator and load generator reach a family through the constants below,
so a typo is an AttributeError and not an empty panel. What each engine calls a family is in its table in slo/engines.
Bucket bounds are vLLM's defaults (unchanged from 0.8.5 to 0.33, vllm/v1/metrics/loggers.py and buckets.py).
"""

from collections.abc import Iterator

from slo.engines import ENGINES
from slo.metric import Kind as Kind
from slo.metric import Metric as Metric
from slo.metric import Upstream as Upstream

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


def _engine(name: str, kind: Kind, text: str, *, unit: str = "", labels: tuple[str, ...] = (),
            buckets: tuple[float, ...] = (), otel: str = "") -> Metric:  # fmt: skip
    upstream = {engine.kind: engine.names[name] for engine in ENGINES.values() if name in engine.names}
    return _add(Metric(name=name, kind=kind, help=text, unit=unit, labels=ENGINE_LABELS + labels,
                       buckets=buckets, upstream=upstream, otel=otel))  # fmt: skip


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
    unit="s", buckets=TTFT_BUCKETS, otel="gen_ai.server.time_to_first_token",
)  # fmt: skip
TPOT = _engine(
    "llm_time_per_output_token_seconds", Kind.HISTOGRAM,
    "Per finished request: decode time / (output tokens - 1). vLLM records 0 for answers of one token.",
    unit="s", buckets=TOKEN_LATENCY_BUCKETS, otel="gen_ai.server.time_per_output_token",
)  # fmt: skip
ITL = _engine(
    "llm_inter_token_latency_seconds", Kind.HISTOGRAM,
    "Gap between two outputs of a request, one sample per engine step.",
    unit="s", buckets=TOKEN_LATENCY_BUCKETS,
)  # fmt: skip
E2E = _engine(
    "llm_request_duration_seconds", Kind.HISTOGRAM, "Arrival to last token of a finished request.",
    unit="s", buckets=REQUEST_LATENCY_BUCKETS, otel="gen_ai.server.request.duration",
)  # fmt: skip
QUEUE_TIME = _engine(
    "llm_request_queue_seconds", Kind.HISTOGRAM, "Time a request waited to be scheduled for the first time.",
    unit="s", buckets=REQUEST_LATENCY_BUCKETS,
)  # fmt: skip
PREFILL_TIME = _engine(
    "llm_request_prefill_seconds", Kind.HISTOGRAM, "First scheduling to first token.",
    unit="s", buckets=REQUEST_LATENCY_BUCKETS,
)  # fmt: skip
DECODE_TIME = _engine(
    "llm_request_decode_seconds", Kind.HISTOGRAM, "First token to last token.",
    unit="s", buckets=REQUEST_LATENCY_BUCKETS,
)  # fmt: skip
INFERENCE_TIME = _engine(
    "llm_request_inference_seconds", Kind.HISTOGRAM, "First scheduling to last token.",
    unit="s", buckets=REQUEST_LATENCY_BUCKETS,
)  # fmt: skip

# --- engine: work ---------------------------------------------------------------------------------------------------

PROMPT_TOKENS = _engine("llm_prompt_tokens_total", Kind.COUNTER, "Prompt tokens, cached ones included.", unit="tokens")
GENERATION_TOKENS = _engine("llm_generation_tokens_total", Kind.COUNTER, "Output tokens.", unit="tokens")
CACHED_PROMPT_TOKENS = _engine(
    "llm_prompt_tokens_cached_total", Kind.COUNTER, "Prompt tokens taken from a KV cache, local or external.",
    unit="tokens",
)  # fmt: skip
FINISHED = _engine(
    "llm_requests_finished_total", Kind.COUNTER,
    "Finished requests by reason (stop, length, abort, error, repetition). vLLM misses client disconnects.",
    labels=("finished_reason",),
)  # fmt: skip
FAILED = _engine(
    "llm_requests_failed_total", Kind.COUNTER,
    "Requests without an answer, by the engine's word or HTTP code for it; some are the client's own fault.",
    labels=("reason",),
)  # fmt: skip
REQUEST_PROMPT_TOKENS = _engine(
    "llm_request_prompt_tokens", Kind.HISTOGRAM, "Prompt length of finished requests. Edges follow max_model_len.",
    unit="tokens",
)  # fmt: skip
REQUEST_GENERATION_TOKENS = _engine(
    "llm_request_generation_tokens", Kind.HISTOGRAM, "Output length of finished requests. Edges follow max_model_len.",
    unit="tokens",
)  # fmt: skip
ITERATION_TOKENS = _engine(
    "llm_iteration_tokens", Kind.HISTOGRAM, "Tokens computed per engine step.",
    unit="tokens", buckets=ITERATION_TOKENS_BUCKETS,
)  # fmt: skip
HTTP_REQUESTS = _engine(
    "llm_http_requests_total", Kind.COUNTER,
    "HTTP requests by handler and status class (2xx, 4xx, 5xx); the status is the one the response began with.",
    labels=("handler", "method", "status"),
)  # fmt: skip
REJECTIONS = _engine(
    "llm_admission_rejections_total", Kind.COUNTER, "Requests refused by the engine's queue limits.",
    labels=("reason",),
)  # fmt: skip
CORRUPTED = _engine(
    "llm_corrupted_requests_total", Kind.COUNTER, "Requests whose logits held NaN (only when the engine checks).",
)  # fmt: skip

# --- engine: scheduler and KV cache ---------------------------------------------------------------------------------

RUNNING = _engine("llm_requests_running", Kind.GAUGE, "Requests in the running batch.")
WAITING = _engine("llm_requests_waiting", Kind.GAUGE, "Requests waiting to be scheduled.")
KV_USAGE = _engine("llm_kv_cache_usage_ratio", Kind.GAUGE, "Share of KV-cache blocks in use.", unit="ratio")
KV_CAPACITY = _engine("llm_kv_cache_capacity_tokens", Kind.GAUGE, "Tokens that the KV cache can hold.", unit="tokens")
PREEMPTIONS = _engine(
    "llm_preemptions_total", Kind.COUNTER, "Running requests pushed back to the queue for want of KV blocks.",
)  # fmt: skip
PREFIX_QUERIES = _engine(
    "llm_prefix_cache_queries_total", Kind.COUNTER, "Tokens looked up in the prefix cache.",
    unit="tokens",
)  # fmt: skip
PREFIX_HITS = _engine("llm_prefix_cache_hits_total", Kind.COUNTER, "Tokens found in the prefix cache.", unit="tokens")
DRAFT_TOKENS = _engine(
    "llm_spec_decode_draft_tokens_total", Kind.COUNTER, "Tokens proposed by speculative decoding.",
    unit="tokens",
)  # fmt: skip
ACCEPTED_TOKENS = _engine(
    "llm_spec_decode_accepted_tokens_total", Kind.COUNTER, "Proposed tokens that were accepted.",
    unit="tokens",
)  # fmt: skip
SLEEP_STATE = _engine(
    "llm_engine_sleep_state", Kind.GAUGE, "1 for the state the engine is in: awake, weights_offloaded, discard_all.",
    labels=("sleep_state",),
)  # fmt: skip
FLOPS = _engine(
    "llm_estimated_flops_per_gpu_total", Kind.COUNTER, "Estimated floating-point operations (--enable-mfu-metrics).",
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
SPAN_PREFILL_TIME = _own("llm_span_request_prefill_seconds", Kind.HISTOGRAM, "Prefill time from request spans.",
                         *SPAN_LABELS, unit="s", buckets=REQUEST_LATENCY_BUCKETS)  # fmt: skip
SPAN_DECODE_TIME = _own("llm_span_request_decode_seconds", Kind.HISTOGRAM, "Decode time from request spans.",
                        *SPAN_LABELS, unit="s", buckets=REQUEST_LATENCY_BUCKETS)  # fmt: skip
SPAN_PROMPT_TOKENS = _own("llm_span_prompt_tokens_total", Kind.COUNTER, "Prompt tokens from request spans.",
                          *SPAN_LABELS, unit="tokens")  # fmt: skip
SPAN_CACHED_TOKENS = _own("llm_span_prompt_tokens_cached_total", Kind.COUNTER,
                          "Prompt tokens taken from a cache, from request spans.",
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
SPANS_FORWARDED = _own("llm_exporter_spans_forwarded_total", Kind.COUNTER, "Spans that the upstream took.")
SPANS_NOT_FORWARDED = _own("llm_exporter_spans_not_forwarded_total", Kind.COUNTER,
                           "Spans kept from the upstream: sampled out, or lost for another reason.",
                           "reason")  # fmt: skip
FORWARD_QUEUE = _own("llm_exporter_forward_queue_bytes", Kind.GAUGE, "Spans that wait for the upstream.", unit="bytes")
PUSHES = _own("llm_exporter_pushes_total", Kind.COUNTER, "Pushes of metrics over OTLP, by outcome (ok, failed).",
              "outcome")  # fmt: skip
SERIES_DROPPED = _own("llm_exporter_series_dropped", Kind.GAUGE,
                      "Series of a family that has too many of them and is left out.", "family")  # fmt: skip
BUILD_INFO = _own("llm_exporter_build_info", Kind.GAUGE, "1, with the version of the exporter.", "version")
