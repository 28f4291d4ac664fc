"""What the sources of a scrape yield: plain values, without sockets, clocks or files."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from slo.catalog import Metric
from slo.sli import Request


class UsageError(Exception):
    """Something the user can mend; the text is the one line they see."""


class SourceError(Exception):
    """A source could not be read; the text says what came instead and what to do about it."""


@dataclass(frozen=True, slots=True)
class Family:
    """One family of one engine: the upstream name it was read from, and its sample lines under our name."""

    upstream: str
    samples: bytes


@dataclass(frozen=True, slots=True)
class RawFamily:
    """One family as its source has it: its kind in Prometheus' text format, and the value of each series."""

    kind: str
    help: bytes
    samples: Mapping[bytes, bytes]


# Per name, as sample lines have it.
RawFamilies = Mapping[bytes, RawFamily]


@dataclass(frozen=True, slots=True)
class EngineScrape:
    """One reading of the page of an engine, which `kind` names.

    `dropped` are the sizes of families that have too many series; `raw` are those that pass through as they stand.
    """

    models: tuple[str, ...]
    families: Mapping[Metric, Family]
    kind: str = ""
    dropped: Mapping[Metric, int] = field(default_factory=dict)
    raw: RawFamilies = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReading:
    """One reading of one GPU or MIG instance, in the catalogue's units; what is not told is absent.

    `values` holds the families that have the labels of a GPU only, `labelled` those with one label more, by its value.
    An instance has the UUID of its GPU as `parent`, whose reading holds what only the whole board can tell.
    """

    uuid: str
    index: str
    name: str = ""
    driver: str = ""
    parent: str = ""
    profile: str = ""
    values: Mapping[Metric, float] = field(default_factory=dict)
    labelled: Mapping[Metric, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GpuScrape:
    """One reading of all GPUs. `lost` names, by UUID, those seen before that no longer answer, and why."""

    gpus: tuple[GpuReading, ...]
    lost: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanFacts:
    """One request as the engine's span tells it. Durations in seconds, `start` in Unix time; None is absent.

    `labels` are the values of the span labels asked for, in their order, empty where the span has none.
    """

    trace_id: str
    start: float
    model_name: str | None = None
    ok: bool = True
    ttft: float | None = None
    tpot: float | None = None
    e2e: float | None = None
    queue: float | None = None
    prefill: float | None = None
    decode: float | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    labels: tuple[str, ...] = ()

    def to_request(self) -> Request:
        """The same request in the words of the SLIs."""
        return Request(
            start=self.start,
            ok=self.ok,
            ttft=self.ttft,
            tpot=self.tpot,
            e2e=self.e2e,
            queue=self.queue,
            output_tokens=self.output_tokens,
        )


@dataclass(frozen=True, slots=True)
class SpanBatch:
    """What one export held: how many spans of any name, the facts of the request spans, why others were unusable."""

    received: int
    spans: tuple[SpanFacts, ...]
    rejected: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStatus:
    """How the last reading of a source went. `seconds` is how long it took, or has been hanging so far."""

    source: str
    endpoint: str
    up: bool
    seconds: float
    error: str = ""
