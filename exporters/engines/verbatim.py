"""Families that pass through as they stand: of other containers' pages, and of an engine's by name.

Like the engines' pages these are read line by line, and a line of a series seen before costs one look-up.
"""

import re
from collections.abc import Callable, Iterable, Mapping

from exporters.engines import text
from exporters.model import RawFamily, SourceError
from slo import catalog

_KINDS = {b"counter": "counter", b"gauge": "gauge", b"histogram": "histogram", b"summary": "summary"}
_SUFFIXES = (b"_bucket", b"_count", b"_sum", b"_total")
_OURS = frozenset(metric.name.encode() for metric in catalog.families())
# Remembered lines, as for engines.
_MAX_KNOWN = 60_000


class RawParser:
    """Reads one source's pages: the families whose name `wanted` accepts, each series with `labels` added."""

    def __init__(self, wanted: Callable[[str], object], labels: Mapping[str, str] | None = None) -> None:
        self._wanted = wanted
        self._labels = {name.encode(): text.escaped(value) for name, value in (labels or {}).items()}
        self._comments: list[bytes] = []
        self._described: dict[bytes, tuple[str, bytes]] = {}
        # Per head of a line: the family it belongs to, empty for none, and the head to write.
        self._known: dict[bytes, tuple[bytes, bytes]] = {}

    def parse(self, body: bytes) -> dict[bytes, RawFamily]:
        """The families by name. Timestamps, exemplars and `_created` series are left behind.

        Raises SourceError when the page is broken.
        """
        try:
            text.check_complete(body)
            return self._parse(body)
        except ValueError as error:
            raise SourceError(str(error)) from None

    def _parse(self, body: bytes) -> dict[bytes, RawFamily]:
        lines = body.split(b"\n")
        comments = [line for line in lines if line.startswith(b"#")]
        if comments != self._comments or len(self._known) > min(2 * len(lines), _MAX_KNOWN - 1):
            self._comments, self._described, self._known = comments, _described(comments), {}
        known, found = self._known, dict[bytes, dict[bytes, bytes]]()
        for line in lines:
            if not line or line.startswith(b"#"):
                continue
            head, _, value = line.rpartition(b" ")
            if head in known:
                family, ours = known[head]
            else:
                family, ours, value = self._learn(line)
            if family:
                found.setdefault(family, {}).setdefault(ours, value)
        return {name: self._family(name, samples) for name, samples in found.items()}

    def _learn(self, line: bytes) -> tuple[bytes, bytes, bytes]:
        sample = text.sample(line)
        family = self._family_of(sample.name)
        if family in _OURS or sample.name.endswith(b"_created") or not self._wanted(family.decode()):
            family = b""
        ours = sample.head if not self._labels else text.head(sample.name, sample.labels | self._labels)
        ours.decode()  # a page with anything but UTF-8 in it would be refused as a whole
        if len(self._known) < _MAX_KNOWN:
            self._known[sample.head] = family, ours
        return family, ours, sample.value

    def _family_of(self, name: bytes) -> bytes:
        """The name that the TYPE line of a sample gives, as Prometheus' text format has it: with _total."""
        if name in self._described or name in _OURS:
            return name
        base = next((name.removesuffix(suffix) for suffix in _SUFFIXES if name.endswith(suffix)), name)
        return base if base in _OURS or (base in self._described and not name.endswith(b"_total")) else name

    def _family(self, name: bytes, samples: dict[bytes, bytes]) -> RawFamily:
        if not text.plain_numbers(samples.values()):
            for value in samples.values():
                text.number(value)
        # In OpenMetrics the TYPE of a counter is written without _total.
        kind, about = self._described.get(name) or self._described.get(name.removesuffix(b"_total")) or ("untyped", b"")
        return RawFamily(kind, about, samples)


def render(pages: Iterable[Mapping[bytes, RawFamily]], openmetrics: bool) -> bytes:
    """All families, each once: of a series that two pages have, the first counts, as does the kind of a family."""
    merged: dict[bytes, RawFamily] = {}
    for page in pages:
        for name, family in page.items():
            first = merged.get(name)
            if first is None:
                merged[name] = family
            elif first.kind == family.kind:
                merged[name] = RawFamily(first.kind, first.help, {**family.samples, **first.samples})
    return b"".join(_text(name, family, openmetrics) for name, family in merged.items())


def _text(name: bytes, family: RawFamily, openmetrics: bool) -> bytes:
    kind = family.kind
    if openmetrics and kind == "counter":
        kind, name = ("counter", name.removesuffix(b"_total")) if name.endswith(b"_total") else ("unknown", name)
    if openmetrics and kind == "untyped":
        kind = "unknown"
    about = b"# HELP %s %s\n" % (name, family.help) if family.help else b""
    lines = [b"%s %s\n" % sample for sample in family.samples.items()]
    return b"".join([about, b"# TYPE %s %s\n" % (name, kind.encode()), *lines])


def _described(comments: Iterable[bytes]) -> dict[bytes, tuple[str, bytes]]:
    """Kind and help per family that has a TYPE which both text formats know."""
    kinds: dict[bytes, str] = {}
    helps: dict[bytes, bytes] = {}
    for line in comments:
        match = re.fullmatch(rb"# (TYPE|HELP) (\S+)[ \t]*(.*)", line)
        if match is None:
            continue
        if match[1] == b"TYPE" and match[3] in _KINDS:
            kinds[match[2]] = _KINDS[match[3]]
        elif match[1] == b"HELP" and _is_text(match[3]):
            helps[match[2]] = match[3]
    return {name: (kind, helps.get(name, b"")) for name, kind in kinds.items()}


def _is_text(help_line: bytes) -> bool:
    try:
        return help_line.decode().isprintable()
    except ValueError:
        return False
