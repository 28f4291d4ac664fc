"""vLLM 0.5 to 0.33, as its releases name their metrics.

Up to 0.7.3 TTFT ended at 10 s, TPOT at 2.5 s and the request latencies at 60 s; the edges below those are the same.
"""

from slo.engines.table import Engine, named

NAMES = {
    "llm_time_to_first_token_seconds": named("vllm:time_to_first_token_seconds", "0.5"),
    "llm_time_per_output_token_seconds": named("vllm:request_time_per_output_token_seconds", "0.11"),
    # The old time_per_output_token_seconds always held the gap between engine steps: it is ITL, never TPOT.
    "llm_inter_token_latency_seconds": named("vllm:inter_token_latency_seconds", "0.10.2")
    + named("vllm:time_per_output_token_seconds", "0.5", "0.14"),
    "llm_request_duration_seconds": named("vllm:e2e_request_latency_seconds", "0.5"),
    "llm_request_queue_seconds": named("vllm:request_queue_time_seconds", "0.6.6")
    + named("vllm:time_in_queue_requests", "0.6.6", "0.9.0"),
    "llm_request_prefill_seconds": named("vllm:request_prefill_time_seconds", "0.6.6"),
    "llm_request_decode_seconds": named("vllm:request_decode_time_seconds", "0.6.6"),
    "llm_request_inference_seconds": named("vllm:request_inference_time_seconds", "0.6.6"),
    "llm_prompt_tokens_total": named("vllm:prompt_tokens_total", "0.5"),
    "llm_generation_tokens_total": named("vllm:generation_tokens_total", "0.5"),
    "llm_prompt_tokens_cached_total": named("vllm:prompt_tokens_cached_total", "0.16"),
    "llm_requests_finished_total": named("vllm:request_success_total", "0.5"),
    "llm_request_prompt_tokens": named("vllm:request_prompt_tokens", "0.5"),
    "llm_request_generation_tokens": named("vllm:request_generation_tokens", "0.5"),
    # It ends in _total and yet it is a histogram.
    "llm_iteration_tokens": named("vllm:iteration_tokens_total", "0.6.6"),
    "llm_http_requests_total": named("http_requests_total", "0.6"),
    "llm_admission_rejections_total": named("vllm:admission_rejections_total", "0.32"),
    "llm_corrupted_requests_total": named("vllm:corrupted_requests_total", "0.12"),
    "llm_requests_running": named("vllm:num_requests_running", "0.5"),
    "llm_requests_waiting": named("vllm:num_requests_waiting", "0.5"),
    "llm_kv_cache_usage_ratio": named("vllm:kv_cache_usage_perc", "0.9.2")
    + named("vllm:gpu_cache_usage_perc", "0.5", "0.11"),
    # Read from labels: kv_cache_size_tokens, or num_gpu_blocks x block_size before it.
    "llm_kv_cache_capacity_tokens": named("vllm:cache_config_info", "0.5"),
    "llm_preemptions_total": named("vllm:num_preemptions_total", "0.5"),
    # The gpu_ names counted blocks up to 0.8.5 and tokens from 0.9.1: their ratio is right everywhere.
    "llm_prefix_cache_queries_total": named("vllm:prefix_cache_queries_total", "0.9.2")
    + named("vllm:gpu_prefix_cache_queries_total", "0.7.3", "0.11"),
    "llm_prefix_cache_hits_total": named("vllm:prefix_cache_hits_total", "0.9.2")
    + named("vllm:gpu_prefix_cache_hits_total", "0.7.3", "0.11"),
    "llm_spec_decode_draft_tokens_total": named("vllm:spec_decode_num_draft_tokens_total", "0.5.5"),
    "llm_spec_decode_accepted_tokens_total": named("vllm:spec_decode_num_accepted_tokens_total", "0.5.5"),
    "llm_engine_sleep_state": named("vllm:engine_sleep_state", "0.12"),
    "llm_estimated_flops_per_gpu_total": named("vllm:estimated_flops_per_gpu_total", "0.18"),
}

ENGINE = Engine(
    kind="vllm",
    title="vLLM",
    hint="usually http://HOST:8000; start it without --disable-log-stats",
    names=NAMES,
    absent={
        "failed requests are counted nowhere; take llm_http_requests_total": ("llm_requests_failed_total",),
    },
)
