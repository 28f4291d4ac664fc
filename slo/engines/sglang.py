"""SGLang 0.4.6 to 0.5.23.

Tensor- and pipeline-parallel ranks other than 0 report only with --enable-metrics-for-all-schedulers: then sums over
ranks count a request several times. Some histograms are split by `is_streaming`; the label stays.
"""

from slo.engines.table import Engine, named

_TTFT = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0, 200.0, 400.0)
_E2E = (*_TTFT, 600.0, 1200.0, 1800.0, 2400.0)
_TOKEN = (0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.06, 0.08, 0.1, 0.2, 0.4, 0.6,
          0.8, 1.0, 2.0, 4.0, 6.0, 8.0)  # fmt: skip
# Above 30 s the list goes on to 3000 s; what lies between was not read.
_QUEUE = (0.0, 0.001, 0.005, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 15.0, 20.0, 30.0)

ENGINE = Engine(
    kind="sglang",
    title="SGLang",
    hint="usually http://HOST:30000; start it with --enable-metrics",
    names={
        "llm_time_to_first_token_seconds": named("sglang:time_to_first_token_seconds", buckets=_TTFT),
        "llm_time_per_output_token_seconds": named("sglang:request_time_per_output_token_seconds", buckets=_TOKEN),
        "llm_inter_token_latency_seconds": named("sglang:inter_token_latency_seconds", buckets=_TOKEN),
        "llm_request_duration_seconds": named("sglang:e2e_request_latency_seconds", buckets=_E2E),
        "llm_request_queue_seconds": named("sglang:queue_time_seconds", "0.5.8", buckets=_QUEUE)
        + named("sglang:queue_time_s", until="0.5.2", buckets=()),
        "llm_request_prefill_seconds": named(
            "sglang:per_stage_req_latency_seconds", where={"stage": "prefill_forward"}, buckets=()
        ),
        "llm_prompt_tokens_total": named("sglang:prompt_tokens_total"),
        "llm_generation_tokens_total": named("sglang:generation_tokens_total"),
        "llm_prompt_tokens_cached_total": named("sglang:cached_tokens_total"),
        "llm_requests_finished_total": named("sglang:num_requests_total"),
        "llm_requests_failed_total": named("sglang:num_aborted_requests_total")
        + named("sglang:num_aborted_requests", until="0.5.2"),
        "llm_request_prompt_tokens": named("sglang:prompt_tokens_histogram"),
        "llm_request_generation_tokens": named("sglang:generation_tokens_histogram"),
        "llm_http_requests_total": named(
            "sglang:http_responses_total", rename={"endpoint": "handler", "status_code": "status"}
        ),
        "llm_requests_running": named("sglang:num_running_reqs"),
        "llm_requests_waiting": named("sglang:num_queue_reqs"),
        "llm_kv_cache_usage_ratio": named("sglang:token_usage"),
        "llm_kv_cache_capacity_tokens": named("sglang:max_total_num_tokens"),
        "llm_preemptions_total": named("sglang:num_retracted_requests_total"),
    },
    absent={
        "no histogram of it; only stages of the scheduler": (
            "llm_request_decode_seconds",
            "llm_request_inference_seconds",
        ),
        "only the gauge sglang:cache_hit_rate, whose events are not counted; see llm_prompt_tokens_cached_total": (
            "llm_prefix_cache_queries_total",
            "llm_prefix_cache_hits_total",
        ),
        "only the gauges sglang:spec_accept_length and spec_accept_rate": (
            "llm_spec_decode_draft_tokens_total",
            "llm_spec_decode_accepted_tokens_total",
        ),
    },
    rename={"dp_rank": "engine"},
)
