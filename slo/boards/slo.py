"""One SLO: is it kept, how much of its budget is left, how fast does that go, and who was told."""

from collections.abc import Sequence
from dataclasses import replace

from slo.boards import common
from slo.boards.common import SHARE_DECIMALS
from slo.boards.layout import Dashboard, Row, Variable
from slo.boards.levels import Levels
from slo.boards.panel import Panel, Target, Text
from slo.boards.panels import bargauge, stat, state_timeline, timeseries
from slo.promql import aggregate, duration
from slo.rules import recorded
from slo.rules.recorded import (
    BUDGET_LEFT,
    ERROR_BUDGET,
    GOOD_1H,
    GOOD_5M,
    GOOD_INCREASE,
    TOTAL_1H,
    TOTAL_5M,
    TOTAL_INCREASE,
)
from slo.spec.model import Spec
from slo.windows import BURN_ALERTS

_SLO = Variable(name="slo", label="SLO", query=f"label_values({ERROR_BUDGET}, slo)", multi=False)
# Recorded series know no namespace, job and instance. The choice is kept so that links carry it to the next board.
_VARIABLES = (_SLO, *(replace(v, hidden=v.name != "model_name") for v in common.VARIABLES))


def board(specs: Sequence[Spec]) -> Dashboard:
    """The board of one SLO; the periods of `specs` decide which alert factors are drawn."""
    levels = Levels.of(specs, 'slo="$slo"')
    periods = sorted({slo.period for spec in specs for slo in spec.slos})
    return common.dashboard(
        "slo",
        "Objective",
        "One SLO: is it kept, how much of its error budget is left, how fast does that go, and who was told.",
        Row("Now", _now(levels, periods)),
        Row("Objective and budget", _budget(levels)),
        Row("Burn rate", tuple(_burn(levels, severity, periods) for severity in ("page", "ticket"))),
        Row("Alerts and causes", (_alerts(levels), _causes(levels))),
        Row("Events", _events(levels)),
        variables=_VARIABLES,
        since="now-24h",
    )


def _exhaustion(periods: Sequence[int]) -> tuple[Text, ...]:
    lasting = (Text(period, f"lasts {duration(period)}", "green") for period in periods)
    return (Text(0, "spent", "red"), *lasting)


def _now(levels: Levels, periods: Sequence[int]) -> tuple[Panel, ...]:
    legend = levels.legend
    return (
        stat("Objective", "Share of events that must be good.", "percentunit", Target(levels.objective()),
             decimals=SHARE_DECIMALS),
        stat("State", common.STATE_RULE.capitalize(), "none",
             Target(levels.state(), legend), texts=common.STATES),
        stat("Good, 1h", "Share of good events in the last hour.", "percentunit",
             Target(levels.good_ratio(GOOD_1H, TOTAL_1H), legend), decimals=SHARE_DECIMALS),
        stat("Good, period", "Share of good events in the SLO's period, as far as it is recorded.", "percentunit",
             Target(f"1 - {levels.each(recorded.PERIOD_ERROR)}", legend), decimals=SHARE_DECIMALS),
        stat("Budget left", "What is left of the period's error budget. Below 0 it is overspent.", "percentunit",
             Target(levels.each(BUDGET_LEFT), legend), width=4, thresholds=common.BUDGET_COLORS),
        stat("Burn rate, 1h", "At 1 the budget lasts exactly the period.", "none",
             Target(levels.each(recorded.burn_rate("1h")), legend), width=4, thresholds=common.BURN_COLORS),
        stat("Budget spent in", "If the last hour goes on, at the earliest: in time bad events leave the period and "
             "give budget back.", "s",
             Target(levels.exhausted_in(periods), legend), width=4, texts=_exhaustion(periods)),
    )  # fmt: skip


def _budget(levels: Levels) -> tuple[Panel, ...]:
    return (
        timeseries(
            "Good events against the objective",
            "Share of good events over five minutes and over an hour; dashed, the objective. No line: no events.",
            "percentunit",
            Target(levels.good_ratio(GOOD_5M, TOTAL_5M), f"5m {levels.legend}"),
            Target(levels.good_ratio(GOOD_1H, TOTAL_1H), f"1h {levels.legend}"),
            Target(levels.objective(), "objective", dashed=True),
            width=12,
            zero=False,
            maximum=1,
            decimals=SHARE_DECIMALS,
        ),
        timeseries(
            "Error budget left",
            "What is left of the budget of the SLO's period. Below 0 the promise is broken.",
            "percentunit",
            Target(levels.each(BUDGET_LEFT), levels.legend),
            width=12,
            limits=(0,),
        ),
    )


def _burn(levels: Levels, severity: str, periods: Sequence[int]) -> Panel:
    alerts = [alert for alert in BURN_ALERTS if alert.severity == severity]
    targets = []
    for alert in alerts:
        for window in (duration(alert.short), duration(alert.long)):
            targets.append(Target(levels.each(recorded.burn_rate(window)), f"{window} {levels.legend}"))
        factors = " or ".join(recorded.burn_factor(alert, period) for period in periods)
        factor = f"max by (slo) (({factors}) and on (slo) {levels.budgets()})"
        targets.append(Target(factor, f"{severity} factor {duration(alert.long)}", dashed=True))
    pairs = " or ".join(f"{duration(alert.long)} and {duration(alert.short)}" for alert in alerts)
    return timeseries(
        f"Burn rate, {severity} windows",
        f"A {severity} fires while the burn rates over {pairs} both exceed their factor, which is dashed.",
        "none",
        *targets,
        width=12,
    )


def _events(levels: Levels) -> tuple[Panel, ...]:
    bad = f"{levels.each(TOTAL_5M)} - {levels.each(GOOD_5M)}"
    return (
        timeseries(
            "Events per second",
            "All events that count for the SLO, over five minutes.",
            "cps",
            Target(levels.each(TOTAL_5M), levels.legend),
        ),
        timeseries("Bad events per second", "The events that spend the budget.", "cps", Target(bad, levels.legend)),
        bargauge(
            "What spends the budget",
            "Bad events in the selected time, by the labels that split the SLO. Events are recorded in steps of five "
            "minutes.",
            "short",
            Target(f"sort_desc({_bad_in_range(levels)})", levels.legend),
        ),
    )


def _bad_in_range(levels: Levels) -> str:
    total, good = (f"sum_over_time({levels.series(name)}[$__range])" for name in (TOTAL_INCREASE, GOOD_INCREASE))
    return f"clamp_min({total} - {good}, 0)"


def _alerts(levels: Levels) -> Panel:
    return state_timeline(
        "Alert history",
        "When a page or a ticket was firing. Empty: the rules were not evaluated.",
        "none",
        Target(levels.alert(), levels.legend),
        width=24,
        texts=common.ALERTS,
    )


def _causes(levels: Levels) -> Panel:
    by = ("cause", *levels.groups)
    seen = f"{aggregate('max', f'{recorded.CAUSE}{{{common.OF_MODEL}}}', by)} * 0 + 1"
    none = f'label_replace({levels.each(TOTAL_5M)} * 0, "cause", "none seen", "", "")'
    return state_timeline(
        "Likely causes",
        "What else is out of the ordinary in engines and GPUs, as the alerts name it. A hint, not a verdict.",
        "none",
        Target(f"{seen} or on () {none}", f"{{{{cause}}}} {levels.legend}"),
        width=24,
        texts=(Text(0, "-", "green"), Text(1, "seen", "orange")),
    )
