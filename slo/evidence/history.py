"""Where past events come from: the recorded series of a Prometheus, its raw series, or the requests of a load test."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence

from slo.evidence.replay import TILE, History
from slo.live.prometheus import Prometheus
from slo.promql import Scope, equals
from slo.rules import recorded
from slo.sli import Request, RequestSli, exact
from slo.spec.model import Slo, Spec
from slo.windows import DAY, MINUTE

STEP = MINUTE
LONGEST_TEST = 30 * DAY
# Recorded series that cover less of the span than this give way to the SLI's own PromQL, where that has more.
_COVERED = 0.9

_NOT_GROUP = {"__name__", "slo"}

# Per group of labels, events per second by Unix time.
Rates = dict[frozenset[tuple[str, str]], Mapping[float, float]]


def from_prometheus(prometheus: Prometheus, spec: Spec, source: str, start: int, end: int) -> list[History]:
    """A history per SLO and group between two Unix times; SLOs without any data have none. Raises PrometheusError."""
    scope = Scope(source, equals(spec.selector), spec.group_by)
    return [history for slo in spec.slos for history in _of_slo(prometheus, slo, scope, range(start, end + 1, STEP))]


def from_requests(spec: Spec, requests: Sequence[Request]) -> list[History]:
    """A history per SLO that requests can judge; each counts when it was over. ValueError for a test of many days."""
    if not requests:
        return []
    ends = [request.start + (request.e2e or request.ttft or 0) for request in requests]
    times = range(int(min(ends)) // STEP * STEP, int(max(ends)) + TILE + STEP, STEP)
    if len(times) > LONGEST_TEST // STEP:
        raise ValueError(f"the requests lie {len(times) * STEP / DAY:.0f} days apart; that is no load test")
    found = []
    for slo in spec.slos:
        if isinstance(slo.sli, RequestSli):
            verdicts = [(at, slo.sli.judge(request)) for at, request in zip(ends, requests, strict=True)]
            good = _rates([at for at, verdict in verdicts if verdict], times)
            total = _rates([at for at, verdict in verdicts if verdict is not None], times)
            found.append(History(slo=slo, group={}, start=times[0], step=STEP, good=good, total=total))
    return found


def _of_slo(prometheus: Prometheus, slo: Slo, scope: Scope, times: range) -> Iterable[History]:
    good, total = _recorded(prometheus, slo, times)
    if _most(total) < _COVERED * len(times):
        own_good, own_total = _evaluated(prometheus, slo, scope, times)
        good, total = (own_good, own_total) if _most(own_total) > _most(total) else (good, total)
    for group, samples in sorted(total.items(), key=lambda item: sorted(item[0])):
        of_good = good.get(group, {})
        if not slo.sli.good_comes_late:  # then no good events are none known, and a hole as it is in the rules
            samples = {at: rate for at, rate in samples.items() if at in of_good}
        if samples:
            known = [at for at in times if at >= min(samples)]
            good_rates, total_rates = ([found.get(at, 0.0) for at in known] for found in (of_good, samples))
            yield History(slo=slo, group=dict(group), start=known[0], step=STEP, good=good_rates, total=total_rates)


def _recorded(prometheus: Prometheus, slo: Slo, times: range) -> tuple[Rates, Rates]:
    good, total = (recorded.of(name, slo.id) for name in (recorded.GOOD_5M, recorded.TOTAL_5M))
    return _fetched(prometheus, good, times), _fetched(prometheus, total, times)


def _evaluated(prometheus: Prometheus, slo: Slo, scope: Scope, times: range) -> tuple[Rates, Rates]:
    if slo.exact:
        good, total = exact(slo.id, "5m", scope)
    else:
        good, total = slo.sli.good("5m", scope), slo.sli.total("5m", scope)
    return _fetched(prometheus, good, times), _fetched(prometheus, total, times)


def _fetched(prometheus: Prometheus, expr: str, times: range) -> Rates:
    found = prometheus.range(expr, times[0], times[-1], STEP)
    labels = ({name: value for name, value in series.labels.items() if name not in _NOT_GROUP} for series in found)
    return {frozenset(group.items()): series.samples for group, series in zip(labels, found, strict=True)}


def _most(rates: Rates) -> int:
    return max(map(len, rates.values()), default=0)


def _rates(ends: Sequence[float], times: range) -> list[float]:
    """Events per second over the tile before each of `times`."""
    ordered = sorted(ends)
    return [(bisect_right(ordered, at) - bisect_right(ordered, at - TILE)) / TILE for at in times]
