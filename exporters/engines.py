"""An engine's metrics page -> the catalogue's families.

This is the hot path of a scrape, so it works on bytes, line by line, and remembers what it has worked out: a line of a
series seen before costs one look-up and keeps the text of its value.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from math import isfinite, isnan
from typing import NamedTuple

from prometheus_client.utils import floatToGoString

from exporters import text
from exporters.model import EngineScrape, Family, SourceError
from slo import catalog
from slo.catalog import Kind, Metric

_SUFFIXES: Mapping[Kind, tuple[bytes, ...]] = {
    Kind.COUNTER: (b"",),
    Kind.GAUGE: (b"",),
    Kind.HISTOGRAM: (b"_bucket", b"_sum", b"_count"),
}
# Any web server may count its requests under this name: on its own it does not make an engine.
_ANYBODYS = frozenset({catalog.HTTP_REQUESTS})
_HINT = "point --engine at the metrics of a vLLM server (usually http://HOST:8000), one without --disable-log-stats"


class _Origin(NamedTuple):
    """What a sample name of an engine stands for. A lower rank is a newer name of the same family."""

    metric: Metric
    suffix: bytes
    upstream: str
    rank: int


class _Group(NamedTuple):
    """The lines of one page that are finished together: of one name, one model and one process."""

    metric: Metric
    upstream: str
    rank: int
    model: bytes | None
    pid: bytes | None
    capacity: bytes | None


def _origins(engine: str) -> dict[bytes, _Origin]:
    return {
        upstream.name.encode() + suffix: _Origin(metric, suffix, upstream.name, rank)
        for metric in catalog.families()
        for rank, upstream in enumerate(metric.upstream.get(engine, ()))
        for suffix in _SUFFIXES[metric.kind]
    }


_VLLM = _origins("vllm")
_IGNORED = 0


class EngineParser:
    """Reads one engine's pages, one after another. `labels` are stamped on every series it yields."""

    def __init__(self, labels: Mapping[str, str] | None = None) -> None:
        self._labels = {name.encode(): text.escaped(value) for name, value in (labels or {}).items()}
        self._models: tuple[str, ...] = ()
        self._forget()

    def _forget(self) -> None:
        # Per head of a line (name and labels): the group it belongs to and the head we write in its place.
        self._known: dict[bytes, tuple[int, bytes]] = {}
        self._groups: dict[_Group | None, int] = {None: _IGNORED}

    def parse(self, body: bytes) -> EngineScrape:
        """Read a whole page. Raises SourceError when it is not an engine's, or broken."""
        try:
            text.check_complete(body)
            scrape = self._parse(body)
            if scrape.models != self._models:  # what lines without a model name got is no longer true
                self._models = scrape.models
                self._forget()
                scrape = self._parse(body)
        except ValueError as error:
            raise SourceError(str(error)) from None
        if not scrape.families.keys() - _ANYBODYS:
            raise SourceError(f"{text.what_is(body)}, without any metric of a known engine: {_HINT}")
        return scrape

    def _parse(self, body: bytes) -> EngineScrape:
        lines = body.split(b"\n")
        if len(self._known) > 2 * len(lines):  # series come and go; the memory must not grow with them
            self._forget()
        known, found = self._known, defaultdict[int, dict[bytes, bytes]](dict)
        for line in lines:
            head, _, value = line.rpartition(b" ")
            try:
                group, ours = known[head]
            except KeyError:
                group, ours, value = self._learn(line)
            found[group].setdefault(ours, value)  # of a series that comes twice the first counts
        return self._finish(found)

    def _learn(self, line: bytes) -> tuple[int, bytes, bytes]:
        """Work out a line whose head is new: its group, our head and its value."""
        name = line.partition(b"{")[0].partition(b" ")[0]
        origin = _VLLM.get(name)
        if origin is None:
            if head := line.rpartition(b" ")[0]:
                self._known[head] = (_IGNORED, b"")
            return _IGNORED, b"", b""
        sample = text.sample(line)
        if sample.head not in self._known:  # it is known when a timestamp or an exemplar stands behind the value
            self._known[sample.head] = self._translate(origin, sample)
        return *self._known[sample.head], sample.value

    def _translate(self, origin: _Origin, sample: text.Sample) -> tuple[int, bytes]:
        labels, capacity = dict(sample.labels), None
        pid, model = labels.pop(b"pid", None), labels.get(b"model_name")
        if origin.metric is catalog.KV_CAPACITY:
            capacity = _capacity(labels)
            if capacity is None:
                return _IGNORED, b""
            labels = {name: labels[name] for name in (b"engine", b"model_name") if name in labels}
        if b"le" in labels:
            labels[b"le"] = floatToGoString(text.number(labels[b"le"])).encode()  # type: ignore[no-untyped-call]
        if model is None and len(self._models) == 1:
            labels[b"model_name"] = text.escaped(self._models[0])
        group = _Group(origin.metric, origin.upstream, origin.rank, model, pid, capacity)
        ours = text.head(origin.metric.name.encode() + origin.suffix, labels | self._labels) + b" "
        ours.decode()  # a page with anything but UTF-8 in it would be refused as a whole
        return self._groups.setdefault(group, len(self._groups)), ours

    def _finish(self, found: Mapping[int, dict[bytes, bytes]]) -> EngineScrape:
        groups = [(group, found[i]) for group, i in self._groups.items() if group and i in found]
        models = sorted({text.plain(group.model) for group, _ in groups if group.model is not None})
        newest: dict[Metric, int] = {}
        for group, _ in groups:
            newest[group.metric] = min(group.rank, newest.get(group.metric, group.rank))
        series: dict[Metric, dict[bytes, bytes]] = defaultdict(dict)
        upstream: dict[Metric, str] = {}
        for group, lines in groups:
            if group.rank == newest[group.metric]:
                upstream[group.metric] = group.upstream
                _gather(series[group.metric], group, lines)
        families = {
            metric: Family(upstream[metric], block) for metric, lines in series.items() if (block := _block(lines))
        }
        return EngineScrape(tuple(models), families)


def _gather(family: dict[bytes, bytes], group: _Group, lines: dict[bytes, bytes]) -> None:
    if group.capacity is not None:
        family.update(dict.fromkeys(lines, group.capacity))
    elif group.pid is not None:  # one series per process, all but one stale (vLLM 0.9.2 to 0.11): the largest is true
        for ours, value in lines.items():
            family[ours] = max(family.get(ours, value), value, key=float)
    else:
        family.update(lines)


def _block(lines: Mapping[bytes, bytes]) -> bytes:
    """The lines as text. A NaN says that there is no value: its line goes. ValueError names a value that is none."""
    if not _plain_numbers(lines.values()):
        lines = {ours: value for ours, value in lines.items() if not isnan(text.number(value))}
    return b"".join([b"%s%s\n" % line for line in lines.items()])


def _plain_numbers(values: Iterable[bytes]) -> bool:
    """Whether all are finite numbers, told without a look at each of them in Python."""
    try:
        return not b" ".join(values).translate(None, b"0123456789.e+- ") and isfinite(sum(map(float, values)))
    except ValueError:
        return False


def _capacity(labels: Mapping[bytes, bytes]) -> bytes | None:
    """Tokens that the KV cache holds, from the labels of vllm:cache_config_info; None before it is known."""
    tokens = labels.get(b"kv_cache_size_tokens", b"")
    if tokens.isdigit():
        return tokens
    blocks, size = labels.get(b"num_gpu_blocks", b""), labels.get(b"block_size", b"")
    return b"%d" % (int(blocks) * int(size)) if blocks.isdigit() and size.isdigit() else None
