"""NVIDIA NIM for LLMs. 1.x serves names like vLLM's without a prefix; 2.x serves vLLM, whose own names are read too."""

from slo.engines import vllm
from slo.engines.table import Engine, named

_OWN = {
    # Bucket edges of NIM 1.x were not read.
    "llm_time_to_first_token_seconds": named("time_to_first_token_seconds", buckets=()),
    "llm_time_per_output_token_seconds": named("time_per_output_token_seconds", buckets=()),
    "llm_request_duration_seconds": named("e2e_request_latency_seconds", buckets=()),
    "llm_prompt_tokens_total": named("prompt_tokens_total"),
    "llm_generation_tokens_total": named("generation_tokens_total"),
    "llm_requests_finished_total": named("request_success_total"),
    "llm_requests_failed_total": named("request_failure_total"),
    "llm_request_prompt_tokens": named("request_prompt_tokens"),
    "llm_request_generation_tokens": named("request_generation_tokens"),
    "llm_requests_running": named("num_requests_running"),
    "llm_requests_waiting": named("num_requests_waiting"),
    "llm_kv_cache_usage_ratio": named("gpu_cache_usage_perc"),
}

ENGINE = Engine(
    kind="nim",
    title="NIM",
    path="/v1/metrics",
    hint="usually http://HOST:8000/v1/metrics",
    names={family: _OWN.get(family, ()) + vllm.NAMES.get(family, ()) for family in _OWN | vllm.NAMES},
    client_faults="",  # 1.x does not tell why requests failed; 2.x is vLLM: state that
)
