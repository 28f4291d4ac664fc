"""promtool unit tests of the generated rules: for each SLO an outage, a slow burn, and what must alert nobody.

promtool evaluates every group at one interval, whatever the groups say. Counting events needs the increments at
theirs, so that interval is five minutes here, and predicted times are rounded to it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, floor

from slo import render
from slo.rules.alerts import NO_DATA
from slo.rules.recorded import burn_rate, of
from slo.rules.rule import RuleGroup
from slo.rules.traffic import Line, NoTrafficError, Phase, lines
from slo.sli import CounterSli, SaturationSli, SliceSli
from slo.spec.model import Slo, Spec
from slo.windows import BURN_ALERTS, MIN_BAD_EVENTS, MINUTE, BurnAlert

STEP = 5
# Minutes of good traffic before an outage: more than the shortest long window, far less than the others.
_HISTORY = 120
_LONG = 180
_SHORT = 30


@dataclass(frozen=True, slots=True)
class Expectation:
    """What an expression gives at a minute: label sets with their values."""

    expr: str
    minute: int
    samples: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scenario:
    """Traffic, and what the rules make of it."""

    name: str
    lines: Sequence[Line]
    expected: Sequence[Expectation]


def files(
    specs: Sequence[Spec], groups: Mapping[str, Sequence[RuleGroup]], source: str
) -> tuple[dict[str, str], dict[str, str]]:
    """The test files beside the rule files of `groups`, by path; and for SLOs that cannot have tests, why."""
    found: dict[str, str] = {}
    without: dict[str, str] = {}
    for spec in specs:
        scenarios, lacking = of_spec(spec, source)
        without |= lacking
        read = {name: groups[name] for name in (f"slo-{spec.service}", "recording", "health")}
        found[f"rules/slo-{spec.service}.test.yaml"] = render.document(document(read, scenarios))
    return found, without


def document(files: Mapping[str, Sequence[RuleGroup]], found: Sequence[Scenario]) -> dict[str, object]:
    """The promtool test of these rule files, as data."""
    return {
        "rule_files": [f"{name}.yaml" for name in files],
        "evaluation_interval": f"{STEP}m",
        "group_eval_order": [group.name for groups in files.values() for group in groups],
        "tests": [_test(scenario) for scenario in found],
    }


def _test(scenario: Scenario) -> dict[str, object]:
    return {
        "name": scenario.name,
        "interval": "1m",
        "input_series": [{"series": line.series, "values": line.values} for line in scenario.lines],
        "promql_expr_test": [
            {
                "expr": expected.expr,
                "eval_time": f"{expected.minute}m",
                "exp_samples": [{"labels": labels, "value": value} for labels, value in expected.samples.items()],
            }
            for expected in scenario.expected
        ],
    }


def of_spec(spec: Spec, source: str) -> tuple[list[Scenario], dict[str, str]]:
    """The scenarios of a spec's SLOs; and for SLOs that cannot have any, why."""
    found: list[Scenario] = []
    without: dict[str, str] = {}
    for slo in spec.slos:
        try:
            found += _of_slo(slo, spec, source)
        except NoTrafficError as error:
            without[slo.id] = str(error)
    return found, without


def _of_slo(slo: Slo, spec: Spec, source: str) -> Iterator[Scenario]:
    def scenario(name: str, phases: Sequence[Phase], *expected: Expectation) -> Scenario:
        return Scenario(f"{slo.id}: {name}", lines(slo, spec, source, phases), expected)

    yield _outage(slo, spec, source)
    if isinstance(slo.sli, CounterSli):
        within = slo.error_budget / 2
        yield scenario("half the budget alerts nobody", [Phase(_LONG, within)], *_quiet(slo, _LONG))
        yield scenario("a slow burn is a ticket and no page", [Phase(_LONG, _slow(slo))], *_ticket(slo, _LONG))
    if not isinstance(slo.sli, SaturationSli):  # a cache is there without requests, too
        idle = Expectation(of(burn_rate("5m"), slo.id), 2 * _SHORT)
        yield scenario(
            "no traffic has no burn rate and alerts nobody",
            [Phase(_SHORT), Phase(_SHORT, None)],
            idle,
            *_quiet(slo, 2 * _SHORT),
        )
    once = lines(slo, spec, source, [Phase(_SHORT)])
    gone = [Line(line.series, f"{line.values} stale") for line in once]
    new = lines(slo, spec, source, [Phase(_SHORT)], pod="b", after=_SHORT)
    yield Scenario(f"{slo.id}: a pod that replaces another is no error", [*gone, *new], _clean(slo, 2 * _SHORT))
    restarted = [Line(line.series, f"{line.values} {line.values}") for line in once]
    yield Scenario(f"{slo.id}: an engine that restarts is no error", restarted, _clean(slo, 2 * _SHORT))
    yield Scenario(f"{slo.id}: missing series are reported and page nobody", [], [*_quiet(slo, 40), _without_data(slo)])


# --- what is expected ------------------------------------------------------------------------------------------------


def _outage(slo: Slo, spec: Spec, source: str) -> Scenario:
    """Good hours, then nothing but bad events until even the ticket fires, then good ones again."""
    page, ticket = (_detection(slo, severity) for severity in ("page", "ticket"))
    lasts = _up(ticket) + 2 * STEP
    over = _HISTORY + lasts
    reset = max(alert.reset_seconds(1.0, slo.error_budget, slo.period) for alert in _of_severity("page"))
    end = over + _up(reset / MINUTE) + 4 * STEP
    return Scenario(
        f"{slo.id}: a total outage pages, then is a ticket, and resolves",
        lines(slo, spec, source, [Phase(_HISTORY), Phase(lasts, 1.0), Phase(end - over)]),
        [
            _firing(slo, "page", _HISTORY + STEP * floor(page / 2 / STEP), fires=False),
            _firing(slo, "page", _HISTORY + _up(page) + 2 * STEP),
            _firing(slo, "ticket", over),
            _firing(slo, "page", end, fires=False),
        ],
    )


def _detection(slo: Slo, severity: str) -> float:
    """Minutes until a total outage trips the first alert of a severity; windows hold no more than the history yet.

    Of SLIs that count minutes only one in a step is recorded here, and it takes MIN_BAD_EVENTS of them.
    """
    shares = [(a.long, a.factor(slo.error_budget, slo.period) * slo.error_budget) for a in _of_severity(severity)]
    soonest = min(min(long / MINUTE * share, _HISTORY * share / (1 - share)) for long, share in shares)
    return max(soonest, MIN_BAD_EVENTS * STEP) if isinstance(slo.sli, SliceSli) else soonest


def _of_severity(severity: str) -> list[BurnAlert]:
    return [alert for alert in BURN_ALERTS if alert.severity == severity]


def _slow(slo: Slo) -> float:
    """A share of bad events that trips a ticket and no page: the middle between their thresholds."""
    factors = [min(a.factor(slo.error_budget, slo.period) for a in _of_severity(s)) for s in ("page", "ticket")]
    return slo.error_budget * sum(factors) / 2


def _up(minutes: float) -> int:
    return STEP * ceil(minutes / STEP)


def _firing(slo: Slo, severity: str, minute: int, *, fires: bool = True) -> Expectation:
    expr = f'count by (slo) (ALERTS{{slo="{slo.id}",severity="{severity}",alertstate="firing",alertname!="{NO_DATA}"}})'
    return Expectation(expr, minute, {f'{{slo="{slo.id}"}}': 1} if fires else {})


def _quiet(slo: Slo, minute: int) -> list[Expectation]:
    return [_firing(slo, severity, minute, fires=False) for severity in ("page", "ticket")]


def _ticket(slo: Slo, minute: int) -> list[Expectation]:
    return [_firing(slo, "page", minute, fires=False), _firing(slo, "ticket", minute)]


def _clean(slo: Slo, minute: int) -> list[Expectation]:
    """Not one bad event was seen, and somebody did look."""
    worst = f"max by (slo) (max_over_time({of(burn_rate('5m'), slo.id)}[{minute}m]))"
    return [Expectation(f"round({worst}, 0.001)", minute, {f'{{slo="{slo.id}"}}': 0}), *_quiet(slo, minute)]


def _without_data(slo: Slo) -> Expectation:
    expr = f'count by (slo) (ALERTS{{slo="{slo.id}",alertname="{NO_DATA}",alertstate="firing"}})'
    return Expectation(expr, 40, {f'{{slo="{slo.id}"}}': 1})
