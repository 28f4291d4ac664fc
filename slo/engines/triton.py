"""Triton with the TensorRT-LLM backend: gauges of the batch manager, one name for many signals, told by a label."""

from slo.engines.table import Engine, named

_REQUESTS = "nv_trt_llm_request_metrics"
_BLOCKS = "nv_trt_llm_kv_cache_block_metrics"
_NOT_TIMED = "the backend times no requests (nv_inference_* times every step of an ensemble as a request of its own)"

ENGINE = Engine(
    kind="triton",
    title="Triton TensorRT-LLM",
    hint="usually http://HOST:8002",
    names={
        "llm_requests_running": named(_REQUESTS, where={"request_type": "scheduled"}),
        "llm_requests_waiting": named(_REQUESTS, where={"request_type": "waiting"}),
        "llm_kv_cache_usage_ratio": named(_BLOCKS, where={"kv_cache_block_type": "fraction"}),
    },
    absent={
        _NOT_TIMED: (
            "llm_time_to_first_token_seconds",
            "llm_time_per_output_token_seconds",
            "llm_inter_token_latency_seconds",
            "llm_request_duration_seconds",
            "llm_request_queue_seconds",
            "llm_request_prefill_seconds",
            "llm_request_decode_seconds",
            "llm_request_inference_seconds",
            "llm_requests_finished_total",
            "llm_requests_failed_total",
            "llm_http_requests_total",
        ),
        "a gauge of the tokens now in the batch, which cannot be added up": (
            "llm_prompt_tokens_total",
            "llm_generation_tokens_total",
        ),
        'a product of two gauges: kv_cache_block_type="max" x "tokens_per"': ("llm_kv_cache_capacity_tokens",),
    },
    rename={"model": "model_name"},
    drop=("version",),
)
