"""Every metric family this project emits: the single place where a name, unit, label or bucket is written.

Exporter, rules, dashboards, simulator and load generator reach a family through the constants below,
so a typo is an AttributeError and not an empty panel. What each engine calls a family is in its table in slo/engines,
and each source of GPU telemetry in slo/gpus.
Bucket bounds are vLLM's defaults (unchanged from 0.8.5 to 0.33, vllm/v1/metrics/loggers.py and buckets.py).
"""

from collections.abc import Iterator

from slo.engines import ENGINES
from slo.gpus import GPU_SOURCES
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


def _gpu(name: str, kind: Kind, text: str, *labels: str, unit: str = "", otel: str = "") -> Metric:
    upstream = {source: names[name] for source, names in GPU_SOURCES.items() if name in names}
    return _add(Metric(name=name, kind=kind, help=text, unit=unit, labels=GPU_LABELS + labels,
                       upstream=upstream, otel=otel))  # fmt: skip


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

GPU_UTILIZATION = _gpu("llm_gpu_utilization_ratio", Kind.GAUGE, "Share of time in which any kernel ran.",
                       unit="ratio", otel="hw.gpu.utilization")  # fmt: skip
GPU_MEMORY_UTILIZATION = _gpu("llm_gpu_memory_utilization_ratio", Kind.GAUGE,
                              "Share of time in which device memory was read or written.", unit="ratio")  # fmt: skip
GPU_MEMORY_USED = _gpu("llm_gpu_memory_used_bytes", Kind.GAUGE, "Device memory in use.",
                       unit="bytes", otel="hw.gpu.memory.usage")  # fmt: skip
GPU_MEMORY_FREE = _gpu("llm_gpu_memory_free_bytes", Kind.GAUGE, "Device memory free.", unit="bytes")
GPU_MEMORY_RESERVED = _gpu("llm_gpu_memory_reserved_bytes", Kind.GAUGE,
                           "Device memory kept by driver and firmware, beside used and free.",
                           unit="bytes")  # fmt: skip
GPU_POWER = _gpu("llm_gpu_power_watts", Kind.GAUGE, "Power draw of the board.", unit="watts", otel="hw.power")
GPU_POWER_LIMIT = _gpu("llm_gpu_power_limit_watts", Kind.GAUGE, "Enforced power limit.", unit="watts")
GPU_ENERGY = _gpu("llm_gpu_energy_joules_total", Kind.COUNTER, "Energy since the driver was loaded.",
                  unit="joules", otel="hw.energy")  # fmt: skip
GPU_TEMPERATURE = _gpu("llm_gpu_temperature_celsius", Kind.GAUGE, "Temperature of the GPU.",
                       unit="celsius", otel="hw.temperature")  # fmt: skip
GPU_MEMORY_TEMPERATURE = _gpu("llm_gpu_memory_temperature_celsius", Kind.GAUGE, "Temperature of the device memory.",
                              unit="celsius")  # fmt: skip
GPU_SM_CLOCK = _gpu("llm_gpu_sm_clock_hertz", Kind.GAUGE, "Clock of the streaming multiprocessors.", unit="hertz")
GPU_MEMORY_CLOCK = _gpu("llm_gpu_memory_clock_hertz", Kind.GAUGE, "Clock of the device memory.", unit="hertz")
GPU_GRAPHICS_ACTIVE = _gpu("llm_gpu_graphics_active_ratio", Kind.GAUGE,
                           "Share of time the graphics or compute engine was active (profiling).",
                           unit="ratio")  # fmt: skip
GPU_SM_ACTIVE = _gpu("llm_gpu_sm_active_ratio", Kind.GAUGE,
                     "Share of cycles with a warp on the multiprocessors (profiling).", unit="ratio")  # fmt: skip
GPU_TENSOR_ACTIVE = _gpu("llm_gpu_tensor_active_ratio", Kind.GAUGE,
                         "Share of cycles the tensor pipe was active (profiling).", unit="ratio")  # fmt: skip
GPU_DRAM_ACTIVE = _gpu("llm_gpu_dram_active_ratio", Kind.GAUGE,
                       "Share of cycles device memory was sending or receiving (profiling).",
                       unit="ratio")  # fmt: skip
GPU_THROTTLED = _gpu("llm_gpu_throttled", Kind.GAUGE, "1 while the clocks are held down for this reason.", "reason")
GPU_THROTTLED_SECONDS = _gpu("llm_gpu_throttled_seconds_total", Kind.COUNTER,
                             "Time in which the clocks were held down for this reason.", "reason",
                             unit="s")  # fmt: skip
GPU_ECC_ERRORS = _gpu("llm_gpu_ecc_errors_total", Kind.COUNTER,
                      "Memory errors over the life of the board, corrected or uncorrected.", "type",
                      otel="hw.errors")  # fmt: skip
GPU_REMAPPED_ROWS = _gpu("llm_gpu_remapped_rows_total", Kind.COUNTER,
                         "Memory rows replaced by spare ones, by the kind of error behind it.", "type")  # fmt: skip
GPU_ROW_REMAP_PENDING = _gpu("llm_gpu_row_remap_pending", Kind.GAUGE, "1 while rows wait for a reset to be remapped.")
GPU_ROW_REMAP_FAILURE = _gpu("llm_gpu_row_remap_failure", Kind.GAUGE,
                             "1 when a row could not be remapped: the board wants replacing.")  # fmt: skip
GPU_PCIE_REPLAYS = _gpu("llm_gpu_pcie_replays_total", Kind.COUNTER, "PCIe replays.")
GPU_PCIE_BYTES = _gpu("llm_gpu_pcie_bytes_total", Kind.COUNTER, "Bytes over PCIe, sent or received by the GPU.",
                      "direction", unit="bytes", otel="hw.gpu.io")  # fmt: skip
GPU_PCIE_RATE = _gpu("llm_gpu_pcie_bytes_per_second", Kind.GAUGE,
                     "Bytes over PCIe per second, where the source has no counter (profiling).",
                     "direction")  # fmt: skip
GPU_NVLINK_BYTES = _gpu("llm_gpu_nvlink_bytes_total", Kind.COUNTER,
                        "Payload bytes over all NVLink links, sent or received by the GPU.", "direction",
                        unit="bytes")  # fmt: skip
GPU_NVLINK_RATE = _gpu("llm_gpu_nvlink_bytes_per_second", Kind.GAUGE,
                       "Bytes over NVLink per second, where the source has no counter (profiling).",
                       "direction")  # fmt: skip
# A gauge holding the *code* of the last XID, sticky until the next one: dcgm-exporter has no event counter.
GPU_LAST_XID = _gpu("llm_gpu_last_xid", Kind.GAUGE,
                    "Code of the last XID error, 0 for none; it stays until the next error.")  # fmt: skip
GPU_XID_ERRORS = _gpu("llm_gpu_xid_errors_total", Kind.COUNTER,
                      "XID errors by code, since the sidecar began to watch.", "xid")  # fmt: skip
# increase() misses the first sample of a series, and a rare error has no other.
GPU_XID_LAST_SEEN = _gpu("llm_gpu_xid_last_seen_timestamp_seconds", Kind.GAUGE,
                         "When an XID error of this code was last seen.", "xid", unit="s")  # fmt: skip
GPU_RECOVERY_ACTION = _gpu("llm_gpu_recovery_action", Kind.GAUGE,
                           "What the GPU needs: 0 nothing, 1 GPU reset, 2 node reboot, 3 drain P2P, 4 drain and reset, "
                           "5 IMEX, 6 bus reset, 7 system reboot.")  # fmt: skip
GPU_PROCESS_MEMORY = _gpu("llm_gpu_process_memory_bytes", Kind.GAUGE,
                          "Device memory of a compute process; the pid is the host's.", "pid",
                          unit="bytes")  # fmt: skip
GPU_INFO = _gpu("llm_gpu_info", Kind.GAUGE,
                "1, with the device name and driver; a MIG instance names its GPU and its profile.",
                "name", "driver", "parent", "profile")  # fmt: skip
GPU_SECONDS = _own("llm_gpu_seconds_total", Kind.COUNTER,
                   "Time this GPU was at hand, used or idle; a MIG instance counts by itself.",
                   *GPU_LABELS, unit="s")  # fmt: skip
GPU_COST = _own("llm_gpu_cost_total", Kind.COUNTER, "That time at the price per GPU hour given with --price.",
                *GPU_LABELS, "currency")  # fmt: skip
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

# --- the load generator's own view ------------------------------------------------------------------------------------
# `load` says how much is sent, such as "20/s" or "8 in flight": runs at the same load continue the same series.

LOAD_LABELS = ("model_name", "load")
LOAD_SECONDS = _own("llm_load_seconds_total", Kind.COUNTER, "How long load was sent: the run's time so far.",
                    *LOAD_LABELS, unit="s")  # fmt: skip
LOAD_OFFERED = _own("llm_load_offered_requests_per_second", Kind.GAUGE,
                    "Requests per second that the schedule of an open loop asks for.", *LOAD_LABELS)  # fmt: skip
LOAD_REQUESTS = _own("llm_load_requests_total", Kind.COUNTER,
                     "Requests that ended, by outcome: ok, or the client's category of error.",
                     *LOAD_LABELS, "outcome")  # fmt: skip
LOAD_TOKENS = _own("llm_load_output_tokens_total", Kind.COUNTER, "Output tokens that reached the client.",
                   *LOAD_LABELS, unit="tokens")  # fmt: skip
LOAD_TTFT = _own("llm_load_time_to_first_token_seconds", Kind.HISTOGRAM,
                 "TTFT as the client measured it, from the intended start.",
                 *LOAD_LABELS, unit="s", buckets=TTFT_BUCKETS)  # fmt: skip
LOAD_TPOT = _own("llm_load_time_per_output_token_seconds", Kind.HISTOGRAM, "TPOT as the client measured it.",
                 *LOAD_LABELS, unit="s", buckets=TOKEN_LATENCY_BUCKETS)  # fmt: skip
LOAD_E2E = _own("llm_load_request_duration_seconds", Kind.HISTOGRAM,
                "Intended start to the last byte of a complete answer.",
                *LOAD_LABELS, unit="s", buckets=REQUEST_LATENCY_BUCKETS)  # fmt: skip
LOAD_SEND_LAG = _own("llm_load_send_lag_seconds", Kind.HISTOGRAM,
                     "Intended start to the real one: the client's own lateness.",
                     *LOAD_LABELS, unit="s", buckets=TTFT_BUCKETS)  # fmt: skip

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
