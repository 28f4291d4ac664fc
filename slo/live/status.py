"""How every SLO stands now: budget left, burn rates, what fires, and when the budget will be gone.

All of it is read from the series that the rules record, so that it says what alerts and dashboards say.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from slo.live.prometheus import Prometheus, PrometheusError, Series
from slo.promql import duration
from slo.rules import recorded
from slo.spec.model import Slo, Spec
from slo.windows import BURN_ALERTS, HOUR

BURN_WINDOWS = tuple(dict.fromkeys(duration(alert.long) for alert in BURN_ALERTS))
# What a series says besides its group; the rest of its labels tell the group, such as the model.
_NOT_GROUP = {"__name__", "slo", "period"}

# An SLO's id and the labels of one of its groups.
Key = tuple[str, frozenset[tuple[str, str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One SLO of one group (such as a model). None is: no data.

    `budget_left` is the share of the period's budget that is not spent, negative when overspent; `burn` maps windows
    to burn rates; `exhausted_in` is the seconds until the budget is spent if the last hour goes on, None when it
    will not be. `firing` is the worst severity that fires, or "".
    """

    slo: Slo
    group: Mapping[str, str]
    budget_left: float | None
    burn: Mapping[str, float]
    exhausted_in: float | None = None
    firing: str = ""

    @property
    def fine(self) -> bool:
        """There is budget left and nobody is paged; without data nothing is fine."""
        return self.budget_left is not None and self.budget_left > 0 and self.firing != "page"


def read(prometheus: Prometheus, specs: Sequence[Spec], now: int) -> list[Status]:
    """Every SLO of the specs, worst first. Raises PrometheusError, also when the rules are not loaded there."""
    slos = {slo.id: slo for spec in specs for slo in spec.slos}
    chosen = f'slo=~"{"|".join(slos)}"'
    if not prometheus.instant(f"{recorded.ERROR_BUDGET}{{{chosen}}}", now):
        raise PrometheusError(
            f"{prometheus.url} has no {recorded.ERROR_BUDGET} of {', '.join(slos)}: "
            "load the rules there that 'slo-gen build' writes for the spec"
        )
    left = _latest(prometheus.instant(f"{recorded.BUDGET_LEFT}{{{chosen}}}", now))
    burns = {w: _latest(prometheus.instant(f"{recorded.burn_rate(w)}{{{chosen}}}", now)) for w in BURN_WINDOWS}
    firing = prometheus.instant(f'ALERTS{{alertstate="firing",{chosen}}}', now)
    hours = max(slo.period for slo in slos.values()) // HOUR
    good = _hourly(prometheus, f"{recorded.GOOD_INCREASE}{{{chosen}}}", now, hours)
    total = _hourly(prometheus, f"{recorded.TOTAL_INCREASE}{{{chosen}}}", now, hours)

    def status(slo: Slo, key: Key) -> Status:
        kept = slo.period // HOUR
        return Status(
            slo=slo,
            group=dict(sorted(key[1])),
            budget_left=left.get(key),
            burn={window: burn[key] for window, burn in burns.items() if key in burn},
            exhausted_in=seconds_to_exhaustion(good.get(key, [])[-kept:], total.get(key, [])[-kept:], slo.error_budget),
            firing=_firing(firing, key),
        )

    seen = {key for latest in (left, *burns.values()) for key in latest}
    unseen = {(slo_id, frozenset[tuple[str, str]]()) for slo_id in slos.keys() - {slo_id for slo_id, _ in seen}}
    return sorted((status(slos[key[0]], key) for key in seen | unseen), key=_rank)


def seconds_to_exhaustion(good: Sequence[float], total: Sequence[float], error_budget: float) -> float | None:
    """Seconds until bad events exceed `error_budget` of all, if the last hour repeats itself; None when never.

    `good` and `total` are events per hour over the period, oldest first. The period rolls: with every hour to come
    the oldest one leaves, its bad events too. 0 says that the budget is spent.
    """
    if not good or not total:
        return None
    overspent = [t - g - error_budget * t for g, t in zip(good, total, strict=True)]
    balance = sum(overspent)
    if balance > 0:
        return 0.0
    for hour, leaves in enumerate(overspent):
        change = overspent[-1] - leaves
        if balance + change > 0:
            return (hour - balance / change) * HOUR
        balance += change
    return None


def _hourly(prometheus: Prometheus, selector: str, now: int, hours: int) -> dict[Key, list[float]]:
    """Events per hour, oldest first; an hour without data has none."""
    times = [now - hour * HOUR for hour in reversed(range(hours))]
    found = prometheus.range(f"sum_over_time({selector}[1h])", times[0], now, HOUR)
    return {_key(series): [series.samples.get(time, 0.0) for time in times] for series in found}


def _latest(found: Iterable[Series]) -> dict[Key, float]:
    return {_key(series): value for series in found for value in series.samples.values()}


def _key(series: Series) -> Key:
    labels = series.labels
    return labels["slo"], frozenset((name, value) for name, value in labels.items() if name not in _NOT_GROUP)


def _firing(alerts: Iterable[Series], key: Key) -> str:
    """The worst severity of the firing alerts that carry the key's labels."""
    wanted = {("slo", key[0])} | key[1]
    severities = {alert.labels.get("severity", "") for alert in alerts if wanted <= alert.labels.items()}
    return "page" if "page" in severities else max(severities, default="")


def _rank(status: Status) -> tuple[bool, float, str, str]:
    """What is paged first, then what has no data, then by the budget left."""
    left = -math.inf if status.budget_left is None else status.budget_left
    return status.firing != "page", left, status.slo.id, str(status.group)
