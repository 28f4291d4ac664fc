"""The recording rules, and which groups they and the alerts are in.

Per SLO only good and total rates over 5 minutes and 1 hour read raw series. The windows above an hour are sums of
recorded five-minute increments, so a 30-day value costs 8 640 samples per series and is request-weighted exactly.
What follows from them is written once for all SLOs or, isolated, once for each.
"""

from collections.abc import Iterable, Sequence

from slo.promql import Scope, duration, equals, number, seconds
from slo.rules import alerts, causes, economics, health, latency, recorded
from slo.rules.recorded import BUDGET_LEFT, ERROR_BUDGET, PERIOD_ERROR, burn_rate, of
from slo.rules.rule import Links, RecordingRule, RuleGroup
from slo.sli import SliceSli, exact
from slo.spec.model import Slo, Spec


def spec_groups(spec: Spec, source: str) -> tuple[RuleGroup, ...]:
    """One group per SLO of the spec; ValueError names the SLO that needs what `source` lacks."""
    return tuple(RuleGroup(f"llm-slo-{slo.id}", "1m", _rules_of(slo, spec, source)) for slo in spec.slos)


def shared_groups(specs: Sequence[Spec], source: str, links: Links) -> tuple[RuleGroup, ...]:
    """What all SLOs share: burn rates, increments, and per period the budget and the alerts; causes and costs."""
    periods = sorted({slo.period for spec in specs for slo in spec.slos})
    groups = [*_burn_groups("llm-slo", ""), *_signals(specs, source)]
    for period in periods:
        groups += [_budget("llm-slo", period, ""), alerts.group("llm-slo", specs, period, links)]
    return tuple(groups)


def isolated_groups(spec: Spec, source: str, links: Links) -> tuple[RuleGroup, ...]:
    """Groups of its own for each SLO: its rules need no other SLO's. ValueError as `spec_groups`."""
    groups: list[RuleGroup] = []
    for slo, base in zip(spec.slos, spec_groups(spec, source), strict=True):
        name = f"llm-slo-{slo.id}"
        alert = alerts.group(name, [spec], slo.period, links, slo.id)
        groups += [base, *_burn_groups(name, slo.id), _budget(name, slo.period, slo.id), alert]
    return tuple(groups)


def isolated_shared_groups(specs: Sequence[Spec], source: str) -> tuple[RuleGroup, ...]:
    """What isolated SLOs still have in common: the causes that their alerts name, and what tokens cost."""
    return tuple(_signals(specs, source))


def health_groups(specs: Sequence[Spec], source: str, links: Links, *, isolated: bool = False) -> tuple[RuleGroup, ...]:
    """Alerts on the sidecar's sources, the engines and the GPUs, as far as `source` shows them."""
    return (health.group(specs, source, links, isolated=isolated),)


# --- per SLO ---------------------------------------------------------------------------------------------------------


def _rules_of(slo: Slo, spec: Spec, source: str) -> tuple[RecordingRule, ...]:
    try:
        return tuple(_slo_rules(slo, Scope(source, equals(spec.selector), spec.group_by)))
    except ValueError as error:
        raise ValueError(f"{slo.id} cannot be built: {error}") from None


def _slo_rules(slo: Slo, scope: Scope) -> Iterable[RecordingRule]:
    yield RecordingRule(ERROR_BUDGET, f"vector({slo.error_budget!r})", _info_labels(slo, scope))
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
            good += f" or on ({', '.join(scope.by)}) {of(total_name, slo.id)} * 0"
        yield RecordingRule(total_name, total, {"slo": slo.id})
        yield RecordingRule(good_name, good, {"slo": slo.id})


def _good_total(slo: Slo, window: str, scope: Scope) -> tuple[str, str]:
    if slo.exact:
        return exact(slo.id, window, scope)
    if isinstance(slo.sli, SliceSli):
        # No mean: the first bad minute of a service that has just come up is one minute, and not an hour of them.
        good, total = (of(name, slo.id) + f"[{window}]" for name in (recorded.GOOD_SLICES, recorded.TOTAL_SLICES))
        return f"sum_over_time({good}) / {seconds(window)}", f"sum_over_time({total}) / {seconds(window)}"
    return slo.sli.good(window, scope), slo.sli.total(window, scope)


def _info_labels(slo: Slo, scope: Scope) -> dict[str, str]:
    """Labels that only the budget series carries, so that editing them never forks an SLO's history."""
    needs = slo.sli.needs
    labels = {
        "slo": slo.id,
        "service": slo.service,
        "objective": number(slo.objective),
        "period": duration(slo.period),
        "unit": slo.sli.unit_of_rules,
        "needs": "spans" if slo.exact else scope.name_of(needs) if needs else "its own PromQL",
        "owner": slo.owner,
        "runbook": slo.runbook,
        **slo.labels,
    }
    return {label: value for label, value in labels.items() if value}


# --- of all SLOs, or of the one called `slo` -------------------------------------------------------------------------


def _burn_groups(name: str, slo: str) -> tuple[RuleGroup, ...]:
    good, total = of(recorded.GOOD_5M, slo), of(recorded.TOTAL_5M, slo)
    fast = (
        _recording(burn_rate("5m"), _burn(good, total, slo), slo),
        _recording(burn_rate("30m"), _burn(f"sum_over_time({good}[30m])", f"sum_over_time({total}[30m])", slo), slo),
        _recording(burn_rate("1h"), _burn(of(recorded.GOOD_1H, slo), of(recorded.TOTAL_1H, slo), slo), slo),
    )
    increments = (
        _recording(recorded.GOOD_INCREASE, f"{good} * 300", slo),
        # Where nobody knows what was good, as for want of a bucket, there is a hole: it weighs nothing.
        _recording(recorded.TOTAL_INCREASE, f"{total} * 300 and {good}", slo),
    )
    return (
        RuleGroup(f"{name}-burn-fast", "30s", fast),
        RuleGroup(f"{name}-increments", "5m", increments),
        # Increments come every five minutes; what spans days changes slowly and reads the most.
        RuleGroup(f"{name}-burn-hours", "1m", tuple(_burn_slow(("2h", "6h"), slo))),
        RuleGroup(f"{name}-burn-days", "3m", tuple(_burn_slow(("1d", "3d"), slo))),
    )


def _burn_slow(windows: Sequence[str], slo: str) -> Iterable[RecordingRule]:
    for window in windows:
        good, total = _increments_over(window, slo)
        yield _recording(recorded.events(window), total, slo)
        yield _recording(burn_rate(window), _burn(good, of(recorded.events(window), slo), slo), slo)


def _budget(name: str, period: int, slo: str) -> RuleGroup:
    length = duration(period)
    here = of(ERROR_BUDGET, slo, period=length)
    good, total = _increments_over(length, slo)
    error = of(PERIOD_ERROR, slo, period=length)
    rules = (
        _recording(PERIOD_ERROR, f"1 - {good} / ({total} > 0) and on (slo) {here}", slo, period=length),
        _recording(BUDGET_LEFT, f"1 - {error} / on (slo) group_left () {here}", slo, period=length),
    )
    return RuleGroup(f"{name}-budget-{length}", "3m", rules)


def _recording(name: str, expr: str, slo: str, **labels: str) -> RecordingRule:
    """A rule whose series say their SLO themselves; of a single one it says so too, or promtool sees duplicates."""
    return RecordingRule(name, expr, ({"slo": slo} if slo else {}) | labels)


def _burn(good: str, total: str, slo: str) -> str:
    """Burn rate: error ratio over error budget. No traffic gives no sample, not NaN and not zero."""
    return f"(1 - {good} / ({total} > 0)) / on (slo) group_left () {of(ERROR_BUDGET, slo)}"


def _increments_over(window: str, slo: str) -> tuple[str, str]:
    good, total = of(recorded.GOOD_INCREASE, slo), of(recorded.TOTAL_INCREASE, slo)
    return f"sum_over_time({good}[{window}])", f"sum_over_time({total}[{window}])"


def _signals(specs: Sequence[Spec], source: str) -> list[RuleGroup]:
    groups = (causes.group(specs, source), economics.group(source), latency.group(source))
    return [group for group in groups if group.rules]
