"""Alerts on what the SLOs stand on: the sidecar's sources, the engines, the GPUs."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from slo import catalog
from slo.promql import EXPORTER, Matcher, Scope, Selector
from slo.rules import alerts
from slo.rules.causes import FULL_CACHE, HARMFUL_THROTTLING, busy_engines_without_tokens
from slo.rules.rule import AlertingRule, Links, RuleGroup
from slo.spec.model import Spec
from slo.windows import MINUTE

# What tells one engine from another wherever it runs; labels that a scrape does not have are simply absent.
_ENGINE = ("namespace", "pod", "job", "instance", "model_name", "engine")
_POD = ("namespace", "pod", "job", "instance")
# What the boards can be narrowed by.
_VARIABLES = ("namespace", "job", "instance", "model_name")
_WHICH_ENGINE = "{{ $labels.model_name }} engine {{ $labels.engine }} on {{ or $labels.pod $labels.instance }}"
_WHICH_GPU = "GPU {{ $labels.gpu }} ({{ $labels.gpu_uuid }}) on {{ or $labels.pod $labels.instance }}"
# What the sidecar reads has a URL or is local; a GPU that no longer answers is named by its UUID among them.
_SOURCES = "https?://.*|local"


def group(specs: Sequence[Spec], source: str, links: Links, *, isolated: bool) -> RuleGroup:
    """The alerts that `source` can feed: without the sidecar those on engines only. Isolated SLOs watch themselves."""
    rules = [] if isolated else [alerts.without_data(links)]
    if source == EXPORTER:
        exact = any(slo.exact for spec in specs for slo in spec.slos)
        rules += [*_sidecar(), *(_spans() if exact else ()), *_gpus()]
    rules += _engines(Scope(source, (), _ENGINE))
    return RuleGroup("llm-health", "1m", tuple(_linked(rule, links) for rule in rules))


def _linked(rule: AlertingRule, links: Links) -> AlertingRule:
    if "runbook_url" in rule.annotations:
        return rule
    board = links.board("gpu" if rule.alert.startswith("LlmGpu") else "engine", _VARIABLES)
    further = {"dashboard_url": board, "runbook_url": links.runbook(rule.alert)}
    return replace(rule, annotations={**rule.annotations, **further})


def _alert(
    name: str, expr: str, summary: str, description: str, *, hold: str = "", keep: str = "", severity: str = "ticket"
) -> AlertingRule:
    annotations = {"summary": summary, "description": description}
    return AlertingRule(
        alert=name, expr=expr, hold=hold, keep=keep, labels={"severity": severity}, annotations=annotations
    )


# --- the sidecar -----------------------------------------------------------------------------------------------------


def _sidecar() -> Iterable[AlertingRule]:
    up, by_deployment = catalog.SOURCE_UP.name, "group by (namespace, job, source)"
    yield _alert(
        "LlmSourceDown",
        f'{up}{{endpoint=~"{_SOURCES}"}} == 0',
        "The sidecar on {{ or $labels.pod $labels.instance }} cannot read {{ $labels.source }} {{ $labels.endpoint }}",
        "It reads other sources on; what this one feeds is missing, not zero. The sidecar's log says why.",
        hold="2m",
    )
    yield _alert(
        "LlmSourceMissing",
        f"{by_deployment} ({up} offset 15m) unless {by_deployment} ({up})",
        "No sidecar of {{ $labels.job }} reports {{ $labels.source }} any more",
        "A quarter of an hour ago there was one. Where the service was not scaled to zero, its pods are gone or are "
        "not scraped.",
        hold="5m",
        keep="1h",
    )
    yield _alert(
        "LlmSourceSlow",
        f"{catalog.SOURCE_SECONDS.name} > 3",
        "{{ $labels.source }} {{ $labels.endpoint }} takes {{ $value | humanizeDuration }} to read",
        "Beyond the scrape's timeout its values will be missing.",
        hold="10m",
    )
    yield _alert(
        "LlmSeriesDropped",
        f"{catalog.SERIES_DROPPED.name} > 0",
        "The sidecar on {{ or $labels.pod $labels.instance }} leaves out {{ $labels.family }}",
        "The family has {{ $value | humanize }} series, too many for one page; what is made from it is missing.",
        hold="15m",
    )


def _spans() -> Iterable[AlertingRule]:
    rejected = f"sum by ({', '.join((*_POD, 'reason'))}) (increase({catalog.SPANS_REJECTED.name}[15m]))"
    yield _alert(
        "LlmSpansRejected",
        f"{rejected} > 0",
        "The sidecar on {{ or $labels.pod $labels.instance }} refuses spans: {{ $labels.reason }}",
        "{{ $value | humanize }} in 15 minutes. Exact SLOs count these requests neither as good nor as bad.",
        hold="5m",
    )
    served = f"sum by (model_name) (rate({catalog.E2E.name}_count[15m])) > 0"
    judged = f"sum by (model_name) (rate({catalog.SLO_EVENTS.name}[15m]))"
    yield _alert(
        "LlmSpansMissing",
        f"{served} and on (model_name) {judged} == 0",
        "{{ $labels.model_name }} serves requests, but none of them arrives as a span",
        "SLOs that are exact count nothing meanwhile: no good events, and no bad ones either.",
        hold="15m",
    )


# --- engines ---------------------------------------------------------------------------------------------------------


def _engines(scope: Scope) -> Iterable[AlertingRule]:
    for build in (_stalled, _queue_growing, _cache_exhausted, _preemptions):
        try:
            yield build(scope)
        except ValueError:  # the source lacks a family
            continue


def _stalled(scope: Scope) -> AlertingRule:
    return _alert(
        "LlmEngineStalled",
        busy_engines_without_tokens(2 * MINUTE, _ENGINE, scope),
        f"{_WHICH_ENGINE} has requests but makes no tokens",
        "{{ $value }} requests have waited five minutes for a single token. No latency shows this: who gets no answer "
        "has no slow one.",
        hold="3m",
        keep="5m",
        severity="page",
    )


def _queue_growing(scope: Scope) -> AlertingRule:
    least, slope = (_per_engine(function, catalog.WAITING, "10m", scope) for function in ("min_over_time", "deriv"))
    return _alert(
        "LlmQueueGrowing",
        f"{least} > 0 and {slope} * 600 >= 10",
        f"The queue of {_WHICH_ENGINE} grows",
        "More requests come than it serves: for ten minutes it was never empty, and it got longer by ten or more.",
        hold="5m",
        keep="10m",
    )


def _cache_exhausted(scope: Scope) -> AlertingRule:
    usage = _per_engine("min_over_time", catalog.KV_USAGE, "10m", scope)
    waiting = _per_engine("min_over_time", catalog.WAITING, "10m", scope)
    return _alert(
        "LlmKvCacheExhausted",
        f"{usage} > {FULL_CACHE} and {waiting} > 0",
        f"The KV cache of {_WHICH_ENGINE} is full and requests wait for it",
        "{{ $value | humanizePercentage }} in use for ten minutes; new requests start only when others end.",
        hold="5m",
        keep="10m",
    )


def _preemptions(scope: Scope) -> AlertingRule:
    pushed_back = _per_engine("increase", catalog.PREEMPTIONS, "15m", scope)
    finished = _per_engine("increase", catalog.E2E, "15m", scope, "_count")
    return _alert(
        "LlmPreemptions",
        f"{pushed_back} / ({finished} > 0) > 0.05",
        f"{_WHICH_ENGINE} pushes running requests back to the queue",
        "{{ $value | humanizePercentage }} as many as it finishes: their KV cache is thrown away and computed again.",
        hold="15m",
        keep="15m",
    )


def _per_engine(function: str, metric: catalog.Metric, window: str, scope: Scope, suffix: str = "") -> str:
    return f"sum by ({', '.join(_ENGINE)}) ({scope.over(function, Selector(metric, suffix), window)})"


# --- GPUs ------------------------------------------------------------------------------------------------------------


def _gpus() -> Iterable[AlertingRule]:
    xid, seen = catalog.GPU_LAST_XID.name, catalog.GPU_XID_LAST_SEEN.name
    # dcgm-exporter shows the last code, for ever, and some versions show nothing before the first.
    changed = f"changes({xid}[10m]) > 0 or ({xid} unless on (gpu_uuid) {xid} offset 10m)"
    yield _alert(
        "LlmGpuXid",
        f'{seen} > time() - 600 or count_values without () ("xid", {xid} > 0 and ({changed}))',
        f"XID {{{{ $labels.xid }}}} on {_WHICH_GPU}",
        "The driver reported an error of this GPU; requests on it may have failed or slowed down.",
        keep="10m",
    )
    yield _alert(
        "LlmGpuLost",
        f'{catalog.SOURCE_UP.name}{{endpoint!~"{_SOURCES}"}} == 0',
        "{{ $labels.endpoint }} on {{ or $labels.pod $labels.instance }} no longer answers",
        "It has fallen off the bus or needs a reset; an engine that runs on it fails or hangs.",
        hold="1m",
    )
    throttled = Selector(catalog.GPU_THROTTLED, "", (Matcher("reason", "=~", HARMFUL_THROTTLING),)).render(Scope())
    yield _alert(
        "LlmGpuThrottled",
        f"avg_over_time({throttled}[10m]) > 0.5",
        f"{_WHICH_GPU} is slowed down: {{{{ $labels.reason }}}}",
        "For most of ten minutes its clocks were held down by heat or hardware, not by the power cap.",
        hold="5m",
        keep="10m",
    )
    yield _alert(
        "LlmGpuNeedsRecovery",
        f"{catalog.GPU_RECOVERY_ACTION.name} > 0 or {catalog.GPU_ROW_REMAP_FAILURE.name} > 0",
        f"{_WHICH_GPU} wants to be reset or replaced",
        "Its driver asks for it, or it has run out of spare memory rows.",
        hold="5m",
    )
