"""The metrics page: a snapshot and the span families, as Prometheus text or OpenMetrics."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.metadata import version

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.core import Metric as Exposed
from prometheus_client.exposition import choose_encoder

from exporters.collector import Snapshot
from exporters.engines import verbatim
from exporters.gpus import tables as gpu_tables
from exporters.join import engine_gpus
from exporters.model import EngineScrape, Family
from exporters.spans import exemplars
from slo import catalog
from slo.catalog import Kind, Metric

_OPENMETRICS = "application/openmetrics-text"
_EOF = b"# EOF\n"
_VERSION = version("llm-slo")
_ORDER = {metric: place for place, metric in enumerate(catalog.families())}


def render(snapshot: Snapshot, spans: CollectorRegistry, accept: str = "") -> tuple[bytes, str]:
    """The page and its content type: OpenMetrics where the Accept header names it, else Prometheus text 0.0.4."""
    openmetrics = _OPENMETRICS in accept
    encode, content_type = choose_encoder(_OPENMETRICS if openmetrics else "")
    own = _Own(snapshot, spans, openmetrics)
    body = encode(own).removesuffix(_EOF)
    body += verbatim.render((*(scrape.raw for scrape in snapshot.engines), *snapshot.extras), openmetrics)
    if not openmetrics:
        return body + engine_text(snapshot.engines), content_type
    return body + engine_text(snapshot.engines, True, own.exemplars) + _EOF, content_type


def engine_text(
    scrapes: Iterable[EngineScrape], openmetrics: bool = False, pending: exemplars.Pending | None = None
) -> bytes:
    """The engines' families in the catalogue's order, HELP naming where each was read from, with exemplars."""
    families: dict[Metric, list[Family]] = defaultdict(list)
    for scrape in scrapes:
        for metric, family in scrape.families.items():
            families[metric].append(family)
    parts: list[bytes] = []
    for metric, found in sorted(families.items(), key=lambda item: _ORDER[item[0]]):
        parts.append(_header(metric, tuple(family.upstream for family in found), openmetrics))
        waiting = pending.get(metric) if pending else None
        parts += [exemplars.attach(family.samples, waiting) if waiting else family.samples for family in found]
    return b"".join(parts)


@lru_cache(maxsize=1024)  # on a small page the headers would be a quarter of the work
def _header(metric: Metric, upstream: tuple[str, ...], openmetrics: bool) -> bytes:
    name = metric.name.removesuffix("_total") if openmetrics and metric.kind is Kind.COUNTER else metric.name
    names = ", ".join(dict.fromkeys(upstream))
    return f"# HELP {name} {metric.help} ({names})\n# TYPE {name} {metric.kind}\n".encode()


class _Own:
    """All that is not passed through, as prometheus_client wants it; when it has been, `exemplars` are those of spans.

    Families of spans come one after another: a hundred tenants' at once would be megabytes.
    """

    def __init__(self, snapshot: Snapshot, spans: CollectorRegistry, openmetrics: bool) -> None:
        self._snapshot = snapshot
        self._spans = spans
        self._openmetrics = openmetrics
        self.exemplars: exemplars.Pending = {}

    def collect(self) -> Iterator[Exposed]:
        for metric, rows in _tables(self._snapshot):
            if rows:
                yield _family(metric, rows)
        for family in self._spans.collect():
            if self._openmetrics:
                self.exemplars |= exemplars.of_spans([family])
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            if family.samples:
                yield family


def _tables(snapshot: Snapshot) -> Iterator[tuple[Metric, list[gpu_tables.Row]]]:
    yield catalog.BUILD_INFO, [((_VERSION,), 1)]
    yield catalog.SOURCE_UP, [((s.source, s.endpoint), s.up) for s in snapshot.statuses]
    yield catalog.SOURCE_SECONDS, [((s.source, s.endpoint), s.seconds) for s in snapshot.statuses]
    dropped = [(metric.name, size) for scrape in snapshot.engines for metric, size in scrape.dropped.items()]
    yield catalog.SERIES_DROPPED, [((name,), sum(size for n, size in dropped if n == name)) for name in dict(dropped)]
    yield from gpu_tables.readings(snapshot.gpus)
    yield from gpu_tables.economics(snapshot.usage)
    yield catalog.ENGINE_GPU_INFO, [(pair, 1) for pair in engine_gpus(snapshot.models, snapshot.gpus)]


def _family(metric: Metric, rows: Iterable[gpu_tables.Row]) -> Exposed:
    kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels)
    for labels, value in rows:
        family.add_metric(labels, float(value))
    return family
