"""`slo-gen explain`: what each SLO promises, what its alerts wait for and how soon they come."""

import argparse

from slo.commands import common
from slo.promql import duration
from slo.rules import explain
from slo.spec.model import Slo
from slo.windows import MIN_BAD_EVENTS

NAME, HELP = "explain", "tell what each SLO promises, when its alerts come and what they need"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `slo-gen explain`."""
    common.add_specs(parser)


def run(args: argparse.Namespace) -> int:
    """Tell; 0."""
    specs = common.load_specs(args)
    paragraphs = ["\n".join(explain.text(slo, spec)) for spec in specs for slo in spec.slos]
    data = {"slos": [_plain(slo) for spec in specs for slo in spec.slos]}
    common.show(args, data, ["\n\n".join(paragraphs)])
    return 0


def _plain(slo: Slo) -> dict[str, object]:
    return {
        "slo": slo.id,
        "objective": slo.objective,
        "error_budget": slo.error_budget,
        "period": duration(slo.period),
        "good": slo.sli.condition,
        "unit": slo.sli.unit_of_rules,
        "minutes_to_page": {f"{share:.0%}": m for share, m in explain.minutes_to("page", slo).items()},
        "alerts": [_alert(told) for told in explain.alerts_of(slo)],
    }


def _alert(told: explain.Explained) -> dict[str, object]:
    return {
        "severity": told.alert.severity,
        "long": duration(told.alert.long),
        "short": duration(told.alert.short),
        "factor": told.factor,
        "threshold": told.threshold,
        "min_bad_events": MIN_BAD_EVENTS,
        "seconds_to_detect": {f"{share:.0%}": seconds for share, seconds in told.detects.items()},
        "budget_spent": told.budget_spent,
        "seconds_to_reset": told.resets,
    }
