"""The engines' latencies and the GPUs over OTLP, under the names of the semantic conventions, for other backends.

The engine's own histograms go out as they are, cumulative and with its own bounds; nothing is measured a second time.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Protocol
from urllib.parse import urlsplit

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Metric as OtelMetric
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry, Counter

from exporters.collector import Collector, Snapshot, in_thread
from exporters.engines import text
from exporters.model import EngineScrape, GpuReading, UsageError
from slo import catalog
from slo.catalog import Kind, Metric

log = logging.getLogger(__name__)

_GEN_AI = tuple(m for m in catalog.families() if m.otel.startswith("gen_ai.") and m.kind is Kind.HISTOGRAM)
_HW = tuple(m for m in catalog.families() if m.otel.startswith("hw.") and m.labels == catalog.GPU_LABELS)
_UNITS = {"ratio": "1", "bytes": "By", "joules": "J", "watts": "W", "celsius": "Cel"}
# The engine's histograms hold all its endpoints together, and the conventions want one operation.
_OPERATION = "generate_content"
# Seconds between pushes where OTEL_METRIC_EXPORT_INTERVAL says nothing; the convention's own.
_INTERVAL = 60.0
# Seconds that the last push is given when the process ends.
_LAST_PUSH = 1.0

Attributes = tuple[tuple[str, str], ...]


def target(env: Mapping[str, str]) -> str | None:
    """The full URL that OTEL_* variables name for metrics; None for no pushing. The general endpoint alone is for
    traces: with OTEL_METRICS_EXPORTER=otlp it is for metrics too."""
    if env.get("OTEL_SDK_DISABLED", "").lower() == "true" or env.get("OTEL_METRICS_EXPORTER") == "none":
        return None
    if url := env.get("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"):
        return url
    if env.get("OTEL_METRICS_EXPORTER") == "otlp":
        return with_path(env.get("OTEL_EXPORTER_OTLP_ENDPOINT") or "http://localhost:4318", "/v1/metrics")
    return None


def with_path(url: str, path: str) -> str:
    """The URL, with `path` where it has none."""
    parts = urlsplit(url)
    return parts._replace(path=parts.path if parts.path.strip("/") else path).geturl()


@dataclass(frozen=True, slots=True)
class Point:
    """A histogram as the engine shows it: its upper bounds without +Inf, cumulative counts up to each and in all."""

    attributes: Attributes
    bounds: tuple[float, ...]
    cumulative: tuple[int, ...]
    sum: float

    @property
    def count(self) -> int:
        """All observations."""
        return self.cumulative[-1]

    @property
    def buckets(self) -> list[int]:
        """Observations in each bucket."""
        return [high - low for low, high in zip((0, *self.cumulative), self.cumulative, strict=False)]


def histograms(metric: Metric, scrape: EngineScrape) -> list[Point]:
    """The histograms of one family; those that are not whole are left out."""
    edges: dict[Attributes, dict[float, int]] = defaultdict(dict)
    sums: dict[Attributes, float] = {}
    for sample in text.samples(scrape.families[metric].samples):
        labels = {name.decode(): text.plain(value) for name, value in sample.labels.items()}
        edge = labels.pop("le", "")
        key = _attributes(labels, scrape.kind)
        if sample.name.endswith(b"_bucket"):
            edges[key][float(edge)] = int(text.number(sample.value))
        elif sample.name.endswith(b"_sum"):
            sums[key] = text.number(sample.value)
    return [_point(key, edges[key], sums[key]) for key in edges if inf in edges[key] and key in sums]


def _point(key: Attributes, counts: Mapping[float, int], total: float) -> Point:
    bounds = sorted(counts)
    return Point(key, tuple(bounds[:-1]), tuple(counts[bound] for bound in bounds), total)


def _attributes(labels: Mapping[str, str], engine: str) -> Attributes:
    named = {"gen_ai.operation.name": _OPERATION, "gen_ai.provider.name": engine or "vllm"}
    rest = {"gen_ai.request.model" if name == "model_name" else name: value for name, value in labels.items()}
    return tuple(sorted((named | rest).items()))


class Starts:
    """Since when each cumulative series has been counting: a smaller value than before means that it began anew."""

    def __init__(self, start: int) -> None:
        self._start = start
        self._seen: dict[object, tuple[int, float, int]] = {}

    def of(self, series: object, value: float, now: int) -> int:
        """The start of a series that stands at `value` now, in Unix nanoseconds."""
        start, before, last = self._seen.get(series, (self._start, 0.0, self._start))
        if value < before:
            start = last
        self._seen[series] = (start, value, now)
        return start


def metrics_data(snapshot: Snapshot, starts: Starts, now: int, resource: Resource) -> MetricsData:
    """What one scrape found, as OTLP metrics of the time `now` in Unix nanoseconds."""
    metrics = [*_gen_ai(snapshot.engines, starts, now), *_hw(snapshot.gpus, starts, now)]
    scope = ScopeMetrics(InstrumentationScope("llm-slo"), metrics, "")
    return MetricsData([ResourceMetrics(resource, [scope], "")])


def _gen_ai(engines: Sequence[EngineScrape], starts: Starts, now: int) -> Iterator[OtelMetric]:
    for metric in _GEN_AI:
        points = [
            HistogramDataPoint(
                attributes=dict(point.attributes),
                start_time_unix_nano=starts.of((metric, point.attributes), point.count, now),
                time_unix_nano=now,
                count=point.count,
                sum=point.sum,
                bucket_counts=point.buckets,
                explicit_bounds=point.bounds,
                min=None,  # type: ignore[arg-type]  # unknown, and left out on the wire
                max=None,  # type: ignore[arg-type]
            )
            for engine in engines
            if metric in engine.families
            for point in histograms(metric, engine)
        ]
        if points:
            yield OtelMetric(metric.otel, metric.help, "s", Histogram(points, AggregationTemporality.CUMULATIVE))


def _hw(gpus: Sequence[GpuReading], starts: Starts, now: int) -> Iterator[OtelMetric]:
    for metric in _HW:
        points = [
            NumberDataPoint(
                attributes={"hw.id": gpu.uuid, "hw.type": "gpu", "hw.name": gpu.name},
                start_time_unix_nano=starts.of((metric, gpu.uuid), value, now) if metric.kind is Kind.COUNTER else 0,
                time_unix_nano=now,
                value=value,
            )
            for gpu in gpus
            if (value := gpu.values.get(metric)) is not None
        ]
        if points:
            counted = metric.kind is Kind.COUNTER
            data = Sum(points, AggregationTemporality.CUMULATIVE, True) if counted else Gauge(points)
            yield OtelMetric(metric.otel, metric.help, _UNITS[metric.unit], data)


class Exporter(Protocol):
    """What of the SDK's metric exporters is used."""

    def export(self, metrics_data: MetricsData) -> MetricExportResult: ...


class Pusher:
    """Pushes what `collector` finds through `exporter`, every `interval` seconds."""

    def __init__(self, collector: Collector, registry: CollectorRegistry, exporter: Exporter, interval: float) -> None:
        self._collector = collector
        self._exporter = exporter
        self._interval = interval
        self._starts = Starts(time.time_ns())
        self._resource = Resource.create({SERVICE_NAME: "slo-exporter"}).merge(OTELResourceDetector().detect())
        self._pushes = Counter(catalog.PUSHES.name, catalog.PUSHES.help, catalog.PUSHES.labels, registry=registry)
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Push once more, in a bounded time, and end."""
        self._task.cancel()
        await asyncio.wait([asyncio.ensure_future(self.push())], timeout=_LAST_PUSH)

    async def push(self) -> None:
        """Read everything and push it once."""
        snapshot = await self._collector.collect()
        data = metrics_data(snapshot, self._starts, time.time_ns(), self._resource)
        # The exporter blocks, and tries again for some seconds where that can help.
        result = await in_thread(lambda: self._exporter.export(data))
        self._pushes.labels("ok" if result is MetricExportResult.SUCCESS else "failed").inc()

    async def _run(self) -> None:
        while True:
            try:
                await self.push()
            except Exception:  # a fault of ours costs this push, is told, and not all that come after
                log.exception("push: fault")
                self._pushes.labels("failed").inc()
            await asyncio.sleep(self._interval)


def start(
    collector: Collector, registry: CollectorRegistry, url: str, env: Mapping[str, str]
) -> Callable[[], Awaitable[None]]:
    """Begin to push to `url`; returns what ends it. Headers and certificates come from OTEL_* variables.

    Raises UsageError for an interval that is none.
    """
    # Only who pushes pays for these imports in memory and start-up time.
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    interval = env.get("OTEL_METRIC_EXPORT_INTERVAL", "")
    if interval and not (interval.isdecimal() and int(interval)):
        raise UsageError(f"OTEL_METRIC_EXPORT_INTERVAL={interval}: give milliseconds, like 60000")
    exporter = OTLPMetricExporter(endpoint=url)
    return Pusher(collector, registry, exporter, int(interval) / 1000 if interval else _INTERVAL).close
