"""What all SLIs share: requests and counts, what an SLI answers, and SLIs whose PromQL is a sum of counters."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from slo.catalog import Metric
from slo.promql import Scope, Selector, aggregate, sum_rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request as somebody saw it. Times in seconds, `start` in Unix time; None is unknown or not applicable.

    `ok` is True for a complete answer, False for a failure of the service (5xx, refused, timed out, cut off),
    None for what does not count either way (4xx, cancelled by the client).
    """

    start: float
    ok: bool | None = True
    ttft: float | None = None
    tpot: float | None = None
    e2e: float | None = None
    queue: float | None = None
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Count:
    """Good events of all events that count."""

    good: int
    total: int

    @property
    def ratio(self) -> float | None:
        """Good share, or None when nothing counted."""
        return self.good / self.total if self.total else None


# Series that are added (+1) or subtracted (-1).
Terms = tuple[tuple[int, Selector], ...]


class Sli(Protocol):
    """What every SLI offers.

    `condition` is a good event in words, `unit_of_count` what `count` counts and `unit_of_rules` what the PromQL does;
    `needs` is the family without which there are no events (None where only the user's PromQL knows). Where
    `good_comes_late`, the series of good events may be missing as long as nothing was good.
    """

    @property
    def condition(self) -> str: ...

    @property
    def unit_of_count(self) -> str: ...

    @property
    def unit_of_rules(self) -> str: ...

    @property
    def needs(self) -> Metric | None: ...

    @property
    def good_comes_late(self) -> bool: ...

    def good(self, window: str, scope: Scope) -> str:
        """PromQL: good events per second over `window`."""
        ...

    def total(self, window: str, scope: Scope) -> str:
        """PromQL: all events per second over `window`."""
        ...

    def count(self, requests: Sequence[Request], /) -> Count | None:
        """Good and total over many requests; None when requests cannot tell."""
        ...


class CounterSli(ABC):
    """The SLIs whose events counters count, one by one."""

    @property
    @abstractmethod
    def unit_of_count(self) -> str:
        """What is counted, in the plural."""

    @property
    def unit_of_rules(self) -> str:
        return self.unit_of_count

    @property
    def needs(self) -> Metric:
        return self.total_terms()[0][1].metric

    @property
    def good_comes_late(self) -> bool:
        return False

    @abstractmethod
    def good_terms(self) -> Terms:
        """Counters whose sum is the good events."""

    @abstractmethod
    def total_terms(self) -> Terms:
        """Counters whose sum is all events."""

    def good(self, window: str, scope: Scope) -> str:
        return combine(self.good_terms(), window, scope)

    def total(self, window: str, scope: Scope) -> str:
        return combine(self.total_terms(), window, scope)


def added(terms: Terms, window: str, scope: Scope) -> str:
    """PromQL: the events per second of counters of which some may not have appeared yet, all with the sign +1."""
    first, *others = (scope.over("rate", selector, window) for _, selector in terms)
    # Without a label of their own, series of the second counter would be taken for those of the first.
    apart = [f'label_replace({other}, "counter", "{n}", "", "")' for n, other in enumerate(others, start=2)]
    return aggregate("sum", " or ".join((first, *apart)), scope.by_for(terms[0][1].metric))


def combine(terms: Terms, window: str, scope: Scope) -> str:
    """PromQL: the events per second that `terms` count over `window`."""
    first, *rest = terms
    text = sum_rate(first[1], window, scope)
    return text + "".join(f" {'+' if sign > 0 else '-'} {sum_rate(s, window, scope)}" for sign, s in rest)
