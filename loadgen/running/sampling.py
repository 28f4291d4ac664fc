"""Samples of the server's /metrics during a run, on the clock of the run, from a thread of their own.

A page is read once a second and only lines of the families in `sampled.SAMPLED` are parsed, under the sidecar's names
or an engine's or GPU exporter's own: about a millisecond a page.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from time import perf_counter_ns, time_ns

import httpx
from prometheus_client.parser import text_string_to_metric_families

from loadgen.results.record import Header, Line, Sample
from loadgen.results.sampled import SAMPLED
from loadgen.traffic.arrivals import NS
from slo.catalog import Metric

_SECONDS = 1.0
_TIMEOUT = 5.0

OpenClient = Callable[[], AbstractContextManager[httpx.Client]]


@dataclass(frozen=True, slots=True)
class _Name:
    """A name of a family: of several that a page has, the one with the lowest rank counts."""

    metric: Metric
    rank: int
    scale: float
    where: Mapping[str, str]


def _names() -> dict[str, list[_Name]]:
    found: dict[str, list[_Name]] = {}
    for metric in SAMPLED:
        found.setdefault(metric.name, []).append(_Name(metric, 0, 1.0, {}))
        for names in metric.upstream.values():
            for rank, up in enumerate(names, 1):
                found.setdefault(up.name, []).append(_Name(metric, rank, up.scale, up.where))
    return found


_NAMES = _names()
_PREFIXES = tuple(_NAMES)


def values(page: str) -> dict[str, tuple[float, ...]]:
    """The sampled families of an exposition, a number per series in the order of their labels."""
    series: dict[tuple[str, int], dict[str, float]] = {}
    for line in page.splitlines():
        if line.startswith(_PREFIXES):
            for name, labels, value in _read(line):
                series.setdefault((name.metric.name, name.rank), {})[labels] = value * name.scale
    best = {metric: min(rank for other, rank in series if other == metric) for metric, _ in series}
    return {metric: tuple(value for _, value in sorted(series[metric, rank].items())) for metric, rank in best.items()}


def _read(line: str) -> Iterator[tuple[_Name, str, float]]:
    """What a line of the text format or of OpenMetrics is a sample of."""
    with suppress(ValueError):
        for family in text_string_to_metric_families(line.partition(" # ")[0] + "\n"):
            for sample in family.samples:
                for name in _NAMES.get(sample.name, ()):
                    if name.where.items() <= sample.labels.items():
                        yield name, str(sorted(sample.labels.items())), sample.value


def unread(client: httpx.Client, urls: Sequence[str]) -> Iterator[str]:
    """The pages that can not be sampled at the moment, each with the reason."""
    for url in urls:
        try:
            response = client.get(url, timeout=_TIMEOUT)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            yield f"{url}: {error}"
            continue
        if response.status_code != 200:
            yield f"{url}: answers {response.status_code}"
        elif not values(response.text):
            yield f"{url}: shows neither KV cache nor queue nor GPUs"


class Sampler:
    """Reads pages once a second until stopped; pages that do not answer leave no sample."""

    def __init__(self, urls: Sequence[str], open_client: OpenClient) -> None:
        self._urls, self._open_client, self._origin = urls, open_client, 0
        self._found: deque[Sample] = deque()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def start(self, started_unix_ns: int) -> None:
        """Begin; the run begins at this Unix time in nanoseconds."""
        self._origin = perf_counter_ns() + started_unix_ns - time_ns()
        self._thread.start()

    def take(self) -> Iterable[Sample]:
        """The samples since the last call."""
        while self._found:
            yield self._found.popleft()

    def stop(self) -> None:
        """End the thread; waits for a page that is being read."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(_TIMEOUT)

    def _run(self) -> None:
        with self._open_client() as client:
            due = perf_counter_ns()
            while not self._over.wait(max(0.0, (due - perf_counter_ns()) / NS)):
                self._sample(client)
                due = max(due + int(_SECONDS * NS), perf_counter_ns())

    def _sample(self, client: httpx.Client) -> None:
        found: dict[str, tuple[float, ...]] = {}
        begin = perf_counter_ns()
        for url in self._urls:
            with suppress(httpx.HTTPError, httpx.InvalidURL):
                response = client.get(url, timeout=_TIMEOUT)
                if response.status_code == 200:
                    found = values(response.text) | found
        at = (begin + perf_counter_ns()) // 2 - self._origin
        if found and at >= 0:
            self._found.append(Sample(at_ns=at, values=found))


@contextmanager
def sampled(
    write: Callable[[Line], None], urls: Sequence[str], open_client: OpenClient
) -> Iterator[Callable[[Line], None]]:
    """`write`, with samples of `urls`, read by a client of their own, between the lines from the header on."""
    if not urls:
        yield write
        return
    sampler = Sampler(urls, open_client)

    def write_samples_too(line: Line) -> None:
        if isinstance(line, Header):
            write(line)
            sampler.start(line.started_unix_ns)
            return
        for sample in sampler.take():
            write(sample)
        write(line)

    try:
        yield write_samples_too
    finally:
        sampler.stop()
