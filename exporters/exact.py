"""Request spans -> exact SLI counters and histograms, one request at a time."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram

from exporters.model import SpanBatch, SpanFacts
from slo import catalog
from slo.catalog import Metric
from slo.sli import RequestSli
from slo.spec import EVENT_SLIS, Slo

# Spans come over the network: a sender that makes up model names must not fill Prometheus' memory.
MAX_MODELS = 100
OTHER_MODELS = "other"

# The histogram of each duration of a span, and the counter of each token count.
_DURATIONS = {"ttft": catalog.SPAN_TTFT, "tpot": catalog.SPAN_TPOT, "e2e": catalog.SPAN_E2E,
              "queue": catalog.SPAN_QUEUE_TIME}  # fmt: skip
_TOKENS = {"prompt_tokens": catalog.SPAN_PROMPT_TOKENS, "output_tokens": catalog.SPAN_GENERATION_TOKENS}


class _Judged(NamedTuple):
    """An SLO's counters for one model."""

    sli: RequestSli
    events: Counter
    good: Counter


class SpanMetrics:
    """Counts requests for the SLOs that spans can judge (latency and goodput), and keeps histograms beside them.

    Availability is left out: an engine sends no span for the requests it failed.
    """

    def __init__(self, registry: CollectorRegistry, slos: Sequence[Slo] = ()) -> None:
        self._slis = {slo.id: slo.sli for slo in slos if isinstance(slo.sli, EVENT_SLIS)}
        self._durations = {field: _histogram(metric, registry) for field, metric in _DURATIONS.items()}
        self._tokens = {field: _counter(metric, registry) for field, metric in _TOKENS.items()}
        self._events = _counter(catalog.SLO_EVENTS, registry)
        self._good = _counter(catalog.SLO_GOOD_EVENTS, registry)
        self._received = _counter(catalog.SPANS_RECEIVED, registry)
        self._rejected = _counter(catalog.SPANS_REJECTED, registry)
        self._judged: dict[str, tuple[_Judged, ...]] = {}

    def know(self, models: Iterable[str]) -> None:
        """Start the SLO series of these models at 0: `rate` sees an event only as a step from an earlier value."""
        for model in models:
            self._of_model(model)

    def take(self, batch: SpanBatch, unnamed: str) -> None:
        """Count a batch; a span that names no model counts for the model `unnamed`."""
        self._received.inc(batch.received)
        for reason, count in batch.rejected.items():
            self.reject(reason, count)
        for span in batch.spans:
            self._add(span, span.model_name or unnamed)

    def reject(self, reason: str, count: int = 1) -> None:
        """Count spans, or a whole export, that could not be used."""
        self._rejected.labels(reason).inc(count)

    def _add(self, span: SpanFacts, model: str) -> None:
        if model not in self._judged and len(self._judged) >= MAX_MODELS:
            model = OTHER_MODELS
        request = span.to_request()
        for sli, events, good in self._of_model(model):
            verdict = sli.judge(request)
            if verdict is not None:
                events.inc()
                good.inc(verdict)
        for field, histogram in self._durations.items():
            if (seconds := getattr(span, field)) is not None:
                histogram.labels(model).observe(seconds)
        for field, counter in self._tokens.items():
            counter.labels(model).inc(getattr(span, field) or 0)

    def _of_model(self, model: str) -> tuple[_Judged, ...]:
        if model not in self._judged:
            self._judged[model] = tuple(
                _Judged(sli, self._events.labels(slo, model), self._good.labels(slo, model))
                for slo, sli in self._slis.items()
            )
        return self._judged[model]


def _histogram(metric: Metric, registry: CollectorRegistry) -> Histogram:
    return Histogram(metric.name, metric.help, metric.labels, buckets=metric.buckets, registry=registry)


def _counter(metric: Metric, registry: CollectorRegistry) -> Counter:
    return Counter(metric.name, metric.help, metric.labels, registry=registry)
