"""llama.cpp's server: counters and gauges, no histogram at all, no labels: the model has to be named to the sidecar."""

from slo.engines.table import Engine, named

ENGINE = Engine(
    kind="llamacpp",
    title="llama.cpp",
    hint="usually http://HOST:8080; start it with --metrics (in router mode the URL needs ?model=NAME)",
    names={
        "llm_prompt_tokens_total": named("llamacpp:prompt_tokens_total"),
        "llm_generation_tokens_total": named("llamacpp:tokens_predicted_total"),
        "llm_requests_running": named("llamacpp:requests_processing"),
        "llm_requests_waiting": named("llamacpp:requests_deferred"),
        "llm_kv_cache_usage_ratio": named("llamacpp:kv_cache_usage_ratio", until="it was removed"),
        "llm_spec_decode_draft_tokens_total": named("llamacpp:spec_decode_num_draft_tokens_total"),
        "llm_spec_decode_accepted_tokens_total": named("llamacpp:spec_decode_num_accepted_tokens_total"),
    },
    absent={
        "no histograms": (
            "llm_time_to_first_token_seconds",
            "llm_inter_token_latency_seconds",
            "llm_request_duration_seconds",
            "llm_request_queue_seconds",
            "llm_request_inference_seconds",
            "llm_request_prompt_tokens",
            "llm_request_generation_tokens",
            "llm_iteration_tokens",
        ),
        "no histograms; 1 / llamacpp:predicted_tokens_seconds is a mean": ("llm_time_per_output_token_seconds",),
        "no histograms; only the sum llamacpp:prompt_seconds_total": ("llm_request_prefill_seconds",),
        "no histograms; only the sum llamacpp:tokens_predicted_seconds_total": ("llm_request_decode_seconds",),
        "llamacpp:n_tokens_max is a high-water mark, not the capacity": ("llm_kv_cache_capacity_tokens",),
        "requests are not counted": (
            "llm_http_requests_total",
            "llm_requests_finished_total",
            "llm_requests_failed_total",
        ),
    },
)
