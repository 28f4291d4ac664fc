"""An engine's metrics page -> the catalogue's families.

This is the hot path of a scrape, so it works on bytes, line by line, and remembers what it has worked out: a line of a
series seen before costs one look-up and keeps the text of its value.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from prometheus_client.utils import floatToGoString

from exporters.engines import text
from exporters.engines.dialects import ANYBODYS, DIALECTS, Origin, detect
from exporters.model import EngineScrape, Family, SourceError
from slo import catalog
from slo.catalog import Metric

# A family with more series is left out whole: some label of it holds what it should not, and a part would be a lie.
# 64 data-parallel ranks give a histogram 1600.
MAX_SERIES = 20_000
# Lines remembered: about 25 MB. 64 data-parallel ranks show 30 000.
_MAX_KNOWN = 60_000
_HINT = "point --engine at an engine's metrics page; `slo-exporter describe` says where each engine serves it"
_CONFIG = catalog.KV_CAPACITY.upstream["vllm"][0].name


class _Group(NamedTuple):
    """The lines of one page that are finished together: of one name, one model and one process."""

    metric: Metric
    upstream: str
    rank: int
    model: bytes | None
    pid: bytes | None
    capacity: bytes | None


# A group, by its number, and the head we write in place of a line's own.
_Target = tuple[int, bytes]
_IGNORED, _SHARED, _FIRST = 0, 1, 2
_NOTHING: _Target = (_IGNORED, b"")


class EngineParser:
    """Reads one engine's pages, one after another. `labels` are stamped on every series it yields.

    `kind` says which engine it is, else that is told from the page. `model` names the model of an engine that does not.
    """

    def __init__(self, labels: Mapping[str, str] | None = None, kind: str | None = None, model: str = "") -> None:
        self._labels = {name.encode(): text.escaped(value) for name, value in (labels or {}).items()}
        self._stated = kind is not None
        self._dialect = DIALECTS[kind or "vllm"]
        self._model = (model,) if model else ()
        self._models: tuple[str, ...] = ()
        self._forget()

    def _forget(self) -> None:
        # Per head of a line (name and labels): what becomes of it.
        self._known: dict[bytes, _Target] = {}
        # Lines that stand for several series, as the sum of a histogram that is also a counter.
        self._shared: dict[bytes, list[_Target]] = {}
        self._numbers: dict[_Group, int] = {}
        self._groups: dict[int, _Group] = {}

    def parse(self, body: bytes) -> EngineScrape:
        """Read a whole page. Raises SourceError when it is not an engine's, or broken."""
        try:
            text.check_complete(body)
            scrape = self._parse(body)
            if not self._stated and not _of_engine(scrape) and (found := detect(body)):
                self._dialect = found
                self._forget()
                scrape = self._parse(body)
            if scrape.models != self._models:  # what lines without a model name got is no longer true
                self._models = scrape.models
                self._forget()
                scrape = self._parse(body)
        except ValueError as error:
            raise SourceError(str(error)) from None
        if not _of_engine(scrape):
            raise SourceError(self._strange(body))
        return scrape

    def _strange(self, body: bytes) -> str:
        engine = self._dialect.engine
        whose, hint = (engine.title, engine.hint) if self._stated else ("a known engine", _HINT)
        return f"{text.what_is(body)}, without any metric of {whose}: {hint}"

    def _parse(self, body: bytes) -> EngineScrape:
        lines = body.removesuffix(b"\n").split(b"\n")
        # Series come and go; the memory must not grow with them.
        if len(self._known) > min(2 * len(lines), _MAX_KNOWN - 1):
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
        origins = self._dialect.origins.get(name)
        if origins is None:
            if head := line.rpartition(b" ")[0]:
                self._remember(head, _NOTHING)
            return *_NOTHING, b""
        sample = text.sample(line)
        # It is known when a timestamp or an exemplar stands behind the value.
        target = self._known.get(sample.head) or self._target(origins, sample)
        return *target, sample.value

    def _remember(self, head: bytes, target: _Target) -> None:
        if len(self._known) < _MAX_KNOWN:
            self._known[head] = target

    def _target(self, origins: tuple[Origin, ...], sample: text.Sample) -> _Target:
        targets = [target for origin in origins if (target := self._translate(origin, sample))]
        target = targets[0] if targets else _NOTHING
        if len(targets) > 1:
            target = (_SHARED, sample.head)
            self._shared[sample.head] = targets
        self._remember(sample.head, target)
        return target

    def _translate(self, origin: Origin, sample: text.Sample) -> _Target | None:
        if any(sample.labels.get(label) != value for label, value in origin.where.items()):
            return None
        unwanted = self._dialect.drop | origin.where.keys()
        kept = (label for label in sample.labels.items() if label[0] not in unwanted)
        labels, capacity = {origin.rename.get(name, name): value for name, value in kept}, None
        pid, model = labels.pop(b"pid", None), labels.get(b"model_name")
        if origin.upstream == _CONFIG:
            capacity = _capacity(labels)
            if capacity is None:
                return None
            labels = {name: labels[name] for name in (b"engine", b"model_name") if name in labels}
        if b"le" in labels:
            labels[b"le"] = floatToGoString(text.number(labels[b"le"])).encode()  # type: ignore[no-untyped-call]
        if model is None and len(self._models) == 1:
            labels[b"model_name"] = text.escaped(self._models[0])
        group = _Group(origin.metric, origin.upstream, origin.rank, model, pid, capacity)
        ours = text.head(origin.metric.name.encode() + origin.suffix, labels | self._labels) + b" "
        ours.decode()  # a page with anything but UTF-8 in it would be refused as a whole
        number = self._numbers.setdefault(group, len(self._numbers) + _FIRST)
        self._groups[number] = group
        return number, ours

    def _finish(self, found: dict[int, dict[bytes, bytes]]) -> EngineScrape:
        for head, value in found.get(_SHARED, {}).items():
            for i, ours in self._shared[head]:
                found[i].setdefault(ours, value)
        groups = [(self._groups[i], lines) for i, lines in found.items() if i in self._groups]
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
        dropped = {metric: len(lines) for metric, lines in series.items() if len(lines) > MAX_SERIES}
        families = {
            metric: Family(upstream[metric], block)
            for metric, lines in series.items()
            if metric not in dropped and (block := _block(lines))
        }
        return EngineScrape(tuple(models) or self._model, families, self._dialect.engine.kind, dropped)


def _of_engine(scrape: EngineScrape) -> bool:
    return bool(scrape.dropped) or any(family.upstream != ANYBODYS for family in scrape.families.values())


def _gather(family: dict[bytes, bytes], group: _Group, lines: dict[bytes, bytes]) -> None:
    if group.capacity is not None:
        lines = dict.fromkeys(lines, group.capacity)
    if group.pid is not None:  # one series per process, all but one stale (vLLM 0.9.2 to 0.11): the largest is true
        lines = {ours: max(family.get(ours, value), value, key=float) for ours, value in lines.items()}
        family.update(lines)
    else:  # as within a group, the first counts
        family.update({**lines, **family} if family else lines)


def _block(lines: Mapping[bytes, bytes]) -> bytes:
    """The lines as text, less those without a value: NaN, and what is negative where nothing can be.

    ValueError names a value that is no number.
    """
    if not text.plain_numbers(lines.values()):
        lines = {ours: value for ours, value in lines.items() if text.number(value) >= 0}
    return b"".join([b"%s%s\n" % line for line in lines.items()])


def _capacity(labels: Mapping[bytes, bytes]) -> bytes | None:
    """Tokens that the KV cache holds, from the labels of vllm:cache_config_info; None before it is known."""
    tokens = labels.get(b"kv_cache_size_tokens", b"")
    if tokens.isdigit():
        return tokens
    blocks, size = labels.get(b"num_gpu_blocks", b""), labels.get(b"block_size", b"")
    return b"%d" % (int(blocks) * int(size)) if blocks.isdigit() and size.isdigit() else None
