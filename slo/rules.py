"""Prometheus rules as data: a few rules per SLO, and generic ones that serve every SLO there is.

Per SLO only good and total rates over 5 minutes and 1 hour read raw series. The windows above an hour are sums of
recorded five-minute increments, so a 30-day value costs 8 640 samples per series and is request-weighted exactly.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from slo import catalog, recorded
from slo.promql import Scope, duration, equals
from slo.recorded import BUDGET_LEFT, ERROR_BUDGET, PERIOD_ERROR, burn_factor, burn_rate
from slo.sli import SliceSli, exact
from slo.sli.slices import slices_per_second
from slo.spec import Slo, Spec
from slo.windows import BURN_ALERTS, HOUR, BurnAlert

# Bad events a window must hold before it may page: below that a burn rate is one unlucky request.
MIN_BAD_EVENTS = 5


@dataclass(frozen=True, slots=True)
class RecordingRule:
    record: str
    expr: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertingRule:
    """`hold` is Prometheus' `for`, `keep` its `keep_firing_for`; both are durations such as `2m`."""

    alert: str
    expr: str
    hold: str = ""
    keep: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RuleGroup:
    name: str
    interval: str
    rules: tuple[RecordingRule | AlertingRule, ...]


# --- per SLO ---------------------------------------------------------------------------------------------------------


def spec_groups(spec: Spec, source: str) -> tuple[RuleGroup, ...]:
    """One group per SLO of the spec; ValueError when `source` lacks a family that an SLO needs."""
    scope = Scope(source, equals(spec.selector), spec.group_by)
    return tuple(RuleGroup(f"llm-slo-{slo.id}", "30s", tuple(_slo_rules(slo, scope))) for slo in spec.slos)


def _slo_rules(slo: Slo, scope: Scope) -> Iterable[RecordingRule]:
    yield RecordingRule(ERROR_BUDGET, f"vector({slo.error_budget!r})", _info_labels(slo))
    if isinstance(slo.sli, SliceSli):
        yield RecordingRule(recorded.TOTAL_SLICES, slo.sli.slices(scope), {"slo": slo.id})
        yield RecordingRule(recorded.GOOD_SLICES, slo.sli.good_slices(scope), {"slo": slo.id})
    for window, good_name, total_name in (
        ("5m", recorded.GOOD_5M, recorded.TOTAL_5M),
        ("1h", recorded.GOOD_1H, recorded.TOTAL_1H),
    ):
        good, total = _good_total(slo, window, scope)
        if slo.sli.good_comes_late:
            # After a start that only ever failed there is no series of good events: that is zero, not absence.
            good += f" or on ({', '.join(scope.by)}) {recorded.of(total_name, slo.id)} * 0"
        yield RecordingRule(total_name, total, {"slo": slo.id})
        yield RecordingRule(good_name, good, {"slo": slo.id})


def _good_total(slo: Slo, window: str, scope: Scope) -> tuple[str, str]:
    if slo.exact:
        return exact(slo.id, window, scope)
    if isinstance(slo.sli, SliceSli):
        recordings = (recorded.of(name, slo.id) for name in (recorded.GOOD_SLICES, recorded.TOTAL_SLICES))
        good, total = (slices_per_second(f"{series}[{window}]") for series in recordings)
        return good, total
    return slo.sli.good(window, scope), slo.sli.total(window, scope)


def _info_labels(slo: Slo) -> dict[str, str]:
    """Labels that only the budget series carries, so that editing them never forks an SLO's history."""
    labels = {
        "slo": slo.id,
        "service": slo.service,
        "objective": f"{slo.objective:g}",
        "period": duration(slo.period),
        "unit": slo.sli.unit_of_count,
    }
    return labels | ({"owner": slo.owner} if slo.owner else {})


# --- shared by all SLOs ----------------------------------------------------------------------------------------------


def shared_groups(specs: Sequence[Spec]) -> tuple[RuleGroup, ...]:
    """The generic rules: burn rates, increments, and per period the budget and the alerts."""
    periods = sorted({slo.period for spec in specs for slo in spec.slos})
    groups = [_burn_fast(), _increments(), _burn_slow(), _economics()]
    for period in periods:
        groups += [_budget(period), _burn_alerts(period)]
    return tuple(groups)


def _burn_fast() -> RuleGroup:
    sums = [f"sum_over_time({name}[30m])" for name in (recorded.GOOD_5M, recorded.TOTAL_5M)]
    rules = (
        RecordingRule(burn_rate("5m"), _burn(recorded.GOOD_5M, recorded.TOTAL_5M)),
        RecordingRule(burn_rate("30m"), _burn(*sums)),
        RecordingRule(burn_rate("1h"), _burn(recorded.GOOD_1H, recorded.TOTAL_1H)),
    )
    return RuleGroup("llm-slo-burn-fast", "30s", rules)


def _increments() -> RuleGroup:
    rules = (
        RecordingRule(recorded.GOOD_INCREASE, f"{recorded.GOOD_5M} * 300"),
        RecordingRule(recorded.TOTAL_INCREASE, f"{recorded.TOTAL_5M} * 300"),
    )
    return RuleGroup("llm-slo-increments", "5m", rules)


def _burn_slow() -> RuleGroup:
    windows = ("2h", "6h", "1d", "3d")
    return RuleGroup(
        "llm-slo-burn-slow", "1m", tuple(RecordingRule(burn_rate(w), _burn(*_increments_over(w))) for w in windows)
    )


def _budget(period: int) -> RuleGroup:
    name = duration(period)
    here = f'{ERROR_BUDGET}{{period="{name}"}}'
    good, total = _increments_over(name)
    rules = (
        RecordingRule(PERIOD_ERROR, f"1 - {good} / ({total} > 0) and on (slo) {here}", {"period": name}),
        RecordingRule(
            BUDGET_LEFT, f'1 - {PERIOD_ERROR}{{period="{name}"}} / on (slo) group_left () {here}', {"period": name}
        ),
    )
    return RuleGroup(f"llm-slo-budget-{name}", "2m", rules)


def _burn(good: str, total: str) -> str:
    """Burn rate: error ratio over error budget. No traffic gives no sample, not NaN and not zero."""
    return f"(1 - {good} / ({total} > 0)) / on (slo) group_left () {ERROR_BUDGET}"


def _increments_over(window: str) -> tuple[str, str]:
    return f"sum_over_time({recorded.GOOD_INCREASE}[{window}])", f"sum_over_time({recorded.TOTAL_INCREASE}[{window}])"


# --- alerts ----------------------------------------------------------------------------------------------------------

_SUMMARY = "{{ $labels.slo }}{{ with $labels.model_name }} ({{ . }}){{ end }} is burning its error budget"
_DESCRIPTION = (
    "Errors come {{ $value | humanize }} times faster than the budget of {{ $labels.period }} allows. "
    "The objective: a share of {{ $labels.objective }} good {{ $labels.unit }}."
)


def _burn_alerts(period: int) -> RuleGroup:
    severities = dict.fromkeys(alert.severity for alert in BURN_ALERTS)
    rules = tuple(_burn_alert([a for a in BURN_ALERTS if a.severity == s], period) for s in severities)
    return RuleGroup(f"llm-slo-alerts-{duration(period)}", "30s", rules)


def _burn_alert(alerts: Sequence[BurnAlert], period: int) -> AlertingRule:
    severity, name = alerts[0].severity, duration(period)
    conditions = "\nor\n".join(_burning(alert, period) for alert in alerts)
    info = f'{ERROR_BUDGET}{{period="{name}"}} ^ 0'
    return AlertingRule(
        alert=f"SloErrorBudgetBurn{severity.title()}",
        expr=f"(\n{conditions}\n)\n* on (slo) group_left (service, owner, objective, unit) ({info})",
        keep="5m",
        labels={"severity": severity, "period": name},
        annotations={"summary": _SUMMARY, "description": _DESCRIPTION},
    )


def _burning(alert: BurnAlert, period: int) -> str:
    factor = burn_factor(alert, period)
    lines = [f"{burn_rate(duration(w))} > on (slo) group_left () ({factor})" for w in (alert.long, alert.short)]
    if alert.severity == "page":
        lines.append(f"({_bad_events(alert.long)}) >= {MIN_BAD_EVENTS}")
    return "(" + "\n  and ".join(lines) + ")"


def _bad_events(window: int) -> str:
    if window == HOUR:
        return f"({recorded.TOTAL_1H} - {recorded.GOOD_1H}) * {HOUR}"
    good, total = _increments_over(duration(window))
    return f"{total} - {good}"


# --- engine, GPU and exporter ----------------------------------------------------------------------------------------


def _economics() -> RuleGroup:
    """Energy per output token: each GPU's energy goes to the models that run on it, through the info metric."""
    energy = f"rate({catalog.GPU_ENERGY.name}[5m])"
    joined = f"{catalog.ENGINE_GPU_INFO.name} * on (job, instance, gpu_uuid) group_left () {energy}"
    made = f"sum by (model_name) (rate({catalog.GENERATION_TOKENS.name}[5m]))"
    return RuleGroup(
        "llm-economics",
        "1m",
        (RecordingRule(recorded.ENERGY_PER_OUTPUT, f"sum by (model_name) ({joined}) / ({made} > 0)"),),
    )


def health_groups() -> tuple[RuleGroup, ...]:
    """Alerts on the sidecar's sources, the SLOs' own data and the GPUs."""
    return (RuleGroup("llm-health", "30s", tuple(_health_rules())),)


def _health_rules() -> Iterable[AlertingRule]:
    yield _health(
        "LlmSourceDown",
        f"{catalog.SOURCE_UP.name} == 0",
        "The sidecar cannot read {{ $labels.source }} {{ $labels.endpoint }}",
        "It reads other sources on; what this one feeds is missing, not zero. The sidecar's log says why.",
        hold="2m",
    )
    yield _health(
        "SloWithoutData",
        f"{ERROR_BUDGET} unless on (slo) {recorded.TOTAL_5M}",
        "No data for the SLO {{ $labels.slo }}",
        "Its series do not exist: nothing is scraped, the selector matches nothing, or the engine never served.",
        hold="15m",
    )
    yield _health(
        "LlmGpuXid",
        f"changes({catalog.GPU_LAST_XID.name}[10m]) > 0 and {catalog.GPU_LAST_XID.name} > 0",
        "GPU {{ $labels.gpu }} reported XID {{ $value }}",
        "The driver reported an error on {{ $labels.gpu_uuid }}; requests on it may have failed or slowed down.",
    )


def _health(name: str, expr: str, summary: str, description: str, hold: str = "") -> AlertingRule:
    return AlertingRule(
        alert=name,
        expr=expr,
        hold=hold,
        labels={"severity": "ticket"},
        annotations={"summary": summary, "description": description},
    )
