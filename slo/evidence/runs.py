"""What load tests measured: the records and baseline files of `slo-load`, read by their documented format.

Latencies are the client's and count from the intended start. Their order tells how much requests say about each
other; a baseline keeps the order of its latencies, but of failures only how many there were.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO, TypeVar

from slo.engines import ENGINES
from slo.sli import Request

T = TypeVar("T")

RECORDS, BASELINE, VERSION = "llm-slo-records", "llm-slo-baseline", 1
NS = 1_000_000_000
# Errors that say nothing about the service: refused as wrong or as too many, broken off or failed by the client.
NOT_COUNTED = {"http_4xx", "http_429", "cancelled", "client_error"}


class RunError(ValueError):
    """A file that cannot be used; the text says which, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where the figures come from. `started_ns` is Unix time in nanoseconds; what is not known is empty."""

    path: str
    started_ns: int
    model: str
    engine: str
    gpus: str
    load: str
    simulated: bool

    @property
    def kind(self) -> str:
        """The engine as a spec names it; empty where it is none that is known."""
        owner = self.engine.partition(" ")[0].lower()
        return owner if owner in ENGINES else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One load test: seconds of each latency by its name, and whether each request that counts was answered.

    All in the order of the requests, but for the answers where `ordered` is False.
    """

    origin: Origin
    latencies: Mapping[str, Sequence[float]]
    answered: Sequence[bool]
    ordered: bool


def read(path: Path) -> list[Run]:
    """The runs of a file: one of a records file, one or more of a baseline file. Raises RunError."""
    with _opened(path) as file:
        first = file.readline()
        if first == "{\n":  # a baseline is one indented object, records are one object a line
            text = first + file.read()
            return _located(f"{path}", lambda: [_baseline(path, body) for body in _objects(text)])
        return [_run(*_records(path, first, file))]


def read_requests(path: Path) -> list[Request]:
    """The requests of a records file in the order of their intended starts. Raises RunError."""
    with _opened(path) as file:
        return _records(path, file.readline(), file)[1]


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    try:
        with path.open(encoding="utf-8") as file:
            yield file
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RunError(f"{path}: not a text file; give records or a baseline that 'slo-load run' wrote") from None


def _run(origin: Origin, requests: Sequence[Request]) -> Run:
    values = {name: [getattr(request, name) for request in requests] for name in ("ttft", "tpot", "e2e")}
    return Run(
        origin=origin,
        latencies={name: [value for value in found if value is not None] for name, found in values.items()},
        answered=[request.ok for request in requests if request.ok is not None],
        ordered=True,
    )


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """JSON objects one after the other, as `cat` joins baselines."""
    decoder, end = json.JSONDecoder(parse_constant=_no_number), 0
    while text := text[end:].lstrip():
        body, end = decoder.raw_decode(text)
        yield body


def _baseline(path: Path, body: dict[str, Any]) -> Run:
    """A baseline keeps TTFT and TPOT values, and of everything else only figures."""
    _expect_format(body, BASELINE)
    outcomes: dict[str, int] = body["summary"]["outcomes"]
    bad = sum(count for outcome, count in outcomes.items() if outcome not in NOT_COUNTED | {"ok"})
    return Run(
        origin=_origin(path, body),
        latencies={name: [float(value) for value in body.get(name, ())] for name in ("ttft", "tpot")},
        answered=[True] * outcomes.get("ok", 0) + [False] * bad,
        ordered=False,
    )


def _records(path: Path, first: str, rest: Iterable[str]) -> tuple[Origin, list[Request]]:
    """Where the records come from, and the requests. The last line of a killed run may be torn; it is left out."""
    origin = _located(f"{path}:1", lambda: _header(path, _parsed(first)))
    found = []
    for number, line in enumerate(rest, 2):
        if line.endswith("\n") or _is_json(line):
            found.append(_located(f"{path}:{number}", partial(_request, line, origin.started_ns)))
    return origin, sorted((request for request in found if request), key=lambda request: request.start)


def _header(path: Path, body: dict[str, Any]) -> Origin:
    _expect_format(body, RECORDS)
    return _origin(path, body["header"])


def _request(line: str, started_ns: int) -> Request | None:
    """A record as a Request; None for the footer, for samples of the server and for an empty line."""
    body = _parsed(line.strip() or "{}")
    if not body or "footer" in body or "sample" in body:
        return None
    due, stamps = body["scheduled_ns"], body.get("token_ns", ())
    tokens, error = body.get("output_tokens") or 0, body.get("error")
    paced = not error and len(stamps) > 1 and tokens > 1
    return Request(
        start=(started_ns + due) / NS,
        ok=None if error in NOT_COUNTED else error is None,
        ttft=(stamps[0] - due) / NS if stamps else None,
        tpot=(stamps[-1] - stamps[0]) / NS / (tokens - 1) if paced else None,
        e2e=None if error else (body["done_ns"] - due) / NS,
        output_tokens=body.get("output_tokens"),
    )


def _origin(path: Path, facts: Mapping[str, Any]) -> Origin:
    fingerprint = facts["fingerprint"]
    return Origin(
        path=str(path),
        started_ns=int(facts["started_unix_ns"]),
        model=str(fingerprint["model"]),
        engine=" ".join(str(fingerprint[key]) for key in ("engine", "engine_version") if fingerprint.get(key)),
        gpus=", ".join(map(str, fingerprint.get("gpus", ()))),
        load=" ".join(f"{key}={value}" for key, value in facts["load"].items()),
        simulated=bool(fingerprint.get("simulated", False)),
    )


def _expect_format(body: dict[str, Any], name: str) -> None:
    if body.get("format") != name or body.get("version") != VERSION:
        raise ValueError(f"not {name} version {VERSION}, which this release reads")


def _located(place: str, read_it: Callable[[], T]) -> T:
    try:
        return read_it()
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise RunError(f"{place}: not what 'slo-load run' writes as records or baseline: {error}") from None


def _parsed(text: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(text, parse_constant=_no_number)
    return body


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
