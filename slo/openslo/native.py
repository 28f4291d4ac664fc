"""Queries that say what one of our own SLIs says: then the SLI, which knows more of itself than a query does."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from slo import catalog, grammar
from slo.engines import ENGINES
from slo.grammar import Read
from slo.openslo.queries import MARK, Windowed, canonical
from slo.promql import EXPORTER, Matcher, Scope
from slo.sli import GENERATION_HANDLERS, AvailabilitySli, ItlSli, LatencySli, Sli
from slo.spec.model import LATENCIES

# `1`, `1.0` and `1(\.0)?`, as sources and versions of Prometheus write an edge.
_EDGE = re.compile(r"([0-9]+(?:\.[0-9]+)?)(\(\\\.0\)\?)?")


@dataclass(frozen=True, slots=True)
class Native:
    """An SLI as a spec writes it, the source whose names the queries used, and the labels that narrow its series."""

    fields: dict[str, dict[str, str]]
    source: str
    selector: tuple[tuple[str, str], ...]


def recognise(good: Windowed, total: Windowed) -> Native | None:
    """The SLI whose PromQL is this good and total, or None."""
    texts = [query.expr.replace(MARK, "5m") for query in (good, total)]
    wanted = [_plain_edges(canonical(text)) for text in texts]
    for source in (EXPORTER, *ENGINES):
        for sli, fields, narrowing in _candidates(source, *map(grammar.reads, texts)):
            scope = Scope(source, narrowing, total.by)
            if _rendered(sli, scope) == wanted and all(m.op == "=" for m in narrowing):
                return Native(fields, source, tuple((m.label, m.value) for m in narrowing))
    return None


def _rendered(sli: Sli, scope: Scope) -> list[str] | None:
    try:
        return [_plain_edges(canonical(query)) for query in (sli.good("5m", scope), sli.total("5m", scope))]
    except ValueError:  # the source has no such family or bucket
        return None


def _plain_edges(expr: str) -> str:
    """The expression with every edge of a bucket written the shortest way."""
    return re.sub(r'le=~?"([0-9.]+?)(\.0)?(\(\\\\\.0\)\?)?"', r'le="\1"', expr)


def _candidates(
    source: str, good: list[Read], total: list[Read]
) -> Iterator[tuple[Sli, dict[str, dict[str, str]], tuple[Matcher, ...]]]:
    """SLIs that the selectors of the queries could be, each with its fields and what else narrows them."""
    if len(good) != 1 or len(total) != 1:
        return
    le = next((_EDGE.fullmatch(m.value) for m in good[0].matchers if m.label == "le"), None)
    for name, metric in {**LATENCIES, "itl": catalog.ITL}.items():
        if le and total[0].name == _name(source, metric, "_count"):
            threshold = float(le[1])
            sli = ItlSli(threshold) if name == "itl" else LatencySli(metric, threshold)
            yield sli, {"latency": {"metric": name, "threshold": f"{threshold:.10g}s"}}, total[0].matchers
    if total[0].name == _name(source, catalog.HTTP_REQUESTS, ""):
        handlers = next((m.value for m in total[0].matchers if m.label == "handler"), "")
        fields = {} if handlers == GENERATION_HANDLERS else {"handlers": handlers}
        narrowing = tuple(m for m in total[0].matchers if m.label not in ("handler", "status"))
        yield AvailabilitySli(handlers), {"availability": fields}, narrowing


def _name(source: str, metric: catalog.Metric, suffix: str) -> str | None:
    try:
        return Scope(source).name_of(metric) + suffix
    except ValueError:
        return None
