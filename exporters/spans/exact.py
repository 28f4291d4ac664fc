"""Request spans -> exact SLI counters and histograms, one request at a time."""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram

from exporters.model import SpanBatch, SpanFacts
from slo import catalog
from slo.catalog import Metric
from slo.sli import Request, RequestSli
from slo.spec.model import EVENT_SLIS, Slo

# Spans come over the network: a sender that makes up models or tenants must not fill Prometheus' memory.
MAX_LABEL_SETS = 100
OTHER = "other"

# The histogram of each duration of a span, and the counter of each token count.
_DURATIONS = {"ttft": catalog.SPAN_TTFT, "tpot": catalog.SPAN_TPOT, "e2e": catalog.SPAN_E2E,
              "queue": catalog.SPAN_QUEUE_TIME, "prefill": catalog.SPAN_PREFILL_TIME,
              "decode": catalog.SPAN_DECODE_TIME}  # fmt: skip
_TOKENS = {"prompt_tokens": catalog.SPAN_PROMPT_TOKENS, "cached_tokens": catalog.SPAN_CACHED_TOKENS,
           "output_tokens": catalog.SPAN_GENERATION_TOKENS}  # fmt: skip
log = logging.getLogger(__name__)


class _Judged(NamedTuple):
    """An SLO's counters for one set of labels."""

    sli: RequestSli
    events: Counter
    good: Counter


class _Series(NamedTuple):
    """What one set of labels counts in; histograms and token counters are made when there is something to count."""

    judged: tuple[_Judged, ...]
    durations: dict[str, Histogram]
    tokens: dict[str, Counter]


class SpanMetrics:
    """Counts requests for the SLOs that spans can judge (latency and goodput), and keeps histograms beside them.

    Availability is left out: an engine sends no span for the requests it failed. `labels` are the names of the labels
    that spans carry beside the model. From `budget` sets of label values on, further ones count as `other`.
    `linked` says of the trace id of a good request whether the trace can be found later: only then is it an exemplar.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        slos: Sequence[Slo] = (),
        labels: Sequence[str] = (),
        budget: int = MAX_LABEL_SETS,
        linked: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self._slis = {slo.id: slo.sli for slo in slos if isinstance(slo.sli, EVENT_SLIS)}
        self._durations = {field: _histogram(metric, registry, labels) for field, metric in _DURATIONS.items()}
        self._tokens = {field: _counter(metric, registry, labels) for field, metric in _TOKENS.items()}
        self._events = _counter(catalog.SLO_EVENTS, registry, labels)
        self._good = _counter(catalog.SLO_GOOD_EVENTS, registry, labels)
        self._received = _counter(catalog.SPANS_RECEIVED, registry)
        self._rejected = _counter(catalog.SPANS_REJECTED, registry)
        self._logged: set[str] = set()
        self._none = ("",) * len(labels)
        self._budget = budget
        self._linked = linked
        self._series: dict[tuple[str, ...], _Series] = {}

    def know(self, models: Iterable[str]) -> None:
        """Start the SLO series of these models at 0: `rate` sees an event only as a step from an earlier value."""
        for model in models:
            self._of((model, *self._none))

    def take(self, batch: SpanBatch, unnamed: str) -> set[str]:
        """Count a batch; a span that names no model counts for the model `unnamed`.

        Returns the trace ids of the requests that failed or broke an SLO.
        """
        self._received.inc(batch.received)
        for reason, count in batch.rejected.items():
            self.reject(reason, count)
        return {span.trace_id for span in batch.spans if not self._add(span, span.model_name or unnamed)}

    def reject(self, reason: str, count: int = 1) -> None:
        """Count spans, or a whole export, that could not be used; the log tells of the first for each reason."""
        if reason not in self._logged:
            self._logged.add(reason)
            log.warning("spans refused: %s; %s counts further ones", reason, catalog.SPANS_REJECTED.name)
        self._rejected.labels(reason).inc(count)

    def _add(self, span: SpanFacts, model: str) -> bool:
        key = self._within_budget((model, *(span.labels or self._none)))
        series = self._of(key)
        all_good = _judge(series.judged, span.to_request())
        exemplar = {"trace_id": span.trace_id} if not all_good or self._linked(span.trace_id) else None
        for field in _DURATIONS:
            if (seconds := getattr(span, field)) is not None:
                if field not in series.durations:
                    series.durations[field] = self._durations[field].labels(*key)
                series.durations[field].observe(seconds, exemplar)
        for field in _TOKENS:
            if count := getattr(span, field):
                if field not in series.tokens:
                    series.tokens[field] = self._tokens[field].labels(*key)
                series.tokens[field].inc(count)
        return all_good

    def _within_budget(self, key: tuple[str, ...]) -> tuple[str, ...]:
        if key in self._series or len(self._series) < self._budget:
            return key
        model, *values = key
        other = (model if (model, *self._none) in self._series else OTHER, *(OTHER for _ in values))
        if other not in self._series:
            log.warning("more than %d sets of span labels: %s and further ones are %r", self._budget, key, OTHER)
        return other

    def _of(self, key: tuple[str, ...]) -> _Series:
        if key not in self._series:
            judged = (
                _Judged(sli, self._events.labels(slo, *key), self._good.labels(slo, *key))
                for slo, sli in self._slis.items()
            )
            self._series[key] = _Series(tuple(judged), {}, {})
        return self._series[key]


def _judge(judged: Iterable[_Judged], request: Request) -> bool:
    """Count a request for every SLO; whether it was good for all of them, and no failure."""
    all_good = request.ok is not False
    for sli, events, good in judged:
        verdict = sli.judge(request)
        if verdict is not None:
            events.inc()
            good.inc(verdict)
            all_good &= verdict
    return all_good


def _histogram(metric: Metric, registry: CollectorRegistry, labels: Sequence[str]) -> Histogram:
    names = (*metric.labels, *labels)
    return Histogram(metric.name, metric.help, names, buckets=metric.buckets, registry=registry)


def _counter(metric: Metric, registry: CollectorRegistry, labels: Sequence[str] = ()) -> Counter:
    return Counter(metric.name, metric.help, (*metric.labels, *labels), registry=registry)
