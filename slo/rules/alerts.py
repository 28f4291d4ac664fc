"""Burn-rate alerts, and what they say to whoever is woken: how fast, what is left, what the cause may be, what to do.

Annotations are templates that query Prometheus when the alert fires, so that they cost nothing while it does not.
"""

from collections.abc import Iterable, Sequence

from slo.promql import duration
from slo.rules import recorded
from slo.rules.recorded import BUDGET_LEFT, ERROR_BUDGET, burn_factor, burn_rate, events, of
from slo.rules.rule import AlertingRule, Links, RuleGroup
from slo.spec.model import Slo, Spec
from slo.windows import BURN_ALERTS, HOUR, KEEP_FIRING, MIN_BAD_EVENTS, BurnAlert

NO_DATA = "SloWithoutData"


def name_of(severity: str) -> str:
    """The burn-rate alert of a severity."""
    return f"SloErrorBudgetBurn{severity.title()}"


def group(name: str, specs: Sequence[Spec], period: int, links: Links, slo: str = "") -> RuleGroup:
    """The alerts of all SLOs of a period, or of the one called `slo` with what tells that its data is missing."""
    severities = dict.fromkeys(alert.severity for alert in BURN_ALERTS)
    rules = [_burn_alert(severity, specs, period, links, slo) for severity in severities]
    if slo:
        rules.append(without_data(links, slo))
    return RuleGroup(f"{name}-alerts-{duration(period)}", "30s", tuple(rules))


def without_data(links: Links, slo: str = "") -> AlertingRule:
    """Tells which SLO has no data, and what it is made from."""
    budget, total, good = (of(name, slo) for name in (ERROR_BUDGET, recorded.TOTAL_5M, recorded.GOOD_5M))
    return AlertingRule(
        alert=NO_DATA,
        # No group at all that has both; or one, such as a model, whose events nobody can tell good from bad.
        expr=f"{budget} unless on (slo) ({total} and {good}) or {budget} and on (slo) ({total} unless {good})",
        hold="15m",
        labels={"severity": "ticket"} | ({"slo": slo} if slo else {}),
        annotations={
            "summary": "No data for the SLO {{ $labels.slo }}: {{ $labels.needs }} is missing",
            "description": "While this lasts nobody is told when the promise is broken. Nothing is scraped, the "
            "selector matches nothing, the threshold is no bucket of this engine, or the engine never served.",
            "dashboard_url": links.board("slo", ["slo"]),
            "runbook_url": links.runbook(NO_DATA),
        },
    )


# --- the condition ---------------------------------------------------------------------------------------------------


def _burn_alert(severity: str, specs: Sequence[Spec], period: int, links: Links, slo: str) -> AlertingRule:
    alerts = [alert for alert in BURN_ALERTS if alert.severity == severity]
    conditions = "\nor\n".join(_burning(alert, period, slo) for alert in alerts)
    info = of(ERROR_BUDGET, slo, period=duration(period))
    told = ", ".join(("service", "owner", "objective", "unit", *_labels(specs)))
    return AlertingRule(
        alert=name_of(severity),
        expr=f"(\n{conditions}\n)\n* on (slo) group_left ({told}) ({info} ^ 0)",
        keep=duration(KEEP_FIRING[severity]),
        labels={"severity": severity, "period": duration(period)} | ({"slo": slo} if slo else {}),
        annotations=_annotations(name_of(severity), specs, period, links),
    )


def _burning(alert: BurnAlert, period: int, slo: str) -> str:
    factor = burn_factor(alert, period, slo)
    lines = [
        f"{of(burn_rate(duration(w)), slo)} > on (slo) group_left () ({factor})" for w in (alert.long, alert.short)
    ]
    lines.append(f"({_bad_events(alert.long, slo)}) >= {MIN_BAD_EVENTS}")
    return "(" + "\n  and ".join(lines) + ")"


def _bad_events(window: int, slo: str) -> str:
    if window == HOUR:
        return f"({of(recorded.TOTAL_1H, slo)} - {of(recorded.GOOD_1H, slo)}) * {HOUR}"
    # Out of what is recorded already: summing the window again would double what the alerts cost.
    length = duration(window)
    bad_share = f"{of(burn_rate(length), slo)} * on (slo) group_left () {of(ERROR_BUDGET, slo)}"
    return f"{bad_share} * {of(events(length), slo)}"


def _labels(specs: Sequence[Spec]) -> list[str]:
    """The labels that any SLO puts on its alerts."""
    return sorted({label for spec in specs for slo in spec.slos for label in slo.labels})


# --- what it says ----------------------------------------------------------------------------------------------------


def _annotations(alert: str, specs: Sequence[Spec], period: int, links: Links) -> dict[str, str]:
    groups = list(dict.fromkeys(label for spec in specs for label in spec.group_by))
    which = "".join(f"{{{{ with $labels.{label} }}}} {label}={{{{ . }}}}{{{{ end }}}}" for label in groups)
    return {
        "summary": f"{{{{ $labels.slo }}}}{which} burns its error budget {{{{ $value | humanize }}}} times too fast",
        "description": "Of its {{ $labels.unit }}, {{ $labels.objective | humanizePercentage }} should be good over "
        f"{duration(period)}; at a burn rate of 1 the budget would last exactly that long.",
        "budget": _matching(groups) + _budget(period),
        "causes": _causes(label for label in groups if label != "model_name"),
        "dashboard_url": links.board("slo", ["slo", *groups]),
        "runbook_url": _runbook(links.runbook(alert), [slo for spec in specs for slo in spec.slos]),
    }


def _budget(period: int) -> str:
    """What is left of the budget of `$these`, and for how long it lasts at the alert's burn rate."""
    left = f"{{{{ with printf `{BUDGET_LEFT}%s` $these | query }}}}{{{{ $left := . | first | value }}}}"
    lasts = f"{{{{ with printf `{BUDGET_LEFT}%s * {period} / %f > 0` $these $value | query }}}}"
    return (
        f"{left}{{{{ if lt $left 0.0 }}}}The budget is overspent: {{{{ $left | humanizePercentage }}}} of it is left."
        "{{ else }}{{ $left | humanizePercentage }} of the budget is left.{{ end }}"
        "{{ else }}How much of the budget is left is not known yet.{{ end }}"
        f"{lasts} At this rate it lasts {{{{ . | first | value | humanizeDuration }}}}.{{{{ end }}}}"
    )


def _matching(labels: Iterable[str]) -> str:
    """A template that puts the alert's own series into `$these`, as matchers in braces."""
    parts = [
        f"{{{{ with $labels.{label} }}}}{{{{ $these = printf `%s,{label}=%q` $these . }}}}{{{{ end }}}}"
        for label in labels
    ]
    return f"{{{{ $these := printf `slo=%q` $labels.slo }}}}{''.join(parts)}{{{{ $these = printf `{{%s}}` $these }}}}"


def _causes(further: Iterable[str]) -> str:
    """The causes that are seen for the alert's model, or for any where the SLO does not tell models apart.

    Less those with another value of one of the `further` labels, such as of another namespace; what engines do not
    tell, such as a span's tenant, is no difference.
    """
    elsewhere = "".join(
        f"{{{{ with $labels.{label} }}}}"
        f'{{{{ $seen = printf `%s unless {recorded.CAUSE}{{{label}!="",{label}!=%q}}` $seen . }}}}{{{{ end }}}}'
        for label in further
    )
    return (
        f"{{{{ $seen := `{recorded.CAUSE}` }}}}"
        f"{{{{ with $labels.model_name }}}}{{{{ $seen = printf `{recorded.CAUSE}{{model_name=%q}}` . }}}}{{{{ end }}}}"
        f"{elsewhere}{{{{ range query $seen }}}}"
        "{{ .Labels.cause }}: {{ .Value | humanize }}. "
        "{{ else }}None of the joined signals stands out.{{ end }}"
    )


def _runbook(general: str, slos: Sequence[Slo]) -> str:
    """The SLO's own runbook where it has one, else the alert's."""
    if not any(slo.runbook for slo in slos):
        return general
    own = f"{{{{ range printf `{ERROR_BUDGET}{{slo=%q}}` $labels.slo | query }}}}{{{{ $own = .Labels.runbook }}}}"
    return f"{{{{ $own := `` }}}}{own}{{{{ end }}}}{{{{ or $own `{general}` }}}}"
