"""Why a model is slow or failing: its latencies and their parts, its work, its scheduler and KV cache."""

from collections.abc import Iterator, Sequence

from slo import catalog
from slo.boards import common
from slo.boards.common import TOKENS_PER_SECOND, buckets, gauge, mean, quantile, rate, ratio, series, with_exemplars
from slo.boards.layout import Dashboard, Row
from slo.boards.panel import Panel, Target, Text
from slo.boards.panels import heatmap, stat, state_timeline, timeseries
from slo.catalog import Metric
from slo.promql import Matcher, aggregate
from slo.sli import GENERATION_HANDLERS, GoodputSli, LatencySli
from slo.spec.model import Slo, Spec

_MODEL = "model_name"
_LEGEND = "{{model_name}}"
_ENGINE = ("model_name", "instance", "engine")
_ENGINE_LEGEND = "{{model_name}} {{instance}} engine {{engine}}"
# A span tells these of its request, and the sidecar puts its trace on their buckets.
_TRACED = (catalog.TTFT, catalog.TPOT, catalog.E2E)
_DIAMONDS = " Diamonds are requests: one opens its trace, where the data source links trace_id."
_GENERATION = Matcher("handler", "=~", GENERATION_HANDLERS)


def board(specs: Sequence[Spec]) -> Dashboard:
    """The engine board; the latency thresholds of `specs` are drawn into its panels."""
    slos = [slo for spec in specs for slo in spec.slos]
    return common.dashboard(
        "engine",
        "Engine",
        "Why a model is slow or failing: latency and its parts, work, scheduler and KV cache.",
        Row("Now", _now()),
        Row("Latency", (*_latencies(slos), *_heatmaps(), *_phases())),
        Row("Work", _work()),
        Row("Scheduler and KV cache", (*_scheduler(), *_cache())),
        Row("Sources", _sources()),
    )


def _now() -> tuple[Panel, ...]:
    return (
        stat("Requests", "Requests finished per second.", "reqps", Target(rate(catalog.FINISHED))),
        stat("Input", "Prompt tokens per second.", TOKENS_PER_SECOND, Target(rate(catalog.PROMPT_TOKENS))),
        stat("Output", "Output tokens per second.", TOKENS_PER_SECOND, Target(rate(catalog.GENERATION_TOKENS))),
        *(
            stat(f"{name} p95", f"95 % of requests had at most this {text}.", "s", Target(quantile(0.95, metric)))
            for name, text, metric in (
                ("TTFT", "time to first token", catalog.TTFT),
                ("TPOT", "time per output token", catalog.TPOT),
                ("E2E", "time from arrival to the last token", catalog.E2E),
            )
        ),
        stat(
            "Server errors",
            "Share of answers to generation requests that began with a 5xx status.",
            "percentunit",
            Target(_server_errors()),
            thresholds=((None, "green"), (0.001, "orange"), (0.01, "red")),
        ),
        stat(
            "Sources down",
            "Engines, GPUs and other sources that a sidecar cannot read; what they feed is missing below.",
            "none",
            Target(f"count({series(catalog.SOURCE_UP)} == 0) or count({series(catalog.SOURCE_UP)}) * 0"),
            thresholds=((None, "green"), (1, "red")),
        ),
    )


def _server_errors() -> str:
    # No failure yet means no series of failures: that is zero as long as there are answers.
    answers = rate(catalog.HTTP_REQUESTS, matchers=(_GENERATION,))
    errors = rate(catalog.HTTP_REQUESTS, matchers=(_GENERATION, Matcher("status", "=~", "5.+")))
    return ratio(f"({errors} or {answers} * 0)", answers)


# --- latency ---------------------------------------------------------------------------------------------------------


def _latencies(slos: Sequence[Slo]) -> Iterator[Panel]:
    for name, text, metric in (
        ("TTFT", "Time to first token, from arrival at the engine and queueing included.", catalog.TTFT),
        ("TPOT", "Time per output token after the first: the mean of each request.", catalog.TPOT),
        ("ITL", "Inter-token latency: each gap between two outputs, one per engine step.", catalog.ITL),
        ("E2E", "Request duration, from arrival to the last token.", catalog.E2E),
    ):
        limits = _thresholds(slos, metric)
        drawn = [f"{seconds:g} s ({', '.join(ids)})" for seconds, ids in limits.items()]
        yield timeseries(
            f"{name} quantiles",
            text + (f" Dashed, where the axis reaches it: the threshold {', '.join(drawn)}." if drawn else ""),
            "s",
            _traced(metric, quantile(0.5, metric, _MODEL), f"p50 {_LEGEND}"),
            *(Target(quantile(q, metric, _MODEL), f"p{q * 100:g} {_LEGEND}") for q in (0.95, 0.99)),
            width=12,
            limits=tuple(limits),
        )


def _traced(metric: Metric, expr: str, legend: str) -> Target:
    """A query over the buckets of `metric`, with exemplars where it has some."""
    if metric not in _TRACED:
        return Target(expr, legend)
    return Target(with_exemplars(expr, series(metric, suffix="_bucket")), legend, exemplar=True)


def _thresholds(slos: Sequence[Slo], metric: Metric) -> dict[float, list[str]]:
    """Threshold in seconds -> ids of the SLOs that set it on `metric`, in rising order."""
    found: dict[float, list[str]] = {}
    for slo in slos:
        conditions = slo.sli.conditions if isinstance(slo.sli, GoodputSli) else (slo.sli,)
        for sli in conditions:
            if isinstance(sli, LatencySli) and sli.metric == metric:
                found.setdefault(sli.threshold, []).append(slo.id)
    return dict(sorted(found.items()))


def _heatmaps() -> Iterator[Panel]:
    for name, metric in (("TTFT", catalog.TTFT), ("TPOT", catalog.TPOT), ("ITL", catalog.ITL), ("E2E", catalog.E2E)):
        yield heatmap(
            f"{name} distribution",
            f"How many per second had which {name}. Two bands are two kinds of requests, which a quantile hides."
            + (_DIAMONDS if metric in _TRACED else ""),
            "s",
            _traced(metric, buckets(metric), "{{le}}"),
            rate_unit="cps",
            width=6,
        )


def _phases() -> Iterator[Panel]:
    phases = (("queue", catalog.QUEUE_TIME), ("prefill", catalog.PREFILL_TIME), ("decode", catalog.DECODE_TIME))
    yield timeseries(
        "Where the time goes",
        "Mean time of a request in each phase, over the chosen models. Queue grows with load, prefill with prompts, "
        "decode with answers.",
        "s",
        *(Target(mean(metric), phase) for phase, metric in phases),
        width=12,
        stacked=True,
    )
    yield timeseries(
        "Phases, p95",
        "95th percentile of each phase. Below 0.3 s, where the first bucket ends, only the mean tells.",
        "s",
        *(Target(quantile(0.95, metric, _MODEL), f"{phase} {_LEGEND}") for phase, metric in phases),
        width=12,
    )


# --- work, scheduler, sources ----------------------------------------------------------------------------------------


def _work() -> tuple[Panel, ...]:
    return (
        timeseries(
            "Tokens per second",
            "Prompt tokens in, cached ones included, and output tokens out.",
            TOKENS_PER_SECOND,
            Target(rate(catalog.PROMPT_TOKENS, _MODEL), f"in {_LEGEND}"),
            Target(rate(catalog.GENERATION_TOKENS, _MODEL), f"out {_LEGEND}"),
            width=6,
        ),
        timeseries(
            "Finished requests by reason",
            "stop: the model ended; length: the token limit did; abort and error: somebody got no full answer.",
            "reqps",
            Target(rate(catalog.FINISHED, "finished_reason"), "{{finished_reason}}"),
            width=6,
            stacked=True,
        ),
        timeseries(
            "HTTP answers by status class",
            "Answers to generation requests. The status is the one the answer began with: an error inside a stream "
            "is not seen here.",
            "reqps",
            Target(rate(catalog.HTTP_REQUESTS, "status", matchers=(_GENERATION,)), "{{status}}"),
            width=6,
            stacked=True,
        ),
        timeseries(
            "Tokens per request",
            "Mean length of the prompts and answers of finished requests. Longer prompts make prefill, longer answers "
            "decode slower, at the same rate of requests.",
            "short",
            Target(mean(catalog.REQUEST_PROMPT_TOKENS, _MODEL), f"prompt {_LEGEND}"),
            Target(mean(catalog.REQUEST_GENERATION_TOKENS, _MODEL), f"answer {_LEGEND}"),
            width=6,
        ),
    )


def _scheduler() -> tuple[Panel, ...]:
    return (
        timeseries(
            "Running and waiting requests",
            "Requests in the batch of each engine and in its queue.",
            "short",
            Target(gauge("sum", catalog.RUNNING, *_ENGINE), f"running {_ENGINE_LEGEND}"),
            Target(gauge("sum", catalog.WAITING, *_ENGINE), f"waiting {_ENGINE_LEGEND}"),
        ),
        timeseries(
            "Tokens per engine step",
            "Mean number of tokens computed in one step: small steps leave the GPU idle.",
            "short",
            Target(mean(catalog.ITERATION_TOKENS, *_ENGINE), _ENGINE_LEGEND),
        ),
        timeseries(
            "Preemptions per second",
            "Running requests pushed back into the queue for want of KV blocks; their work is done again.",
            "cps",
            Target(rate(catalog.PREEMPTIONS, *_ENGINE), _ENGINE_LEGEND),
        ),
    )


def _cache() -> tuple[Panel, ...]:
    capacity = gauge("max", catalog.KV_CAPACITY, *_ENGINE)
    return (
        timeseries(
            "KV-cache use",
            "Share of KV-cache blocks in use, by engine. Above the dashed line requests are soon preempted.",
            "percentunit",
            Target(gauge("max", catalog.KV_USAGE, *_ENGINE), _ENGINE_LEGEND),
            maximum=1,
            limits=(common.KV_CACHE_FULL,),
        ),
        timeseries(
            "KV-cache tokens",
            "Tokens held in the KV cache of each engine; dashed, how many it can hold.",
            "short",
            Target(f"{gauge('max', catalog.KV_USAGE, *_ENGINE)} * {capacity}", f"used {_ENGINE_LEGEND}"),
            Target(capacity, f"capacity {_ENGINE_LEGEND}", dashed=True),
        ),
        timeseries(
            "Prefix-cache hit ratio",
            "Share of the prompt tokens looked up in the prefix cache that were found: work that prefill is spared.",
            "percentunit",
            Target(ratio(rate(catalog.PREFIX_HITS, _MODEL), rate(catalog.PREFIX_QUERIES, _MODEL)), _LEGEND),
            maximum=1,
        ),
    )


def _sources() -> tuple[Panel, ...]:
    by, legend = ("instance", "source", "endpoint"), "{{instance}} {{source}} {{endpoint}}"
    return (
        state_timeline(
            "Sources",
            "Whether each sidecar can read its sources. What a source feeds is missing while it is down, not zero.",
            "none",
            Target(aggregate("min", series(catalog.SOURCE_UP), by), legend),
            texts=(Text(0, "down", "red"), Text(1, "up", "green")),
        ),
        timeseries(
            "Time to read a source",
            "How long the last reading took. The scrape of the sidecar waits for it.",
            "s",
            Target(aggregate("max", series(catalog.SOURCE_SECONDS), by), legend),
            width=12,
        ),
    )
