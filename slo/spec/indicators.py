"""The `sli` part of a spec: which kind it is, and its fields."""

import re
from collections.abc import Callable
from functools import partial

from slo import catalog, grammar
from slo.catalog import Metric
from slo.engines import ENGINES
from slo.promql import Scope, quote
from slo.sli import (
    GENERATION_HANDLERS,
    AvailabilitySli,
    GoodputSli,
    ItlSli,
    LatencySli,
    PromqlSli,
    SaturationSli,
    Sli,
    StallSli,
    ThroughputSli,
)
from slo.sli.query import SELECTOR, WINDOW, placeholders, render
from slo.spec import values
from slo.spec.document import Value
from slo.windows import HOUR, MINUTE

LATENCIES = {"ttft": catalog.TTFT, "tpot": catalog.TPOT, "e2e": catalog.E2E, "queue": catalog.QUEUE_TIME}
# Whose events are requests that spans can judge one by one.
EVENT_SLIS = (LatencySli, GoodputSli)


def read(value: Value, *, engine: str, exact: bool, narrowed: bool) -> Sli:
    """The SLI of an SLO: on an engine's bucket edges, from spans if `exact`, over a selector's series if `narrowed`."""
    key, body = value.mapping().only()
    readers: dict[str, Callable[[Value], Sli]] = {
        "latency": partial(_latency, engine=engine, exact=exact),
        "goodput": partial(_goodput, engine=engine, exact=exact),
        "availability": partial(_availability, engine=engine),
        "throughput": _throughput,
        "kv_cache": _kv_cache,
        "stall": _stall,
        "promql": partial(_promql, narrowed=narrowed),
    }
    if key.text() not in readers:
        raise key.error(f"unknown SLI {key.text()!r}; known: {', '.join(readers)}")
    return readers[key.text()](body)


def _latency(value: Value, engine: str, exact: bool) -> LatencySli | ItlSli:
    fields = value.mapping()
    metric = fields.take("metric", _metric)
    threshold = fields.take("threshold", partial(_threshold, metric=metric, engine=engine, exact=exact))
    fields.done()
    return ItlSli(threshold, engine) if metric is catalog.ITL else LatencySli(metric, threshold, engine)


def _goodput(value: Value, engine: str, exact: bool) -> GoodputSli:
    fields = value.mapping()
    conditions = fields.take("conditions", partial(_conditions, engine=engine, exact=exact))
    fields.done()
    return GoodputSli(conditions)


def _conditions(value: Value, engine: str, exact: bool) -> tuple[LatencySli, ...]:
    found: list[LatencySli] = []
    for item in value.items():
        condition = _latency(item, engine, exact)
        if isinstance(condition, ItlSli):
            raise item.error("goodput judges requests, and itl is a gap between tokens; use tpot")
        if condition.metric in [other.metric for other in found]:
            raise item.error("a second condition on the same latency; keep the stricter one")
        found.append(condition)
    if not found:
        raise value.error("goodput needs at least one latency condition")
    return tuple(found)


def _availability(value: Value, engine: str) -> AvailabilitySli:
    fields = value.mapping()
    handlers = fields.optional("handlers", _regex, "")
    fields.done()
    sli = AvailabilitySli(handlers or GENERATION_HANDLERS, engine)
    if engine and engine not in sli.needs.upstream:
        why = ENGINES[engine].why_absent(sli.needs.name)
        raise value.error(f"{engine} does not count failures: {why}. Count them at a gateway, with 'promql'")
    if handlers and not sli.by_status:
        raise value.error(f"{engine} counts requests, not routes; take 'handlers' out")
    return sli


def _throughput(value: Value) -> ThroughputSli:
    fields = value.mapping()
    floor = fields.take("tokens_per_second", values.positive)
    sli = ThroughputSli(floor, fields.optional("demand", values.whole, 1))
    fields.done()
    return sli


def _kv_cache(value: Value) -> SaturationSli:
    fields = value.mapping()
    sli = SaturationSli(fields.take("limit", values.ratio))
    fields.done()
    return sli


def _stall(value: Value) -> StallSli:
    fields = value.mapping()
    sli = StallSli(fields.optional("within", _within, 2 * MINUTE))
    fields.done()
    return sli


def _promql(value: Value, narrowed: bool) -> PromqlSli:
    fields = value.mapping()
    sli = PromqlSli(*(fields.take(name, partial(_query, narrowed=narrowed)) for name in ("good", "total")))
    fields.done()
    if sli.good_query == sli.total_query:
        raise value.error("'good' and 'total' are the same expression, so nothing could ever be bad")
    return sli


# --- single values ---------------------------------------------------------------------------------------------------


def _metric(value: Value) -> Metric:
    known = {**LATENCIES, "itl": catalog.ITL}
    if value.text() not in known:
        raise value.error(f"unknown latency {value.text()!r}; known: {', '.join(known)}")
    return known[value.text()]


def _threshold(value: Value, metric: Metric, engine: str, exact: bool) -> float:
    seconds = values.seconds(value)
    if exact and metric is not catalog.ITL:
        return seconds
    try:
        metric.edge(seconds, engine)
    except ValueError as error:
        spans = "" if metric is catalog.ITL else ", or set 'exact: true' to count requests from spans"
        raise value.error(
            f"threshold {value.text()}: {error} (seconds). Use one of them, or give the engine that bucket{spans}"
        ) from None
    return seconds


def _within(value: Value) -> int:
    seconds = values.seconds(value)
    if seconds != int(seconds) or not MINUTE <= seconds <= HOUR:
        raise value.error(f"{value.text()!r} must be whole seconds, from 1m (a scrape sees no less) to 1h")
    return int(seconds)


def _regex(value: Value) -> str:
    # Prometheus' regular expressions know no look-around and no back-references: its own parser has to accept it.
    if wrong := grammar.problem(f"x{{handler=~{quote(value.text())}}}"):
        raise value.error(f"{value.text()!r} is no regular expression of Prometheus: {wrong}")
    try:
        re.compile(value.text())
    except re.error as error:  # metrics pages are matched here, too
        raise value.error(f"{value.text()!r} is too special: {error}; write it so that Python reads it too") from None
    return value.text()


def _query(value: Value, narrowed: bool) -> str:
    query = value.text()
    for name in sorted(placeholders(query) - {WINDOW, SELECTOR}):
        raise value.error(f"unknown placeholder {{{{{name}}}}}; known: {{{{{WINDOW}}}}} and {{{{{SELECTOR}}}}}")
    if WINDOW not in placeholders(query):
        raise value.error("the range must be {{window}}, as in rate(events_total[{{window}}]): rules fill in several")
    if narrowed and SELECTOR not in placeholders(query):
        raise value.error(
            "the spec has a 'selector' that this expression ignores; put {{selector}} among the labels of its series"
        )
    # Alone, or it might close the bracket that it is put into; and in it, for only a vector can be summed.
    for scope in (None, Scope()):
        if wrong := grammar.problem(render(query, "5m", scope)):
            raise value.error(f"not valid PromQL: {wrong}")
    return query
