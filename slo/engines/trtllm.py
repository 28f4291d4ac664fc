"""TensorRT-LLM's own server, trtllm-serve. Dynamo re-exports the same names."""

from slo.engines.table import Engine, named

_PREFILL = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0,
            2560.0)  # fmt: skip

ENGINE = Engine(
    kind="trtllm",
    title="trtllm-serve",
    path="/prometheus/metrics",  # /metrics is a JSON of iteration statistics
    hint="usually http://HOST:8000/prometheus/metrics; set return_perf_metrics: true",
    names={
        "llm_time_to_first_token_seconds": named("trtllm_time_to_first_token_seconds"),
        "llm_time_per_output_token_seconds": named("trtllm_time_per_output_token_seconds"),
        "llm_request_duration_seconds": named("trtllm_e2e_request_latency_seconds"),
        "llm_request_queue_seconds": named("trtllm_request_queue_time_seconds"),
        "llm_request_prefill_seconds": named("trtllm_request_prefill_time_seconds", buckets=_PREFILL),
        "llm_request_decode_seconds": named("trtllm_request_decode_time_seconds"),
        "llm_request_inference_seconds": named("trtllm_request_inference_time_seconds"),
        "llm_prompt_tokens_total": named("trtllm_prompt_tokens_total"),
        "llm_generation_tokens_total": named("trtllm_generation_tokens_total"),
        "llm_prompt_tokens_cached_total": named("trtllm_prompt_cached_tokens_total"),
        "llm_requests_finished_total": named("trtllm_request_success_total"),
        "llm_requests_failed_total": named("trtllm_request_error_total", rename={"http_code": "reason"}),
        "llm_requests_running": named("trtllm_num_requests_running"),
        "llm_requests_waiting": named("trtllm_num_requests_waiting"),
        "llm_kv_cache_usage_ratio": named("trtllm_kv_cache_utilization"),
        "llm_spec_decode_draft_tokens_total": named("trtllm_spec_decode_num_draft_tokens_total"),
        "llm_spec_decode_accepted_tokens_total": named("trtllm_spec_decode_num_accepted_tokens_total"),
    },
    absent={
        "gaps between tokens are not measured; see TPOT": ("llm_inter_token_latency_seconds",),
        "only errors have a status code; finished and failed requests tell availability": ("llm_http_requests_total",),
        "a product of two gauges: trtllm_kv_cache_max_blocks x trtllm_kv_cache_tokens_per_block": (
            "llm_kv_cache_capacity_tokens",
        ),
        "only the gauge trtllm_num_paused_requests, whose events are not counted": ("llm_preemptions_total",),
        "only the gauge trtllm_kv_cache_hit_rate; see llm_prompt_tokens_cached_total": (
            "llm_prefix_cache_queries_total",
            "llm_prefix_cache_hits_total",
        ),
    },
    client_faults="4..",
    drop=("engine_type",),  # always "trtllm"
)
