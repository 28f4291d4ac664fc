"""The indicator of an SLO: which good and total its metrics and its budgeting method make."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from slo.openslo.native import Native, recognise
from slo.openslo.nodes import Node
from slo.openslo.queries import MARK, QueryError, Windowed, instant, windowed
from slo.promql import number

# Prometheus and what speaks its language.
PROMETHEUS = ("prometheus", "thanos", "mimir", "cortex", "victoriametrics")
# A slice must fit into the shortest window of the alerts.
LONGEST_SLICE = 5
_COMPARISONS = {"lte": "<=", "lt": "<", "gte": ">=", "gt": ">"}


@dataclass(frozen=True, slots=True)
class Indicator:
    """Good and total events per second, the SLI of ours that says the same if there is one, and remarks."""

    good: Windowed
    total: Windowed
    native: Native | None = None
    notes: tuple[str, ...] = ()


def indicator(spec: Node, objective: Node, method: str, sources: Mapping[str, Node]) -> Indicator:
    """What an SLI's `spec` counts under an objective of this budgeting method. Raises SpecError."""
    spec.allow("description", "ratioMetric", "thresholdMetric")
    ratio, threshold = spec.get("ratioMetric"), spec.get("thresholdMetric")
    if (ratio is None) == (threshold is None):
        raise spec.error("expected either ratioMetric or thresholdMetric")
    try:
        if threshold is None:
            counts = _ratio(spec.need("ratioMetric"), objective, method, sources)
        else:
            counts = _threshold(threshold, objective, method, sources)
    except RecursionError:
        raise spec.error("a query with too many operators or brackets inside each other") from None
    return replace(counts, notes=(*counts.notes, *_ignored(spec)))


def _ratio(ratio: Node, objective: Node, method: str, sources: Mapping[str, Node]) -> Indicator:
    ratio.allow("counter", "good", "bad", "total", "raw", "rawType")
    if raw := ratio.get("raw"):
        raise raw.error("a ratio computed before has lost its events; give good (or bad) and total")
    counter = ratio.get("counter")
    grows = counter is not None and counter.flag()
    good, bad = ratio.get("good"), ratio.get("bad")
    if (good is None) == (bad is None):
        raise ratio.error("expected either good or bad beside total")
    counted = _query(good or ratio.need("bad"), sources, lambda text: windowed(text, grows))
    total = _query(ratio.need("total"), sources, lambda text: windowed(text, grows))
    if bad is not None:  # without a series of bad events yet all are good
        counted = Windowed(f"({total.expr}) - ({counted.expr}) or ({total.expr})", total.by)
    if method == "Occurrences":
        return Indicator(counted, total, recognise(counted, total))
    return _slices(counted, total, objective, method)


def _slices(good: Windowed, total: Windowed, objective: Node, method: str) -> Indicator:
    """Each slice with traffic is one event: good from the slice's target on, or as good as its ratio."""
    minutes = _minutes(objective.need("timeSliceWindow"))
    n, g = (f"({query.expr.replace(MARK, f'{minutes}m')})" for query in (total, good))
    if method == "Timeslices":
        target = number(objective.need("timeSliceTarget").number())
        share = f"({g} >= bool {target} * {n}) * ({n} > bool 0)"
    else:
        share = f"{g} / ({n} > 0) or {n} * 0"
    return Indicator(_per_second(share, minutes, total.by), _per_second(f"{n} > bool 0", minutes, total.by))


def _threshold(metric: Node, objective: Node, method: str, sources: Mapping[str, Node]) -> Indicator:
    """Each minute's value is one event. A value that is not a number is none."""
    op, limit = objective.need("op"), objective.need("value")
    if op.text() not in _COMPARISONS:
        raise op.error(f"{op.text()!r} is none of {', '.join(_COMPARISONS)}")
    if method != "Occurrences" and _minutes(objective.need("timeSliceWindow")) != 1:
        raise objective.need("timeSliceWindow").error("a threshold is compared once a minute; use 1m")
    value = _query(metric, sources, instant)
    good = f"({value.expr}) {_COMPARISONS[op.text()]} bool {number(limit.number())}"
    return Indicator(
        _per_second(good, 1, value.by),
        _per_second(f"({value.expr}) > bool -Inf", 1, value.by),
        notes=("every minute's value is one event",),
    )


def _per_second(slices: str, minutes: int, by: tuple[str, ...]) -> Windowed:
    """Slices per second: the mean number of slices open at a time, over their length."""
    return Windowed(f"avg_over_time(({slices})[{MARK}:{minutes}m]) / {minutes * 60}", by)


def _minutes(node: Node) -> int:
    match = re.fullmatch(r"([1-9][0-9]*)m?", node.text())
    if not match or int(match[1]) > LONGEST_SLICE:
        raise node.error(
            f"{node.text()!r} is not one of 1m to {LONGEST_SLICE}m: alerts look at windows of {LONGEST_SLICE}m"
        )
    return int(match[1])


def _ignored(spec: Node) -> Iterator[str]:
    """Remarks on fields of data sources beside the query: they are the source's own, and not known here."""
    metrics = [
        spec.get("thresholdMetric"),
        *((spec.get("ratioMetric") or spec).get(key) for key in ("good", "bad", "total")),
    ]
    for source in (metric.need("metricSource").need("spec") for metric in metrics if metric):
        yield from (f"not taken over: {node.field}" for key, node in source.fields().items() if key != "query")


def _query(metric: Node, sources: Mapping[str, Node], take: Callable[[str], Windowed]) -> Windowed:
    """The query of a metric whose source is a Prometheus, through `take`."""
    metric.allow("metricSource")
    source = metric.need("metricSource")
    source.allow("metricSourceRef", "type", "spec")
    kind = _source_type(source, sources)
    if kind.text().lower() not in PROMETHEUS:
        raise kind.error(f"{kind.text()!r} is no Prometheus")
    query = source.need("spec").need("query")
    try:
        return take(query.text())
    except QueryError as error:
        raise query.error(str(error)) from None


def _source_type(source: Node, sources: Mapping[str, Node]) -> Node:
    if own := source.get("type"):
        return own
    reference = source.get("metricSourceRef")
    if reference is None:
        raise source.error("'type' or 'metricSourceRef' is missing")
    if reference.text() not in sources:
        raise reference.error(f"no DataSource {reference.text()!r} in this file, and no 'type' beside it")
    return sources[reference.text()].need("spec").need("type")
