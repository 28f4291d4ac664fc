"""The figures of a run while it runs: `llm_load_*` families on a /metrics page, to be scraped beside the engine's."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, start_http_server

from loadgen.results.record import Footer, Header, Line, RequestRecord
from loadgen.results.summary import OK
from slo import catalog
from slo.catalog import Metric


class Live:
    """Counts the lines of a run as they are written. Thread-safe: pages are served from a thread of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a gauge beside each counter, of no use here
        self.registry = CollectorRegistry()
        self._seconds, self._requests = self._counter(catalog.LOAD_SECONDS), self._counter(catalog.LOAD_REQUESTS)
        self._tokens = self._counter(catalog.LOAD_TOKENS)
        self._offered = Gauge(
            catalog.LOAD_OFFERED.name, catalog.LOAD_OFFERED.help, catalog.LOAD_LABELS, registry=self.registry
        )
        self._ttft, self._tpot = self._histogram(catalog.LOAD_TTFT), self._histogram(catalog.LOAD_TPOT)
        self._e2e, self._lag = self._histogram(catalog.LOAD_E2E), self._histogram(catalog.LOAD_SEND_LAG)
        self._labels = ("", "")
        self._counted_until = 0.0

    def add(self, line: Line) -> None:
        """Count one more line: the header begins the run, the footer ends it."""
        if isinstance(line, RequestRecord):
            self._count(line)
        elif isinstance(line, Header):
            self._begin(line)
        elif isinstance(line, Footer):
            self._tick()

    def _begin(self, header: Header) -> None:
        load, begun = header.load, time.monotonic()
        self._labels = (header.fingerprint.model, load.title)
        self._counted_until = begun
        if load.rate:  # asked for at every scrape: in a ramp it is another one each time
            offered = self._offered.labels(*self._labels)
            offered.set_function(lambda: load.rate_at(time.monotonic() - begun) or 0.0)
        # The first request that ends must be an increase, not the birth of a series.
        self._requests.labels(*self._labels, OK)
        for family in (self._seconds, self._tokens, self._ttft, self._tpot, self._e2e, self._lag):
            family.labels(*self._labels)

    def _count(self, record: RequestRecord) -> None:
        self._tick()
        self._requests.labels(*self._labels, record.error or OK).inc()
        self._tokens.labels(*self._labels).inc(record.output_tokens or 0)
        exemplar = {"trace_id": record.trace_id}
        for family, value in (
            (self._ttft, record.ttft),
            (self._tpot, record.tpot),
            (self._e2e, record.e2e),
            (self._lag, record.send_lag),
        ):
            if value is not None:
                family.labels(*self._labels).observe(value, exemplar)

    def _tick(self) -> None:
        now = time.monotonic()
        self._seconds.labels(*self._labels).inc(now - self._counted_until)
        self._counted_until = now

    def _counter(self, metric: Metric) -> Counter:
        return Counter(metric.name, metric.help, metric.labels, registry=self.registry)

    def _histogram(self, metric: Metric) -> Histogram:
        return Histogram(metric.name, metric.help, metric.labels, buckets=metric.buckets, registry=self.registry)


@contextmanager
def serving(live: Live, host: str, port: int) -> Iterator[int]:
    """Serve /metrics while the block runs; yields the port, a free one for 0. Raises OSError."""
    server, thread = start_http_server(port, host, live.registry)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
