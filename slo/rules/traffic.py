"""Series that stand for traffic on an SLO, in promtool's notation: what an engine would expose, minute by minute."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from slo import catalog
from slo.catalog import Metric
from slo.promql import Matcher, Scope, Selector, equals, number
from slo.sli import (
    AvailabilitySli,
    GoodputSli,
    ItlSli,
    LatencySli,
    SaturationSli,
    StallSli,
    ThroughputSli,
    exact_terms,
)
from slo.spec.model import Slo, Spec

# Events per minute: enough that a small share of them is a whole number and passes the minimum of bad events.
EVENTS = 6000
_ROUTES = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/generate")


class NoTrafficError(ValueError):
    """Traffic that cannot be made up; the text says why."""


@dataclass(frozen=True, slots=True)
class Phase:
    """Minutes in which a share of the events is `bad`; None is no events at all."""

    minutes: int
    bad: float | None = 0.0


@dataclass(frozen=True, slots=True)
class Line:
    """One series: its name with labels, and its values as promtool writes them."""

    series: str
    values: str


def lines(slo: Slo, spec: Spec, source: str, phases: Sequence[Phase], *, pod: str = "a", after: int = 0) -> list[Line]:
    """The series of one pod that starts `after` minutes, from zero. Raises NoTrafficError."""
    labels = {label: "m" for label in spec.group_by if label not in spec.selector} | {"instance": pod}
    scope = Scope(source, equals({**spec.selector, **labels}))
    found = []
    for selector, is_counter, levels in _levels(slo, phases):
        minutes = [phase.minutes for phase in phases]
        values = _counter(levels, minutes) if is_counter else _gauge(levels, minutes)
        gap = f"_x{after} " if after else ""
        found.append(Line(_named(selector, scope), gap + " ".join(values)))
    return found


def _named(selector: Selector, scope: Scope) -> str:
    matchers = (_exact(m) for m in scope.matchers_for(selector.metric, selector.matchers))
    return f"{scope.name_of(selector.metric)}{selector.suffix}{{{','.join(map(str, matchers))}}}"


def _exact(matcher: Matcher) -> Matcher:
    """A series has one spelling of `le`, where a rule accepts two."""
    return Matcher("le", "=", matcher.value.replace("(\\.0)?", ".0")) if matcher.op == "=~" else matcher


def _counter(increments: Sequence[float], minutes: Sequence[int]) -> Iterator[str]:
    value = 0.0
    yield "0"
    for increment, length in zip(increments, minutes, strict=True):
        yield f"{number(value + increment)}+{number(increment)}x{length - 1}"
        value += increment * length


def _gauge(values: Sequence[float], minutes: Sequence[int]) -> Iterator[str]:
    yield number(values[0])
    for value, length in zip(values, minutes, strict=True):
        yield f"{number(value)}x{length - 1}"


# --- what each SLI reads ---------------------------------------------------------------------------------------------


def _levels(slo: Slo, phases: Sequence[Phase]) -> Iterator[tuple[Selector, bool, Sequence[float]]]:
    """Selector, whether it is a counter, and its level in each phase."""
    sli = slo.sli
    total = [0.0 if phase.bad is None else EVENTS for phase in phases]
    good = [0.0 if phase.bad is None else EVENTS * (1 - phase.bad) for phase in phases]
    if slo.exact:
        ((_, good_events),), ((_, events),) = exact_terms(slo.id)
        yield from ((events, True, total), (good_events, True, good))
    elif isinstance(sli, LatencySli | ItlSli):
        yield from _histogram(sli, total, good)
    elif isinstance(sli, GoodputSli):
        first, *others = sli.conditions
        yield from _histogram(first, total, good)
        for other in others:
            yield from _histogram(other, total, total)
    elif isinstance(sli, AvailabilitySli):
        bad = [t - g for t, g in zip(total, good, strict=True)]
        answered, failed = _answers(sli)
        yield from ((answered, True, good), (failed, True, bad))
    elif isinstance(sli, ThroughputSli | StallSli):
        yield from _engine(sli, phases)
    elif isinstance(sli, SaturationSli):
        usage = [(1 + sli.limit) / 2 if phase.bad else sli.limit / 2 for phase in phases]
        yield Selector(catalog.KV_USAGE), False, usage
    else:
        raise NoTrafficError("what its own PromQL reads is not known")


def _histogram(
    sli: LatencySli | ItlSli, total: Sequence[float], good: Sequence[float]
) -> Iterator[tuple[Selector, bool, Sequence[float]]]:
    ((_, counted),), ((_, bucket),) = sli.total_terms(), sli.good_terms()
    yield from ((counted, True, total), (bucket, True, good))


def _answers(sli: AvailabilitySli) -> tuple[Selector, Selector]:
    """The counters of answers and of the service's failures."""
    if not sli.by_status:
        return Selector(catalog.FINISHED), Selector(catalog.FAILED, "", equals({"reason": "500"}))
    route = next((route for route in (*_ROUTES, sli.handlers) if re.fullmatch(sli.handlers, route)), None)
    if route is None:
        raise NoTrafficError(f"no route is known that matches {sli.handlers!r}")
    ok, failed = (equals({"handler": route, "status": status}) for status in ("2xx", "5xx"))
    return Selector(catalog.HTTP_REQUESTS, "", ok), Selector(catalog.HTTP_REQUESTS, "", failed)


def _engine(sli: ThroughputSli | StallSli, phases: Sequence[Phase]) -> Iterator[tuple[Selector, bool, Sequence[float]]]:
    """In flight what is demanded, and tokens at twice the floor unless the phase is bad."""
    demand, floor = (sli.demand, sli.floor) if isinstance(sli, ThroughputSli) else (1, 1.0)
    gauges: Sequence[tuple[Metric, float]] = ((catalog.RUNNING, demand), (catalog.WAITING, 0))
    for metric, value in gauges:
        yield Selector(metric), False, [0.0 if phase.bad is None else value for phase in phases]
    yield Selector(catalog.GENERATION_TOKENS), True, [120 * floor if phase.bad == 0 else 0.0 for phase in phases]
