"""Text Generation Inference 3. No labels but a few of its own: the model has to be named to the sidecar."""

from itertools import accumulate, repeat
from operator import mul

from slo.engines.table import Engine, named

# Every *_duration: 35 steps of x 1.5 up from 0.0001 s, multiplied one by one as the router does, to the last digit.
_DURATION = tuple(accumulate(repeat(1.5, 35), mul, initial=0.0001))[1:]

ENGINE = Engine(
    kind="tgi",
    title="TGI",
    hint="usually http://HOST:80, or the port of --prometheus-port",
    names={
        "llm_time_per_output_token_seconds": named("tgi_request_mean_time_per_token_duration", buckets=_DURATION),
        "llm_request_duration_seconds": named("tgi_request_duration", buckets=_DURATION),
        "llm_request_queue_seconds": named("tgi_request_queue_duration", buckets=_DURATION),
        "llm_request_inference_seconds": named("tgi_request_inference_duration", buckets=_DURATION),
        # The sums of the histograms of lengths: the tokens of all finished requests.
        "llm_prompt_tokens_total": named("tgi_request_input_length_sum"),
        "llm_generation_tokens_total": named("tgi_request_generated_tokens_sum"),
        "llm_requests_finished_total": named("tgi_request_success"),
        "llm_requests_failed_total": named("tgi_request_failure", rename={"err": "reason"}),
        "llm_request_prompt_tokens": named("tgi_request_input_length"),
        "llm_request_generation_tokens": named("tgi_request_generated_tokens"),
        "llm_requests_running": named("tgi_batch_current_size"),
        "llm_requests_waiting": named("tgi_queue_size"),
        "llm_kv_cache_capacity_tokens": named("tgi_batch_max_total_tokens"),
    },
    absent={
        "no metric of it; only whole requests and whole batches are timed": (
            "llm_time_to_first_token_seconds",
            "llm_inter_token_latency_seconds",
        ),
        "tgi_batch_inference_duration times batches, not requests": (
            "llm_request_prefill_seconds",
            "llm_request_decode_seconds",
        ),
        "only tokens of the batch (tgi_batch_current_max_tokens), not of the cache": ("llm_kv_cache_usage_ratio",),
        "no status codes; finished and failed requests tell availability": ("llm_http_requests_total",),
        "only tgi_request_skipped_tokens, a histogram of the tokens gained": (
            "llm_spec_decode_draft_tokens_total",
            "llm_spec_decode_accepted_tokens_total",
        ),
    },
    # Dropped: the client had gone before its turn came. Forks say "cancelled".
    client_faults="validation|template|dropped|cancelled",
)
