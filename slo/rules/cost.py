"""What rules cost: the samples that Prometheus reads per second to evaluate them, estimated from their expressions.

A selector reads its series x its range / the time between two samples (1 for an instant), once per step of a subquery
around it; the sum over a rule's selectors is divided by its group's interval. Time between samples: the scrape interval
for raw series, the interval of the recording group for recorded ones. Series: one per pod of a raw family (an SLO's
selector picks one bucket, one counter), or one per bucket where it picks none; one per SLO of a recorded one. A load
test has one client. Prometheus calls the figure
totalQueryableSamples. A family with more series per pod, such as HTTP requests by status, costs that much more, and
each further value of a label that the spec groups by costs the recorded part once more.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from slo import catalog, grammar
from slo.grammar import Read
from slo.promql import seconds
from slo.rules.recorded import ERROR_BUDGET
from slo.rules.rule import RecordingRule, RuleGroup

_HISTOGRAMS = {f"{metric.name}_bucket": metric for metric in catalog.families() if metric.buckets}


@dataclass(frozen=True, slots=True)
class Cost:
    """Samples per second of each group, by its name, and the number of SLOs they serve."""

    groups: Mapping[str, float]
    slos: int

    @property
    def total(self) -> float:
        """Samples per second of all groups."""
        return sum(self.groups.values())


def estimate(groups: Sequence[RuleGroup], pods: int, scrape: float) -> Cost:
    """What the groups cost where `pods` pods are scraped every `scrape` seconds."""
    prices = _Prices(groups, pods, scrape)
    return Cost({group.name: prices.of_group(group) for group in groups}, prices.slos)


class _Prices:
    def __init__(self, groups: Sequence[RuleGroup], pods: int, scrape: float) -> None:
        self._pods, self._scrape = pods, scrape
        self._interval: dict[str, float] = {}
        self._slos_of_period: dict[str, int] = {}
        for group, rule in _recordings(groups):
            self._interval[rule.record] = seconds(group.interval)
            if rule.record == ERROR_BUDGET:
                period = rule.labels["period"]
                self._slos_of_period[period] = self._slos_of_period.get(period, 0) + 1
        self.slos = sum(self._slos_of_period.values())

    def of_group(self, group: RuleGroup) -> float:
        reads = [read for rule in group.rules for read in grammar.reads(rule.expr)]
        return sum(map(self._samples, reads)) / seconds(group.interval)

    def _samples(self, read: Read) -> float:
        interval = self._interval.get(read.name, self._scrape)
        return self._series(read) * read.times * max(1.0, read.seconds / interval)

    def _series(self, read: Read) -> int:
        if read.name not in self._interval:
            return _raw_series(read, self._pods)
        labels = {matcher.label: matcher.value for matcher in read.matchers}
        if not read.name.startswith("slo:") or "slo" in labels:
            return 1
        return self._slos_of_period.get(labels["period"], 0) if "period" in labels else self.slos


def _raw_series(read: Read, pods: int) -> int:
    family = _HISTOGRAMS.get(read.name)
    if family is None or any(matcher.label == "le" for matcher in read.matchers):
        return pods
    return (len(family.buckets) + 1) * (1 if "load" in family.labels else pods)


def _recordings(groups: Iterable[RuleGroup]) -> Iterable[tuple[RuleGroup, RecordingRule]]:
    for group in groups:
        for rule in group.rules:
            if isinstance(rule, RecordingRule):
                yield group, rule
