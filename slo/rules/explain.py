"""What an SLO's alerts do, in figures and in words that need no book on SLOs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slo import tables
from slo.promql import duration
from slo.sli import SLICE_SECONDS, RequestSli, SliceSli
from slo.spec.model import Slo, Spec
from slo.windows import BURN_ALERTS, MIN_BAD_EVENTS, MINUTE, BurnAlert, budget_spent

# Outages to tell the time for: shares of events that are bad.
OUTAGES = (0.1, 0.5, 1.0)
# What the arithmetic leaves out: a scrape of 15-30 s, and each group's wait for its turn. Windows above an hour are
# made of five-minute increments besides.
LATE_HOUR, LATE_LONG = 2 * MINUTE, 8 * MINUTE
_HEADER = (
    "alert",
    "windows",
    "factor",
    "trips above",
    *(f"{share:.0%} bad" for share in OUTAGES),
    "budget gone",
    "resets",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """One burn-rate alert of one SLO. Times in seconds; None is never.

    `threshold` is the share of bad events above which it trips, `detects` the time to that for each of OUTAGES,
    `budget_spent` the share gone when a total outage trips it, `resets` the time after its end until it stops.
    """

    alert: BurnAlert
    factor: float
    threshold: float
    detects: Mapping[float, float | None]
    budget_spent: float | None
    resets: float


def alerts_of(slo: Slo) -> list[Explained]:
    """The alerts of an SLO, fastest first."""
    return [_explained(alert, slo) for alert in BURN_ALERTS]


def detects(alert: BurnAlert, slo: Slo, bad: float) -> float | None:
    """Seconds from the start of an outage in which a share of events is `bad` until the alert trips; None is never.

    Where minutes of engines are judged, it takes some time to see a bad one, and MIN_BAD_EVENTS of them: here of one
    engine.
    """
    seconds = alert.detection_seconds(bad, slo.error_budget, slo.period)
    if seconds is None or not isinstance(slo.sli, SliceSli):
        return seconds
    return slo.sli.late + max(seconds, MIN_BAD_EVENTS * SLICE_SECONDS / bad)


def _explained(alert: BurnAlert, slo: Slo) -> Explained:
    budget, period = slo.error_budget, slo.period
    factor, total = alert.factor(budget, period), detects(alert, slo, 1.0)
    return Explained(
        alert=alert,
        factor=factor,
        threshold=factor * budget,
        detects={share: detects(alert, slo, share) for share in OUTAGES},
        budget_spent=None if total is None else budget_spent(total, 1.0, budget, period),
        resets=alert.reset_seconds(1.0, budget, period),
    )


def minutes_to(severity: str, slo: Slo) -> dict[float, float | None]:
    """Minutes until the first alert of `severity` trips, for each of OUTAGES; None is never."""
    found = [told.detects for told in alerts_of(slo) if told.alert.severity == severity]
    fastest = {
        share: min((d for detects in found if (d := detects[share]) is not None), default=None) for share in OUTAGES
    }
    return {share: None if seconds is None else seconds / 60 for share, seconds in fastest.items()}


def text(slo: Slo, spec: Spec) -> list[str]:
    """The SLO in words, and its alerts as a table."""
    unit, period = slo.sli.unit_of_rules, duration(slo.period)
    told = alerts_of(slo)
    page = told[0]
    return [
        f"{slo.id}: {_percent(slo.objective)} of {unit} shall be good over {period}. Good: {slo.sli.condition}.",
        f"  {_source(slo, spec)}",
        f"  Error budget: {_percent(slo.error_budget)} of {unit} may be bad. A total outage spends all of it in "
        f"{time(slo.error_budget * slo.period)}; with {_percent(slo.error_budget)} bad it lasts exactly {period}.",
        f"  Somebody is paged once more than {_percent(page.threshold)} of the last {duration(page.alert.long)} was "
        f"bad, and of the last {duration(page.alert.short)} too: {page.factor:.3g} times what the budget allows.",
        *_events(unit, page),
        *(f"  {line}" for line in tables.text(_HEADER, [_row(one) for one in told])),
        f"  Add up to {time(LATE_HOUR)} for scrapes and evaluation ({time(LATE_LONG)} where windows are longer than "
        "1h). Budget gone and reset are those of a total outage under even traffic.",
    ]


def _source(slo: Slo, spec: Spec) -> str:
    each = f", for each {' and '.join(spec.group_by)}" if spec.group_by else ", for all together"
    if slo.exact:
        return f"Counted from request spans, one by one, by the sidecar{each}."
    needs = slo.sli.needs
    floor = " A guaranteed floor: histograms cannot tell which requests missed two conditions at once."
    exactable = isinstance(slo.sli, RequestSli) and slo.sli.condition.count(" and ")
    return f"Counted from {needs.name if needs else 'its own PromQL'}{each}.{floor if exactable else ''}"


def _events(unit: str, page: Explained) -> list[str]:
    fewest = math.ceil(MIN_BAD_EVENTS / page.threshold)
    return [
        f"  Fewer than {MIN_BAD_EVENTS} bad {unit} in a window alert nobody. At the threshold that takes {fewest} in "
        f"{duration(page.alert.long)}; a quieter service is alerted later, by the longer windows."
    ]


def _row(told: Explained) -> Sequence[str]:
    alert = told.alert
    return (
        alert.severity,
        f"{duration(alert.long)} + {duration(alert.short)}",
        f"{told.factor:.3g}",
        f"{_percent(told.threshold)} bad",
        *(time(seconds) for seconds in told.detects.values()),
        "-" if told.budget_spent is None else _percent(told.budget_spent),
        time(told.resets),
    )


def _percent(share: float) -> str:
    return f"{share * 100:.4g} %"


def time(seconds: float | None) -> str:
    """Seconds in the two largest units that matter: `1d 12h`, `10m`, `52s`; `never` for None."""
    if seconds is None:
        return "never"
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole}s"
    minutes = round(seconds / MINUTE)
    parts = [(minutes // 1440, "d"), (minutes // 60 % 24, "h"), (minutes % 60, "m")]
    return " ".join([f"{number}{unit}" for number, unit in parts if number][:2])
