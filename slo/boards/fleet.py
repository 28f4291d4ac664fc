"""The first board to open: is every promise kept, and what does each model do, hold and cost?"""

from collections.abc import Sequence

from slo import catalog
from slo.boards import common
from slo.boards.common import TOKENS_PER_SECOND, gauge, gpu_rate, link, of_models, quantile, rate
from slo.boards.layout import Dashboard, Row
from slo.boards.levels import Levels
from slo.boards.panel import Column, Label, Panel, Target
from slo.boards.panels import table, timeseries
from slo.rules import recorded
from slo.rules.recorded import BUDGET_LEFT, GOOD_1H, GOOD_5M, TOTAL_1H, TOTAL_5M
from slo.sli import GoodputSli
from slo.spec.model import Spec

_MODEL = "model_name"
_LEGEND = "{{model_name}}"


def board(specs: Sequence[Spec]) -> Dashboard:
    """The fleet board for these specs."""
    return common.dashboard(
        "fleet",
        "Fleet",
        "Every SLO and every model at a glance. Click an SLO or a model to see why.",
        Row("Service levels", (_slos(Levels.of(specs)),)),
        Row("Models", (_models(),)),
        Row("Traffic", (*_tokens(), _goodput(specs))),
        Row("Saturation", _saturation()),
        Row("GPUs, energy and cost", _energy()),
    )


def _slos(levels: Levels) -> Panel:
    return table(
        "SLOs",
        f"State: {common.STATE_RULE} A burn rate of 1 spends the budget exactly within the period. Empty: the rules "
        "that slo-gen build writes are not loaded.",
        levels.labels(slo=link("slo", "slo"), model_name=link("engine", _MODEL)),
        Column("State", levels.state(), "none", texts=common.STATES),
        Column("Alert", levels.alert(), "none", texts=common.ALERTS),
        Column("Objective", levels.objectives(), "percentunit", decimals=common.SHARE_DECIMALS),
        Column("Good, 5m", levels.good_ratio(GOOD_5M, TOTAL_5M), "percentunit", decimals=common.SHARE_DECIMALS),
        Column("Good, 1h", levels.good_ratio(GOOD_1H, TOTAL_1H), "percentunit", decimals=common.SHARE_DECIMALS),
        Column("Budget left", levels.each(BUDGET_LEFT), "percentunit", common.BUDGET_COLORS),
        Column("Burn rate, 1h", levels.each(recorded.burn_rate("1h")), "none", common.BURN_COLORS),
        height=9,
        lowest_first="Budget left",
    )


def _models() -> Panel:
    return table(
        "Models",
        "What each model does now. Latencies are quantiles over all its replicas; KV cache is the fullest engine's. "
        "Energy and cost are those of the GPUs it runs on, idle time included; cost needs slo-exporter --price.",
        (Label(_MODEL, "Model", link("engine", _MODEL)),),
        Column("Requests/s", rate(catalog.FINISHED, _MODEL), "reqps"),
        Column("Input", rate(catalog.PROMPT_TOKENS, _MODEL), TOKENS_PER_SECOND),
        Column("Output", rate(catalog.GENERATION_TOKENS, _MODEL), TOKENS_PER_SECOND),
        Column("TTFT p95", quantile(0.95, catalog.TTFT, _MODEL), "s"),
        Column("TPOT p95", quantile(0.95, catalog.TPOT, _MODEL), "s"),
        Column("Running", gauge("sum", catalog.RUNNING, _MODEL), "short"),
        Column("Waiting", gauge("sum", catalog.WAITING, _MODEL), "short"),
        Column("KV cache", gauge("max", catalog.KV_USAGE, _MODEL), "percentunit", common.KV_CACHE_COLORS),
        Column("GPUs", _gpus(), "none"),
        Column("Energy / 1M tokens", common.energy_per_million(), "joule"),
        Column("Cost / 1M tokens", common.cost_per_million(), "short"),
    )


def _tokens() -> tuple[Panel, ...]:
    return (
        timeseries(
            "Input tokens per second",
            "Prompt tokens, those found in a cache included.",
            TOKENS_PER_SECOND,
            Target(rate(catalog.PROMPT_TOKENS, _MODEL), _LEGEND),
            stacked=True,
        ),
        timeseries(
            "Output tokens per second",
            "Tokens generated.",
            TOKENS_PER_SECOND,
            Target(rate(catalog.GENERATION_TOKENS, _MODEL), _LEGEND),
            stacked=True,
        ),
    )


def _goodput(specs: Sequence[Spec]) -> Panel:
    """Of the goodput SLOs where there are any; else of every SLO whose event is a request."""
    slos = [slo for spec in specs for slo in spec.slos]
    ids = [slo.id for slo in slos if isinstance(slo.sli, GoodputSli)]
    ids = ids or [slo.id for slo in slos if slo.sli.unit_of_count == "requests"]
    good = Levels.of(specs, f'slo=~"{"|".join(ids)}"')
    return timeseries(
        "Goodput",
        "Requests per second that met every condition of the SLO, over the last five minutes.",
        "reqps",
        Target(good.each(GOOD_5M), f"{{{{slo}}}} {good.legend}"),
    )


def _saturation() -> tuple[Panel, ...]:
    return (
        timeseries(
            "Running requests",
            "Requests in the running batches.",
            "short",
            Target(gauge("sum", catalog.RUNNING, _MODEL), _LEGEND),
        ),
        timeseries(
            "Waiting requests",
            "Requests that wait to be scheduled. A queue that stays is missing capacity, and shows in TTFT first.",
            "short",
            Target(gauge("sum", catalog.WAITING, _MODEL), _LEGEND),
        ),
        timeseries(
            "KV-cache use",
            "Share of KV-cache blocks in use by the fullest engine of a model. Near 100 % requests are preempted.",
            "percentunit",
            Target(gauge("max", catalog.KV_USAGE, _MODEL), _LEGEND),
            maximum=1,
            limits=(common.KV_CACHE_FULL,),
        ),
    )


def _energy() -> tuple[Panel, ...]:
    return (
        timeseries("GPUs", "GPUs that serve a model.", "none", Target(_gpus(), _LEGEND), width=6),
        timeseries(
            "Power",
            "Mean power of the GPUs that serve a model, from their energy counters.",
            "watt",
            Target(of_models(gpu_rate(catalog.GPU_ENERGY)), _LEGEND),
            width=6,
            stacked=True,
        ),
        timeseries(
            "Energy per million output tokens",
            "Energy of the GPUs that serve a model over the output tokens it made, scaled to a million.",
            "joule",
            Target(common.energy_per_million(), _LEGEND),
            width=6,
        ),
        timeseries(
            "Cost per million output tokens",
            "Cost of the GPUs that serve a model over the output tokens it made, scaled to a million, in the currency "
            "that slo-exporter --price names.",
            "short",
            Target(common.cost_per_million("currency"), "{{model_name}}, {{currency}}"),
            width=6,
        ),
    )


def _gpus() -> str:
    return f"count by (model_name) ({gauge('max', catalog.ENGINE_GPU_INFO, _MODEL, 'gpu_uuid')})"
