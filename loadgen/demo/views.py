"""Three views of one run: what the client saw, what the engine's metrics say, what its spans say."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from loadgen.results.exposition import Interval, Reading
from loadgen.results.record import Recording
from loadgen.results.summary import summarize
from slo import catalog
from slo.promql import Selector
from slo.sli import Count, GoodputSli, LatencySli, RequestSli, SaturationSli, ThroughputSli, exact_terms
from slo.spec.model import EVENT_SLIS, Slo

_SPAN_HISTOGRAM = {
    catalog.TTFT.name: catalog.SPAN_TTFT,
    catalog.TPOT.name: catalog.SPAN_TPOT,
    catalog.E2E.name: catalog.SPAN_E2E,
    catalog.QUEUE_TIME.name: catalog.SPAN_QUEUE_TIME,
}
_REQUEST_FIELD = {catalog.TTFT.name: "ttft", catalog.TPOT.name: "tpot", catalog.E2E.name: "e2e"}


@dataclass(frozen=True, slots=True)
class View:
    """One cell of the table: the good and total events, and a measured value in words. Empty where nothing is known."""

    count: Count | None = None
    value: str = ""


class Sampler(threading.Thread):
    """Reads the sidecar once a second for as long as the run lasts, for what only the moment shows."""

    def __init__(self, fetch: Callable[[], Reading]) -> None:
        super().__init__(daemon=True)
        self._fetch, self._ended = fetch, threading.Event()
        self.samples: list[tuple[float, Reading]] = []

    def run(self) -> None:
        """Sample until `stop`."""
        while not self._ended.wait(1.0):
            self.samples.append((time.monotonic(), self._fetch()))

    def stop(self) -> None:
        """End sampling and wait for the last sample."""
        self._ended.set()
        self.join()


@dataclass(frozen=True, slots=True)
class Run:
    """A run as recorded by the client, the sidecar's pages around it, and samples of them on a monotonic clock (s)."""

    recording: Recording
    interval: Interval
    samples: Sequence[tuple[float, Reading]]

    @property
    def seconds(self) -> float:
        """First intended start to last end; the time base of every rate, so that the views compare."""
        return summarize(self.recording).seconds or float("inf")


def client(slo: Slo, run: Run) -> View:
    """As the load generator measured it."""
    requests, sli = run.recording.requests(), slo.sli
    count = sli.count(requests)
    if isinstance(sli, LatencySli):
        name = _REQUEST_FIELD.get(sli.metric.name)
        values = [v for r in requests if name and (v := getattr(r, name)) is not None]
        return View(count, _milliseconds(sum(values) / len(values) if values else None))
    if isinstance(sli, ThroughputSli):
        return View(count, _rate(sum(r.output_tokens or 0 for r in requests) / run.seconds, "tok/s"))
    if isinstance(sli, GoodputSli) and count:
        return View(count, _rate(count.good / run.seconds, "good/s"))
    return View(count)


def metrics(slo: Slo, run: Run) -> View:
    """As the engine's own metrics tell it, through the sidecar."""
    sli, interval = slo.sli, run.interval
    if isinstance(sli, LatencySli):
        return View(interval.count(sli.good_terms(), sli.total_terms()), _milliseconds(interval.mean(sli.metric)))
    if isinstance(sli, RequestSli):
        count = interval.count(sli.good_terms(), sli.total_terms())
        floor = isinstance(sli, GoodputSli) and count is not None
        return View(count, f"at least {_rate(count.good / run.seconds, 'good/s')}" if floor and count else "")
    if isinstance(sli, ThroughputSli):
        made = interval.growth(Selector(catalog.GENERATION_TOKENS))
        return View(_demanded_seconds(sli, run.samples), _rate(made / run.seconds if made else None, "tok/s"))
    if isinstance(sli, SaturationSli):
        usage = [u for _, reading in run.samples if (u := reading.sum(Selector(catalog.KV_USAGE))) is not None]
        count = Count(sum(u < sli.limit for u in usage), len(usage))
        return View(count, f"peak {max(usage):.1%}" if usage else "")
    return View()


def spans(slo: Slo, run: Run) -> View:
    """As the engine's request spans tell it, exact per request. Failures leave no span, so availability has none."""
    sli, interval = slo.sli, run.interval
    if isinstance(sli, ThroughputSli):
        made = interval.growth(Selector(catalog.SPAN_GENERATION_TOKENS))
        return View(None, _rate(made / run.seconds if made else None, "tok/s"))
    if not isinstance(sli, EVENT_SLIS):
        return View()
    count = interval.count(*exact_terms(slo.id))
    if isinstance(sli, LatencySli):
        return View(count, _milliseconds(interval.mean(_SPAN_HISTOGRAM[sli.metric.name])))
    return View(count, _rate(count.good / run.seconds, "good/s") if count else "")


def _demanded_seconds(sli: ThroughputSli, samples: Sequence[tuple[float, Reading]]) -> Count:
    """The steps between samples that had the demand at both ends, and those of them that held the floor."""
    good = total = 0
    for (start, before), (end, after) in pairwise(samples):
        if min(_in_flight(before), _in_flight(after)) >= sli.demand:
            made = Interval(before, after).growth(Selector(catalog.GENERATION_TOKENS)) or 0.0
            total += 1
            good += made / (end - start) >= sli.floor
    return Count(good, total)


def _in_flight(reading: Reading) -> float:
    return sum(reading.sum(Selector(metric)) or 0.0 for metric in (catalog.RUNNING, catalog.WAITING))


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"mean {seconds * 1000:.1f} ms"


def _rate(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:.1f} {unit}"
