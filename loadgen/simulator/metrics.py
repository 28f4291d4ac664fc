"""The simulated engine's exposition: vLLM 0.32's families, read from the model at every scrape.

Families are named through the catalogue where it knows them. Every HELP text says that the numbers are simulated.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from prometheus_client import GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from loadgen.simulator.gpu import MEMORY_UTILIZATION
from loadgen.simulator.model import Engine
from loadgen.simulator.stats import EngineStats, Histogram
from slo import catalog

ENGINE = "0"
FINISHED_REASONS = ("stop", "length", "abort", "error", "repetition")
CACHE_TIERS = ("device", "host", "p2p", "disk", "external_unspecified")
# What this engine never does (multi-modal input, KV connectors, MFU estimates), yet vLLM always exposes.
ALWAYS_ZERO = (
    "vllm:external_prefix_cache_queries_total",
    "vllm:external_prefix_cache_hits_total",
    "vllm:mm_cache_queries_total",
    "vllm:mm_cache_hits_total",
    "vllm:estimated_flops_per_gpu_total",
    "vllm:estimated_read_bytes_per_gpu_total",
    "vllm:estimated_write_bytes_per_gpu_total",
)


class Row(NamedTuple):
    """A gauge or counter: its values by the value of `label`, or one value under "" when it has no label of its own."""

    name: str
    text: str
    values: dict[str, float]
    label: str = ""


class EngineCollector(Collector):
    """All vllm:* families of one engine."""

    def __init__(self, engine: Engine, model_name: str) -> None:
        self._engine = engine
        self._labels = {"engine": ENGINE, "model_name": model_name}

    def collect(self) -> Iterator[Metric]:
        """The families as they are now."""
        stats = self._engine.stats
        yield from (self._family(GaugeMetricFamily, row) for row in _gauges(self._engine))
        yield from (self._family(CounterMetricFamily, row) for row in _counters(stats))
        for name, text, histogram in _histograms(stats):
            family = HistogramMetricFamily(name, _simulated(text), labels=tuple(self._labels))
            family.add_metric(tuple(self._labels.values()), histogram.cumulative(), histogram.sum)
            yield family
        yield _rejections(self._labels["model_name"])
        yield _cache_config(self._engine)

    def _family(self, kind: type[GaugeMetricFamily] | type[CounterMetricFamily], row: Row) -> Metric:
        family = kind(row.name, _simulated(row.text))
        for value, number in row.values.items():
            family.add_sample(row.name, self._labels | ({row.label: value} if row.label else {}), number)
        return family


def registry(engine: Engine, model_name: str) -> CollectorRegistry:
    """A registry of its own with the engine's families and, like vLLM's, those of the process."""
    result = CollectorRegistry()
    result.register(EngineCollector(engine, model_name))
    GCCollector(result)
    PlatformCollector(result)
    ProcessCollector(registry=result)
    return result


def _gauges(engine: Engine) -> Iterable[Row]:
    waiting = len(engine.waiting)
    reasons: dict[str, float] = {"capacity": waiting, "deferred": 0}
    states: dict[str, float] = {"awake": 1, "weights_offloaded": 0, "discard_all": 0}
    return (
        _row(catalog.RUNNING, len(engine.running)),
        _row(catalog.WAITING, waiting),
        Row("vllm:num_requests_waiting_by_reason", "Requests waiting, by reason.", reasons, "reason"),
        _row(catalog.KV_USAGE, engine.pool.usage),
        Row(_upstream(catalog.SLEEP_STATE), catalog.SLEEP_STATE.help, states, "sleep_state"),
    )


def _counters(stats: EngineStats) -> Iterable[Row]:
    cached, computed = stats.cached_prompt_tokens, stats.prompt_tokens - stats.cached_prompt_tokens
    finished: dict[str, float] = {reason: stats.finished[reason] for reason in FINISHED_REASONS}
    sources: dict[str, float] = {"local_compute": computed, "local_cache_hit": cached, "external_kv_transfer": 0}
    tiers = dict.fromkeys(CACHE_TIERS, 0.0) | {"device": stats.prefix_hits}
    return (
        _row(catalog.PROMPT_TOKENS, stats.prompt_tokens),
        _row(catalog.GENERATION_TOKENS, stats.generation_tokens),
        _row(catalog.CACHED_PROMPT_TOKENS, cached),
        _row(catalog.PREEMPTIONS, stats.preemptions),
        _row(catalog.PREFIX_QUERIES, stats.prefix_queries),
        _row(catalog.PREFIX_HITS, stats.prefix_hits),
        Row(_upstream(catalog.FINISHED), catalog.FINISHED.help, finished, "finished_reason"),
        Row("vllm:prompt_tokens_by_source_total", "Prompt tokens by where their KV came from.", sources, "source"),
        Row("vllm:prompt_tokens_cached_by_source_total", "Prompt tokens cached, by tier.", tiers, "source"),
        *(Row(name, "Always 0 here.", {"": 0.0}) for name in ALWAYS_ZERO),
    )


def _histograms(stats: EngineStats) -> Iterable[tuple[str, str, Histogram]]:
    known = {
        catalog.TTFT: stats.ttft,
        catalog.ITL: stats.itl,
        catalog.TPOT: stats.tpot,
        catalog.E2E: stats.e2e,
        catalog.QUEUE_TIME: stats.queue,
        catalog.PREFILL_TIME: stats.prefill,
        catalog.DECODE_TIME: stats.decode,
        catalog.INFERENCE_TIME: stats.inference,
        catalog.ITERATION_TOKENS: stats.iteration_tokens,
        catalog.REQUEST_PROMPT_TOKENS: stats.request_prompt_tokens,
        catalog.REQUEST_GENERATION_TOKENS: stats.request_generation_tokens,
    }
    yield from ((_upstream(metric), metric.help, histogram) for metric, histogram in known.items())
    yield "vllm:request_params_n", "Answers asked for per request.", stats.params_n
    yield "vllm:request_params_max_tokens", "Limit of output tokens per request.", stats.params_max_tokens
    yield "vllm:request_max_num_generation_tokens", "Longest answer of a request.", stats.max_generation_tokens
    yield "vllm:request_num_preemptions", "Preemptions of a finished request.", stats.request_preemptions
    yield "vllm:request_prefill_kv_computed_tokens", "Prompt tokens not cached.", stats.prefill_computed_tokens


def _rejections(model_name: str) -> Metric:
    name = _upstream(catalog.REJECTIONS)
    family = CounterMetricFamily(name, _simulated(catalog.REJECTIONS.help))
    for reason in ("max_num_queued_reqs", "max_num_queued_tokens"):
        family.add_sample(name, {"model_name": model_name, "reason": reason}, 0)
    return family


def _cache_config(engine: Engine) -> Metric:
    tokens = engine.pool.total * engine.config.block_size
    labels = {
        "engine": ENGINE,
        "block_size": str(engine.config.block_size),
        "cache_dtype": "auto",
        "enable_prefix_caching": "True",
        "gpu_memory_utilization": str(MEMORY_UTILIZATION),
        "kv_cache_max_concurrency": str(tokens / engine.config.max_model_len),
        "kv_cache_size_tokens": str(tokens),
        "num_gpu_blocks": str(engine.pool.total),
    }
    name = _upstream(catalog.KV_CAPACITY)
    family = GaugeMetricFamily(name, _simulated("The KV cache's configuration, in labels."))
    family.add_sample(name, labels, 1)
    return family


def _row(metric: catalog.Metric, value: float) -> Row:
    return Row(_upstream(metric), metric.help, {"": value})


def _upstream(metric: catalog.Metric) -> str:
    return metric.upstream["vllm"][0].name


def _simulated(text: str) -> str:
    return f"{text} (simulated)"
