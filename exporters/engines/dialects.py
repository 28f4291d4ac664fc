"""What the sample names of each engine stand for, and which engine a page is of."""

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from slo import catalog
from slo.catalog import Kind, Metric, Upstream
from slo.engines import ENGINES
from slo.engines.table import Engine

_SUFFIXES: Mapping[Kind, tuple[bytes, ...]] = {
    Kind.COUNTER: (b"",),
    Kind.GAUGE: (b"",),
    Kind.HISTOGRAM: (b"_bucket", b"_sum", b"_count"),
}
# Any web server may count its requests under this name: on its own it does not make an engine.
ANYBODYS = catalog.HTTP_REQUESTS.upstream["vllm"][0].name
_SAMPLE_NAME = re.compile(rb"^[A-Za-z_:][A-Za-z0-9_:]*+", re.MULTILINE)


class Origin(NamedTuple):
    """What a sample name stands for. A lower rank is a newer name of the same family.

    Only samples with the labels `where` are meant, which they lose; `rename` turns the engine's label names into ours.
    """

    metric: Metric
    suffix: bytes
    upstream: str
    rank: int
    where: Mapping[bytes, bytes]
    rename: Mapping[bytes, bytes]


class Dialect(NamedTuple):
    """How one engine speaks: the meanings of every sample name, and the labels that say nothing."""

    engine: Engine
    origins: Mapping[bytes, tuple[Origin, ...]]
    drop: frozenset[bytes]


def _dialect(engine: Engine) -> Dialect:
    origins: dict[bytes, list[Origin]] = defaultdict(list)
    for metric in catalog.families():
        for rank, upstream in enumerate(metric.upstream.get(engine.kind, ())):
            for suffix in _SUFFIXES[metric.kind]:
                origins[upstream.name.encode() + suffix].append(_origin(engine, metric, suffix, rank, upstream))
    by_name = {name: tuple(meanings) for name, meanings in origins.items()}
    return Dialect(engine, by_name, frozenset(label.encode() for label in engine.drop))


def _origin(engine: Engine, metric: Metric, suffix: bytes, rank: int, upstream: Upstream) -> Origin:
    where = {label.encode(): value.encode() for label, value in upstream.where.items()}
    rename = {theirs.encode(): ours.encode() for theirs, ours in {**engine.rename, **upstream.rename}.items()}
    return Origin(metric, suffix, str(upstream), rank, where, rename)


DIALECTS: Mapping[str, Dialect] = {kind: _dialect(engine) for kind, engine in ENGINES.items()}


def detect(body: bytes) -> Dialect | None:
    """The engine that most of the sample names are known of, None when none is known; the first of equals."""
    names = {*_SAMPLE_NAME.findall(body)} - {ANYBODYS.encode()}
    known = {kind: len(names & dialect.origins.keys()) for kind, dialect in DIALECTS.items()}
    best = max(known, key=lambda kind: known[kind])
    return DIALECTS[best] if known[best] else None
