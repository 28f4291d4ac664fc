"""What happened between two readings of a `/metrics` page, by the same SLI terms that the rules are made of."""

from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from slo.catalog import Metric
from slo.promql import Selector
from slo.sli import Count, Terms

Series = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True, slots=True)
class Reading:
    """One exposition: series -> value."""

    samples: Mapping[Series, float]

    def sum(self, selector: Selector) -> float | None:
        """The sum of the selected series; None when there is none. Names are the catalogue's."""
        name = selector.metric.name + selector.suffix
        found = [
            value
            for (series, labels), value in self.samples.items()
            if series == name and all(m.matches(dict(labels)) for m in selector.matchers)
        ]
        return sum(found) if found else None


def read(text: str) -> Reading:
    """Parse a text exposition. Raises ValueError when it is none."""
    families = text_string_to_metric_families(text)
    return Reading({(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples})


@dataclass(frozen=True, slots=True)
class Interval:
    """The growth of counters from `before` to `after`; a counter that was not there before started at zero."""

    before: Reading
    after: Reading

    def growth(self, selector: Selector) -> float | None:
        """By how much the selected counters grew; None when there is none at the end."""
        end = self.after.sum(selector)
        return None if end is None else end - (self.before.sum(selector) or 0.0)

    def count(self, good: Terms, total: Terms) -> Count | None:
        """Good and total events of the interval; None when no series tells the total."""
        all_events = self._combine(total)
        return None if all_events is None else Count(round(max(0.0, self._combine(good) or 0.0)), round(all_events))

    def mean(self, histogram: Metric) -> float | None:
        """The mean of a histogram's observations in the interval; None without any."""
        count, total = self.growth(Selector(histogram, "_count")), self.growth(Selector(histogram, "_sum"))
        return total / count if count and total is not None else None

    def _combine(self, terms: Terms) -> float | None:
        values = [(sign, self.growth(selector)) for sign, selector in terms]
        known = [sign * value for sign, value in values if value is not None]
        return sum(known) if known else None
