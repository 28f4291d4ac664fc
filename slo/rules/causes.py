"""Likely causes, looked for in signals that engine and GPU give: a series per cause that is seen now.

Alerts name them, boards can show them. A cause is a hint and no verdict: it says what else is out of the ordinary.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from slo import catalog
from slo.catalog import Metric
from slo.promql import EXPORTER, Matcher, Scope, Selector, aggregate, duration, sum_rate
from slo.rules import recorded
from slo.rules.rule import RecordingRule, RuleGroup
from slo.sli.slices import tokens_until
from slo.spec.model import Spec
from slo.windows import MINUTE

# Reasons for which a GPU lowers its clocks in an emergency; the power cap is everyday business and told apart.
HARMFUL_THROTTLING = "hw_slowdown|hw_thermal|sw_thermal|hw_power_brake"
FULL_CACHE = 0.95
# How much more than an hour ago is out of the ordinary.
_USUAL_SPREAD = 1.5


# PromQL in a scope; ValueError where its source lacks a family.
_Expr = Callable[[Scope], str]


@dataclass(frozen=True, slots=True)
class _Cause:
    """What the alert says, which its value follows; `expr` has a value only while the cause is seen."""

    says: str
    expr: _Expr


def group(specs: Sequence[Spec], source: str) -> RuleGroup:
    """The causes that `source` can show, per model and whatever else the specs group by."""
    by = dict.fromkeys(("model_name", *(label for spec in specs for label in spec.group_by)))
    scope = Scope(source, (), tuple(by))
    return RuleGroup("llm-causes", "1m", tuple(_rules(scope)))


def _rules(scope: Scope) -> Iterable[RecordingRule]:
    for name, level in _LEVELS.items():
        if expr := _rendered(level, scope):
            yield RecordingRule(name, expr)
    for cause in _CAUSES + (_OF_GPUS if scope.source == EXPORTER else ()):
        if expr := _rendered(cause.expr, scope):
            yield RecordingRule(recorded.CAUSE, expr, {"cause": cause.says})


def _rendered(expr: _Expr, scope: Scope) -> str | None:
    """The expression, or None where the source lacks a family that it needs."""
    try:
        return expr(scope)
    except ValueError:
        return None


def busy_engines_without_tokens(seconds: int, by: Sequence[str], scope: Scope) -> str:
    """PromQL: requests in flight, per `by`, where for `seconds` there were some and no token came."""
    window = duration(seconds)
    waiting, running = (
        aggregate("sum", scope.over("min_over_time", Selector(metric), window), by)
        for metric in (catalog.WAITING, catalog.RUNNING)
    )
    before, now = tokens_until(by, scope, ago=window), tokens_until(by, scope, within=window)
    return f"{running} + {waiting} > 0 and {now} == {before}"


# --- of engines ------------------------------------------------------------------------------------------------------


def _mean(metric: Metric) -> _Expr:
    """The mean of a histogram over five minutes, weighted by its observations."""
    parts = (Selector(metric, "_sum"), Selector(metric, "_count"))

    def expr(scope: Scope) -> str:
        total, count = (sum_rate(part, "5m", scope) for part in parts)
        return f"{total} / ({count} > 0)"

    return expr


_LEVELS: dict[str, _Expr] = {
    recorded.PREFILL_5M: _mean(catalog.PREFILL_TIME),
    recorded.ITL_5M: _mean(catalog.ITL),
    recorded.PROMPT_5M: _mean(catalog.REQUEST_PROMPT_TOKENS),
    recorded.REQUESTS_5M: lambda scope: sum_rate(Selector(catalog.E2E, "_count"), "5m", scope),
}


def _risen(level: str) -> _Expr:
    """How many times as high a level is as it was an hour ago, where that is out of the ordinary."""
    usual = f"avg_over_time({level}[30m] offset 1h)"

    def expr(scope: Scope) -> str:
        _LEVELS[level](scope)  # ValueError where the level itself cannot be had
        return f"{level} / ({usual} > 0) > {_USUAL_SPREAD}"

    return expr


def _gauge(function: str, metric: Metric, scope: Scope) -> str:
    return aggregate(function, scope.over("avg_over_time", Selector(metric), "5m"), scope.by)


def _waiting(scope: Scope) -> str:
    return f"{_gauge('sum', catalog.WAITING, scope)} >= 1"


def _full(scope: Scope) -> str:
    # In percent: alerts would write a share as 992.3m.
    return f"100 * {_gauge('max', catalog.KV_USAGE, scope)} > {100 * FULL_CACHE:g}"


def _per_minute(*selectors: Selector) -> _Expr:
    return lambda scope: f"({' + '.join(sum_rate(s, '5m', scope) for s in selectors)}) * 60 > 0"


def _stalled(scope: Scope) -> str:
    each = tuple(dict.fromkeys((*scope.by, "instance", "engine")))
    return aggregate("count", busy_engines_without_tokens(2 * MINUTE, each, scope), scope.by)


_SERVER_ERRORS = Selector(catalog.HTTP_REQUESTS, "", (Matcher("status", "=~", "5xx|5.."),))

_CAUSES = (
    _Cause("Requests wait in the queue", _waiting),
    _Cause("The KV cache is full, percent in use", _full),
    _Cause("Requests are preempted for want of KV cache, per minute", _per_minute(Selector(catalog.PREEMPTIONS))),
    _Cause("Engines with requests but without tokens for 2m", _stalled),
    _Cause("Answers with server errors (5xx), per minute", _per_minute(_SERVER_ERRORS)),
    _Cause("Prefill takes longer than an hour ago, times", _risen(recorded.PREFILL_5M)),
    _Cause("Steps take longer than an hour ago, times", _risen(recorded.ITL_5M)),
    _Cause("Prompts are longer than an hour ago, times", _risen(recorded.PROMPT_5M)),
    _Cause("More requests come than an hour ago, times", _risen(recorded.REQUESTS_5M)),
    _Cause(
        "Engines restarted in the last 15m",
        lambda scope: (
            f"{aggregate('sum', scope.over('resets', Selector(catalog.GENERATION_TOKENS), '15m'), scope.by)} > 0"
        ),
    ),
)


# --- of GPUs, through the join ---------------------------------------------------------------------------------------


def _gpus(condition: str) -> _Expr:
    """GPUs of a model for which `condition`, per job, instance and gpu_uuid, has a value."""
    joined = f"{catalog.ENGINE_GPU_INFO.name} * on (job, instance, gpu_uuid) group_left () ({condition} ^ 0)"
    return lambda scope: aggregate("count", joined, scope.by)


def _throttled(reasons: str) -> str:
    series = Selector(catalog.GPU_THROTTLED, "", (Matcher("reason", "=~", reasons),)).render(Scope())
    return f"(max by (job, instance, gpu_uuid) (avg_over_time({series}[5m])) > 0.5)"


_XID = (
    f"(max by (job, instance, gpu_uuid) (changes({catalog.GPU_LAST_XID.name}[15m]) > 0 "
    f"or {catalog.GPU_XID_LAST_SEEN.name} > time() - 900))"
)

_OF_GPUS = (
    _Cause("GPUs with clocks held down by heat or hardware", _gpus(_throttled(HARMFUL_THROTTLING))),
    _Cause("GPUs at their power cap", _gpus(_throttled("power_cap"))),
    _Cause("GPUs with an XID error in the last 15m", _gpus(_XID)),
)
