"""LMDeploy. `finished_reason` holds its ResponseType."""

from slo.engines.table import Engine, named

_TOKEN = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
          80.0)  # fmt: skip

ENGINE = Engine(
    kind="lmdeploy",
    title="LMDeploy",
    hint="usually http://HOST:23333, with its metrics turned on",
    names={
        "llm_time_to_first_token_seconds": named("lmdeploy:time_to_first_token_seconds"),
        "llm_time_per_output_token_seconds": named("lmdeploy:time_per_output_token_seconds", buckets=_TOKEN),
        "llm_inter_token_latency_seconds": named("lmdeploy:iter_token_latency", buckets=_TOKEN),
        "llm_request_duration_seconds": named("lmdeploy:e2e_request_latency_seconds"),
        "llm_request_queue_seconds": named("lmdeploy:request_queue_time_seconds", buckets=()),
        "llm_request_prefill_seconds": named("lmdeploy:request_prefill_time_seconds", buckets=()),
        "llm_request_decode_seconds": named("lmdeploy:request_decode_time_seconds", buckets=()),
        "llm_request_inference_seconds": named("lmdeploy:request_inference_time_seconds", buckets=()),
        "llm_prompt_tokens_total": named("lmdeploy:prompt_tokens_total"),
        "llm_generation_tokens_total": named("lmdeploy:generation_tokens_total"),
        "llm_prompt_tokens_cached_total": named("lmdeploy:cached_tokens_total"),
        "llm_requests_finished_total": named("lmdeploy:request_success_total"),
        "llm_request_prompt_tokens": named("lmdeploy:request_prompt_tokens"),
        "llm_request_generation_tokens": named("lmdeploy:request_generation_tokens"),
        "llm_requests_running": named("lmdeploy:num_requests_running"),
        "llm_requests_waiting": named("lmdeploy:num_requests_waiting"),
        "llm_kv_cache_usage_ratio": named("lmdeploy:gpu_cache_usage_perc"),
    },
    absent={
        "only the gauge lmdeploy:prefix_cache_hit_rate; see llm_prompt_tokens_cached_total": (
            "llm_prefix_cache_queries_total",
            "llm_prefix_cache_hits_total",
        ),
        "the names of lmdeploy:spec_decode_* were not read": (
            "llm_spec_decode_draft_tokens_total",
            "llm_spec_decode_accepted_tokens_total",
        ),
    },
)
