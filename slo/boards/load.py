"""A load test beside the engine's own view: what was asked for, what came back, and where the engine's knee is."""

from slo import catalog
from slo.boards import common
from slo.boards.common import (
    INTERVAL,
    OF_MODEL,
    TOKENS_PER_SECOND,
    gauge,
    narrowed,
    of_buckets,
    quantile,
    rate,
    ratio,
    with_exemplars,
)
from slo.boards.layout import Dashboard, Row, Variable
from slo.boards.panel import Column, Label, Panel, Target
from slo.boards.panels import stat, table, timeseries, trend
from slo.catalog import Metric
from slo.promql import Matcher, aggregate
from slo.rules import recorded

_LOAD = Variable(
    name="load",
    label="Load",
    query=f'label_values({catalog.LOAD_SECONDS.name}{{model_name=~"$model_name"}}, load)',
)
_OF_LOAD = (OF_MODEL, Matcher("load", "=~", "$load"))
_OK = Matcher("outcome", "=", "ok")
_MODEL, _BY_LOAD = ("model_name",), ("load",)
_LEGEND = "{{model_name}}"
# Of the load offered: below this share the engine does not keep up, above it the rest is the edge of the run.
_KEEPS_UP = 0.95


def board() -> Dashboard:
    """The load board."""
    return common.dashboard(
        "load",
        "Load test",
        "A load test (slo-load run --listen-metrics) beside the engine's own view of the same requests. The client's "
        "series are another job's: job, instance and pod choose among sidecars only.",
        Row("Now", _now()),
        Row("Rate", _rates()),
        Row("Latency: client and engine", _latencies()),
        Row("The engine under this load", _engine()),
        Row("Knee of the curve, over the selected time", _knee()),
        variables=(*common.VARIABLES, _LOAD),
    )


# --- the client's series ---------------------------------------------------------------------------------------------


def _client(metric: Metric, *matchers: Matcher, suffix: str = "") -> str:
    """The load generator's series of the chosen models and loads."""
    return narrowed(metric.name + suffix, *matchers, *_OF_LOAD)


def _per_second(metric: Metric, *by: str, matchers: tuple[Matcher, ...] = (), suffix: str = "") -> str:
    return aggregate("sum", f"rate({_client(metric, *matchers, suffix=suffix)}[{INTERVAL}])", by)


def _client_quantile(q: float, metric: Metric, *by: str) -> str:
    return of_buckets(q, aggregate("sum", narrowed(recorded.buckets(metric), *_OF_LOAD), ("le", *by)))


def _offered(*by: str) -> str:
    return aggregate("sum", _client(catalog.LOAD_OFFERED), by)


def _achieved(*by: str) -> str:
    return _per_second(catalog.LOAD_REQUESTS, *by, matchers=(_OK,))


# --- panels ----------------------------------------------------------------------------------------------------------


def _now() -> tuple[Panel, ...]:
    ended = _per_second(catalog.LOAD_REQUESTS)
    # No failure yet means no series of failures: that is zero as long as requests end.
    failed = _per_second(catalog.LOAD_REQUESTS, matchers=(Matcher("outcome", "!=", "ok"),))
    return (
        stat("Offered", "Requests per second that an open loop's schedule asks for.", "reqps", Target(_offered())),
        stat("Achieved", "Complete answers per second.", "reqps", Target(_achieved())),
        stat("Output", "Output tokens per second, as the client received them.", TOKENS_PER_SECOND,
             Target(_per_second(catalog.LOAD_TOKENS))),
        stat("Failed", "Share of requests without a complete answer.", "percentunit",
             Target(ratio(f"({failed} or {ended} * 0)", ended)),
             thresholds=((None, "green"), (0.001, "orange"), (0.01, "red"))),
        stat("TTFT p95, client", "From the intended start, as users would feel it.", "s",
             Target(_client_quantile(0.95, catalog.LOAD_TTFT))),
        stat("TTFT p95, engine", "From arrival at the engine, as its own histogram says.", "s",
             Target(quantile(0.95, catalog.TTFT))),
        stat("TPOT p95, client", "Time per output token after the first.", "s",
             Target(_client_quantile(0.95, catalog.LOAD_TPOT))),
        stat("Send lag p99", "How late the client itself was. Above a few milliseconds its figures are its own.", "s",
             Target(of_buckets(0.99, _per_second(catalog.LOAD_SEND_LAG, "le", suffix="_bucket"))),
             thresholds=((None, "green"), (0.01, "orange"), (0.1, "red"))),
    )  # fmt: skip


def _rates() -> tuple[Panel, ...]:
    return (
        timeseries(
            "Offered and achieved rate",
            "Complete answers per second, as client and engine count them; dashed, what the schedule asks for. Where "
            "the lines part, the engine no longer keeps up.",
            "reqps",
            Target(_achieved(*_MODEL), f"client {_LEGEND}"),
            Target(rate(catalog.FINISHED, *_MODEL), f"engine {_LEGEND}"),
            Target(_offered(*_MODEL), f"offered {_LEGEND}", dashed=True),
        ),
        timeseries(
            "Output tokens per second",
            "As the client received and as the engine made them. The engine's line is higher when others use it too.",
            TOKENS_PER_SECOND,
            Target(_per_second(catalog.LOAD_TOKENS, *_MODEL), f"client {_LEGEND}"),
            Target(rate(catalog.GENERATION_TOKENS, *_MODEL), f"engine {_LEGEND}"),
        ),
        timeseries(
            "Requests by outcome",
            "How the client's requests ended, by category: ok, or what went wrong.",
            "reqps",
            Target(_per_second(catalog.LOAD_REQUESTS, "outcome"), "{{outcome}}"),
            stacked=True,
        ),
    )


def _latencies() -> tuple[Panel, ...]:
    pairs = (
        ("TTFT", catalog.LOAD_TTFT, catalog.TTFT, "The gap is network, proxy and the client's own lag."),
        ("TPOT", catalog.LOAD_TPOT, catalog.TPOT, "The gap is buffering on the way."),
        ("E2E", catalog.LOAD_E2E, catalog.E2E, "The gap is network, proxy and the client's own lag."),
    )
    return tuple(
        timeseries(
            f"{name}, client and engine",
            f"Quantiles of {name} over two minutes, as the client and the engine measure it; the engine's are dashed. "
            f"{gap}",
            "s",
            Target(_traced(_client_quantile(0.5, client, *_MODEL), client), f"client p50 {_LEGEND}", exemplar=True),
            Target(_client_quantile(0.95, client, *_MODEL), f"client p95 {_LEGEND}"),
            Target(quantile(0.5, engine, *_MODEL), f"engine p50 {_LEGEND}", dashed=True),
            Target(quantile(0.95, engine, *_MODEL), f"engine p95 {_LEGEND}", dashed=True),
        )
        for name, client, engine, gap in pairs
    )


def _traced(expr: str, client: Metric) -> str:
    return with_exemplars(expr, _client(client, suffix="_bucket"))


def _engine() -> tuple[Panel, ...]:
    return (
        timeseries(
            "Running and waiting requests",
            "Requests in the batches and in the queues. A queue that grows at a constant load is past the knee.",
            "short",
            Target(gauge("sum", catalog.RUNNING, *_MODEL), f"running {_LEGEND}"),
            Target(gauge("sum", catalog.WAITING, *_MODEL), f"waiting {_LEGEND}"),
        ),
        timeseries(
            "Queue time p95",
            "How long requests waited for their first scheduling. Below 0.3 s the first bucket hides all.",
            "s",
            Target(quantile(0.95, catalog.QUEUE_TIME, *_MODEL), _LEGEND),
        ),
        timeseries(
            "KV-cache use",
            "Share of KV-cache blocks in use by the fullest engine; a full cache is the usual reason of a knee.",
            "percentunit",
            Target(gauge("max", catalog.KV_USAGE, *_MODEL), _LEGEND),
            maximum=1,
            limits=(common.KV_CACHE_FULL,),
        ),
    )


# --- the knee --------------------------------------------------------------------------------------------------------


def _in_range(metric: Metric, *by: str, matchers: tuple[Matcher, ...] = (), suffix: str = "") -> str:
    """Increase over the selected time, per load."""
    return aggregate("sum", f"increase({_client(metric, *matchers, suffix=suffix)}[$__range])", (*by, *_BY_LOAD))


def _knee() -> tuple[Panel, ...]:
    offered = aggregate("max", f"max_over_time({_client(catalog.LOAD_OFFERED)}[$__range])", _BY_LOAD)
    achieved = ratio(_in_range(catalog.LOAD_REQUESTS, matchers=(_OK,)), _in_range(catalog.LOAD_SECONDS))
    failed = ratio(
        f"({_in_range(catalog.LOAD_REQUESTS)} - {_in_range(catalog.LOAD_REQUESTS, matchers=(_OK,))})",
        _in_range(catalog.LOAD_REQUESTS),
    )
    tokens = ratio(_in_range(catalog.LOAD_TOKENS), _in_range(catalog.LOAD_SECONDS))
    ttft, tpot = (_quantile_in_range(metric) for metric in (catalog.LOAD_TTFT, catalog.LOAD_TPOT))
    return (
        trend(
            "Knee",
            "Achieved rate and TTFT over the offered rate, one point for every rate that was run. The knee is where "
            "the rate flattens and TTFT climbs.",
            Column("Offered", offered, "reqps"),
            Column("Achieved", achieved, "reqps"),
            Column("TTFT p95", ttft, "s"),
        ),
        table(
            "Loads",
            "What became of each load. Kept up: achieved over offered rate; a closed loop offers none.",
            (Label("load", "Load"),),
            Column("Achieved", achieved, "reqps"),
            Column("Kept up", f"{achieved} / {offered}", "percentunit", ((None, "red"), (_KEEPS_UP, "green"))),
            Column("Output", tokens, TOKENS_PER_SECOND),
            Column("TTFT p95", ttft, "s"),
            Column("TPOT p95", tpot, "s"),
            Column("Failed", failed, "percentunit", ((None, "green"), (0.001, "orange"), (0.01, "red"))),
            width=12,
            height=9,
        ),
    )


def _quantile_in_range(metric: Metric) -> str:
    return of_buckets(0.95, _in_range(metric, "le", suffix="_bucket"))
