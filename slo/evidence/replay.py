"""The burn-rate alerts replayed over past events: when would this policy have fired?

A window of w seconds is tiled with five-minute rates, so that its sum is the increase over exactly w. The rules feed
windows above an hour from increments of five minutes and evaluate them every one to three: there a replay may be
eight minutes early or late. Pages that an hour decides start and end in the minute of the rules.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from slo.spec.model import Slo
from slo.windows import BURN_ALERTS, DETECTION_SHARE, KEEP_FIRING, LOWEST_CAP, MIN_BAD_EVENTS, MINUTE, BurnAlert

# What a rate is taken over; windows are multiples of it.
TILE = 5 * MINUTE


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The events of one SLO and group on a grid: at `start` (Unix seconds) and every `step` seconds from it.

    `good` and `total` are events per second over the five minutes before; no data is no events.
    """

    slo: Slo
    group: Mapping[str, str]
    start: int
    step: int
    good: Sequence[float]
    total: Sequence[float]


@dataclass(frozen=True, slots=True)
class Policy:
    """When to alert: burn alerts, the share of a long window within which a total outage must trip it, and the bad
    events that a long window must hold."""

    alerts: tuple[BurnAlert, ...] = BURN_ALERTS
    detection_share: float = DETECTION_SHARE
    min_bad_events: int = MIN_BAD_EVENTS

    def factor(self, alert: BurnAlert, slo: Slo) -> float:
        """The burn rate above which `alert` fires, capped as `BurnAlert.factor` is."""
        cap = max(LOWEST_CAP, self.detection_share / slo.error_budget)
        return min(alert.share_factor(slo.period), cap)


@dataclass(frozen=True, slots=True)
class Firing:
    """An alert from its first to its last second, in Unix time."""

    severity: str
    start: float
    end: float


class Replay:
    """One history, with the window sums that policies share kept."""

    def __init__(self, history: History) -> None:
        self.history = history
        self._levels: dict[tuple[int, int, int], list[float]] = {}
        self._sums: dict[int, list[tuple[float, float]]] = {}

    def firings(self, policy: Policy) -> list[Firing]:
        """All alerts of all severities, each severity's in order."""
        severities = dict.fromkeys(alert.severity for alert in policy.alerts)
        return [firing for severity in severities for firing in self._of_severity(policy, severity)]

    def _of_severity(self, policy: Policy, severity: str) -> Iterable[Firing]:
        slo, start, step = self.history.slo, self.history.start, self.history.step
        burning = set[int]()
        for alert in policy.alerts:
            if alert.severity == severity:
                limit = policy.factor(alert, slo) * slo.error_budget
                levels = self._level(alert, policy.min_bad_events)
                burning.update(i for i, level in enumerate(levels) if level > limit)
        for first, last in _spells(sorted(burning), KEEP_FIRING[severity] // step):
            yield Firing(severity, start + first * step, start + last * step + KEEP_FIRING[severity])

    def _level(self, alert: BurnAlert, guard: int) -> list[float]:
        """The error ratio that both windows reach; -1 where the long one holds fewer than `guard` bad events."""
        key = (alert.long, alert.short, guard)
        if key not in self._levels:
            pairs = zip(self._bad_of(alert.long), self._bad_of(alert.short), strict=True)
            self._levels[key] = [
                min(bad / total, short_bad / short_total) if total > 0 and short_total > 0 and bad >= guard else -1.0
                for (bad, total), (short_bad, short_total) in pairs
            ]
        return self._levels[key]

    def _bad_of(self, window: int) -> list[tuple[float, float]]:
        """Bad and total events of the window that ends at each step."""
        if window not in self._sums:
            good, total = (_sums(x, window, self.history.step) for x in (self.history.good, self.history.total))
            self._sums[window] = [(t - g, t) for g, t in zip(good, total, strict=True)]
        return self._sums[window]


def _sums(rates: Sequence[float], window: int, step: int) -> list[float]:
    """Events in the window before each step: the sum over its tiles, as differences of running sums.

    In whole millionths of an event, since an idle window must come out as 0 and not as what rounding left.
    """
    tile, width = TILE // step, window // step
    running = [round(rate * TILE * 1e6) for rate in rates]
    for i in range(tile, len(running)):
        running[i] += running[i - tile]
    return [(now - before) / 1e6 for now, before in zip(running, [*[0] * width, *running], strict=False)]


def _spells(moments: Sequence[int], gap: int) -> Iterable[tuple[int, int]]:
    """First and last of each run of moments that are at most `gap` apart."""
    first = 0
    for i, moment in enumerate(moments):
        if i + 1 == len(moments) or moments[i + 1] - moment > gap:
            yield moments[first], moment
            first = i + 1
