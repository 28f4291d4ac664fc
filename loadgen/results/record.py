"""The record of a run: a JSON line per request and per sample of the server between a header and a footer.

All stamps are nanoseconds on one monotonic clock that reads 0 at the start of the run; the header's
`started_unix_ns` ties it to wall time. Absent is absent: a field that is None is not written.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import FileIO
from itertools import pairwise
from operator import attrgetter
from typing import Any, Literal

from loadgen.results.stamps import Stamps, compact
from loadgen.traffic.arrivals import NS, Load
from loadgen.traffic.workload import Workload
from slo.sli import Request

FORMAT = "llm-slo-records"
VERSION = 1

ErrorCategory = Literal[
    "refused", "reset", "timeout", "truncated", "stream_error", "bad_response",
    "http_4xx", "http_429", "http_5xx", "cancelled", "client_error",
]  # fmt: skip
# Who counted the output tokens when it was not the server's usage: this client by chunks, which may hold several; the
# ids that the server listed; or a local tokenizer.
TokenSource = Literal["chunks", "token_ids", "tokenizer"]
# What says nothing about the service: requests it turned away as wrong, and what this client broke off or could not do.
NOT_COUNTED: frozenset[ErrorCategory] = frozenset(("http_4xx", "http_429", "cancelled", "client_error"))


class RecordError(ValueError):
    """A records file that cannot be used; the text says which file, which line and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One request as the client saw it.

    `sent_ns` is when the client acted on it: opening a connection, where one is needed, comes after. `token_ns` has
    one stamp per chunk with tokens; `token_counts` says how many each held, and is empty when each held one.
    `error` is None for a complete answer. `retry_after` is what a 429 or 503 asked for, in seconds. `session` and
    `turn` tell a conversation of several requests, `model` and `tenant` the parts of a mix. `output_tokens` is the
    server's usage unless `tokens_from` says otherwise, and `usage_tokens` that usage where a tokenizer counted, too,
    for which `text` was kept.
    """

    seq: int
    trace_id: str
    scheduled_ns: int
    sent_ns: int
    done_ns: int
    token_ns: Sequence[int] = ()
    token_counts: tuple[int, ...] = ()
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    status: int | None = None
    error: ErrorCategory | None = None
    detail: str | None = None
    finish_reason: str | None = None
    retry_after: float | None = None
    session: int | None = None
    turn: int | None = None
    model: str | None = None
    tenant: str | None = None
    tokens_from: TokenSource | None = None
    usage_tokens: int | None = None
    text: str | None = None

    @property
    def first_token_ns(self) -> int | None:
        """Stamp of the first token."""
        return self.token_ns[0] if self.token_ns else None

    @property
    def send_lag(self) -> float:
        """Seconds from the intended start to the real one: the client's own lateness."""
        return (self.sent_ns - self.scheduled_ns) / NS

    @property
    def ttft(self) -> float | None:
        """Seconds from the intended start to the first token."""
        return (self.token_ns[0] - self.scheduled_ns) / NS if self.token_ns else None

    @property
    def ttft_from_sent(self) -> float | None:
        """Seconds from the real start to the first token; below `ttft` when the client or a slot was late."""
        return (self.token_ns[0] - self.sent_ns) / NS if self.token_ns else None

    @property
    def tpot(self) -> float | None:
        """Of a complete answer: (last - first token) / (output tokens - 1) in seconds; None for a single chunk."""
        if self.error or len(self.token_ns) < 2 or not self.output_tokens or self.output_tokens < 2:
            return None
        return (self.token_ns[-1] - self.token_ns[0]) / NS / (self.output_tokens - 1)

    @property
    def gaps_ns(self) -> Sequence[int]:
        """Nanoseconds between each two chunks of tokens, in order."""
        stamps = self.token_ns
        return stamps.gaps if isinstance(stamps, Stamps) else [after - before for before, after in pairwise(stamps)]

    @property
    def itl(self) -> list[float]:
        """Seconds between each two chunks of tokens, in order."""
        return [gap / NS for gap in self.gaps_ns]

    @property
    def e2e(self) -> float | None:
        """Of a complete answer: seconds from the intended start to its last byte."""
        return None if self.error else (self.done_ns - self.scheduled_ns) / NS

    def to_request(self, started_unix_ns: int) -> Request:
        """The same request in the domain's words, for an Sli to judge."""
        return Request(
            start=(started_unix_ns + self.scheduled_ns) / NS,
            ok=None if self.error in NOT_COUNTED else self.error is None,
            ttft=self.ttft,
            tpot=self.tpot,
            e2e=self.e2e,
            output_tokens=self.output_tokens,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """What was measured, as far as it tells: two runs compare only when model, GPUs and `simulated` agree."""

    model: str
    engine: str | None = None
    engine_version: str | None = None
    engine_args: Mapping[str, str] = field(default_factory=dict)
    gpus: tuple[str, ...] = ()
    driver: str | None = None
    cache_config: Mapping[str, str] = field(default_factory=dict)
    simulated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """The measuring side: this program, its Python, its event loop and the host's cores."""

    version: str
    python: str
    event_loop: str
    cores: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """First line: everything that was known when the run started.

    `timeout` is in seconds, per request; `commit` is the revision of the code under test, where it is known;
    `tokenizer` names the one that counts the answers, instead of the server; `proxy` stood between client and target.
    """

    started_unix_ns: int
    target: str
    timeout: float
    workload: Workload
    load: Load
    fingerprint: Fingerprint
    client: Client
    commit: str | None = None
    tokenizer: str | None = None
    proxy: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What the server's /metrics said at one time of the run.

    `values` holds, by the family's name in the catalogue, a number per series: per engine or per GPU, always in the
    same order.
    """

    at_ns: int
    values: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """How late the client was, in seconds."""

    p50: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """Last line: what the client saw of itself. Only a run that ended in order has one.

    `seconds` is the time from the start of the run to its end, `cpu_share` the client's CPU seconds per second,
    `achieved_rate` the requests per second it sent, `loop_lag` how late its event loop ran a timer. `coalesced` is the
    share of token chunks that came in one read with the chunk before: their gap of 0 is the network's or this client's.
    With several `workers` the shares and lags are those of the worst one; `lost_workers` are the numbers, from 0, of
    those that died, so `interrupted` is set.
    """

    interrupted: bool
    seconds: float
    sent: int
    cpu_share: float
    achieved_rate: float | None = None
    send_lag: Lag | None = None
    loop_lag: Lag | None = None
    coalesced: float | None = None
    workers: int | None = None
    lost_workers: tuple[int, ...] = ()

    @property
    def loss(self) -> str:
        """Which workers died, in words."""
        numbers = ", ".join(map(str, self.lost_workers))
        return f"lost {len(self.lost_workers)} of {self.workers} workers (number {numbers})"


@dataclass(frozen=True, slots=True)
class Recording:
    """A whole records file. Without `footer` the run was killed; `torn` says that its last line is incomplete."""

    header: Header
    records: tuple[RequestRecord, ...]
    footer: Footer | None = None
    torn: bool = False
    samples: tuple[Sample, ...] = ()

    def requests(self) -> list[Request]:
        """All requests in the domain's words."""
        return list(self.each_request())

    def each_request(self) -> Iterator[Request]:
        """The same one by one, which takes no memory."""
        return (record.to_request(self.header.started_unix_ns) for record in self.records)


Line = Header | RequestRecord | Sample | Footer


def encode(line: Line) -> str:
    """One line of the file, without its newline."""
    if isinstance(line, RequestRecord):  # as `plain` would say it, ten times faster
        values = zip(_FIELDS, _values(line), strict=True)
        return _dumps({name: value for name, value in values if value is not None and value != ()})
    if isinstance(line, Sample):
        return json.dumps({"sample": plain(line)}, separators=(",", ":"))
    kind = "header" if isinstance(line, Header) else "footer"
    return json.dumps({"format": FORMAT, "version": VERSION, kind: plain(line)})


_FIELDS = tuple(RequestRecord.__dataclass_fields__)
_values = attrgetter(*_FIELDS)
_dumps = json.JSONEncoder(separators=(",", ":"), check_circular=False, default=list).encode


def append(file: FileIO, line: Line) -> None:
    """Hand a whole line to the system at once, so that a killed run keeps its records. Raises OSError."""
    data = encode(line).encode() + b"\n"
    while data:
        data = data[file.write(data) :]


def plain(value: Any) -> dict[str, Any]:
    """A dataclass as a JSON object, without the fields that are None or empty."""
    items = ((name, getattr(value, name)) for name in value.__dataclass_fields__)
    return {
        name: plain(item) if hasattr(item, "__dataclass_fields__") else item
        for name, item in items
        if item is not None and item != () and item != {}
    }


def decode(text: str) -> Line:
    """The line that `encode` wrote. Raises ValueError, saying what is wrong with it."""
    try:
        value = json.loads(text)
        if "sample" in value:
            return _sample(value["sample"])
        if "header" not in value and "footer" not in value:
            return from_fields(value)
        if value.get("format") != FORMAT or value.get("version") != VERSION:
            raise ValueError(f"not {FORMAT} version {VERSION}, which this release reads")
        return _header(value["header"]) if "header" in value else _footer(value["footer"])
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a line of {FORMAT}: {error}") from None


def from_fields(value: dict[str, Any]) -> RequestRecord:
    """A request from the fields of its line, which it may change. Raises KeyError, TypeError or ValueError."""
    stamps, counts = value.get("token_ns", ()), value.get("token_counts", ())
    numbers = (value["seq"], value["scheduled_ns"], value["sent_ns"], value["done_ns"], *stamps, *counts)
    if {*map(type, numbers)} != {int}:
        raise ValueError("a stamp that is not a whole number")
    if counts and len(counts) != len(stamps):
        raise ValueError("token_counts has not one number per stamp")
    for name in ("finish_reason", "tokens_from"):  # one object for all that say the same
        if word := value.get(name):
            value[name] = sys.intern(word)
    return RequestRecord(**{**value, "token_ns": compact(stamps), "token_counts": tuple(counts)})


def _sample(value: dict[str, Any]) -> Sample:
    values = {name: tuple(float(number) for number in numbers) for name, numbers in value["values"].items()}
    return Sample(at_ns=int(value["at_ns"]), values=values)


def _header(value: dict[str, Any]) -> Header:
    parts = {
        "workload": Workload(**value["workload"]),
        "load": Load(**value["load"]),
        "fingerprint": fingerprint(value["fingerprint"]),
        "client": Client(**value["client"]),
    }
    return Header(**{**value, **parts})


def fingerprint(value: dict[str, Any]) -> Fingerprint:
    """A Fingerprint from its JSON object; TypeError for fields it does not have."""
    return Fingerprint(**{**value, "gpus": tuple(value.get("gpus", ()))})


def _footer(value: dict[str, Any]) -> Footer:
    lags: dict[str, Any] = {name: Lag(**value[name]) for name in ("send_lag", "loop_lag") if name in value}
    return Footer(**{**value, **lags, "lost_workers": tuple(value.get("lost_workers", ()))})
