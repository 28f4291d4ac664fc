"""Baselines: what runs measured, kept to compare later runs with."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadgen.results import reading, record
from loadgen.results.record import Client, Fingerprint, Recording, RequestRecord, fingerprint, plain
from loadgen.results.steady import Rule, steady
from loadgen.results.summary import Quantiles, Summary, summarize, tokens_between
from loadgen.traffic.arrivals import NS, Load
from loadgen.traffic.workload import Workload

FORMAT = "llm-slo-baseline"
VERSION = 1

# Raw values kept per latency: enough for a p99 (and its bounds), and about 200 kB of JSON.
_SAMPLE = 10_000
# Parts of a run whose throughput is kept: enough to see how much it varies.
PARTS = 20


class BaselineError(ValueError):
    """A baseline file that cannot be used; the text says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """One run's figures with what was measured and how; only the steady part, found by the rule `steady`.

    `ttft` and `tpot` are raw values in seconds, in the order of their requests' intended starts; of more than 10 000
    every n-th by size is kept, which leaves all quantiles where they are. `token_rates` are the output tokens per
    second of twenty equal parts of the run. `commit` is the revision of the code under test, where it is known.
    """

    started_unix_ns: int
    fingerprint: Fingerprint
    workload: Workload
    load: Load
    client: Client
    summary: Summary
    ttft: tuple[float, ...] = ()
    tpot: tuple[float, ...] = ()
    token_rates: tuple[float, ...] = ()
    steady: Rule | None = None
    commit: str | None = None


def from_recording(recording: Recording, rule: Rule = "auto") -> Baseline:
    """The baseline of the steady part of a finished run."""
    header, (kept, _) = recording.header, steady(recording, rule)
    return Baseline(
        started_unix_ns=header.started_unix_ns,
        fingerprint=header.fingerprint,
        workload=header.workload,
        load=header.load,
        client=header.client,
        summary=summarize(kept),
        ttft=_sample(record.ttft for record in kept.records),
        tpot=_sample(record.tpot for record in kept.records),
        token_rates=token_rates(recording.records, kept.records),
        steady=rule,
        commit=header.commit,
    )


def token_rates(records: Sequence[RequestRecord], kept: Sequence[RequestRecord]) -> tuple[float, ...]:
    """Output tokens per second of the run, whoever asked for them, in twenty parts of the time `kept` were due."""
    if len(kept) < 2:
        return ()
    begin, end = min(r.scheduled_ns for r in kept), max(r.scheduled_ns for r in kept)
    if begin == end:
        return ()
    edges = [begin - (part * (begin - end) // PARTS) for part in range(PARTS + 1)]  # rounded up
    return tuple(round(tokens * PARTS * NS / (end - begin), 3) for tokens in tokens_between(records, edges))


def encode(baseline: Baseline) -> str:
    """The baseline as the text of a JSON file."""
    return json.dumps({"format": FORMAT, "version": VERSION, **plain(baseline)}, indent=1) + "\n"


def read(path: Path | str, rule: Rule = "auto") -> tuple[Baseline, ...]:
    """The runs in a file: what `encode` made, once or several times over, or a records file, whose steady part counts.

    Raises BaselineError.
    """
    try:
        if Path(path).suffix == reading.PARQUET:
            return (from_recording(reading.read(path), rule),)
        with Path(path).open("rb") as file:
            indented = file.read(2) == b"{\n"  # a baseline; records are one object a line, or Parquet
        if indented:
            return tuple(map(_baseline, _objects(Path(path).read_text(encoding="utf-8"))))
        return (from_recording(reading.read(path), rule),)
    except OSError as error:
        raise BaselineError(f"{path}: cannot be read: {error.strerror}") from None
    except record.RecordError as error:
        raise BaselineError(f"{error}; a baseline is what 'slo-load run --baseline-out' or '--records' wrote") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BaselineError(f"{path}: not a usable baseline: {error}") from None


def _objects(text: str) -> Iterable[dict[str, Any]]:
    """JSON objects one after the other, as `cat` joins files."""
    decoder, end = json.JSONDecoder(), 0
    while text[end:].strip():
        end += len(text[end:]) - len(text[end:].lstrip())
        value, end = decoder.raw_decode(text, end)
        yield value


def _sample(values: Iterable[float | None]) -> tuple[float, ...]:
    known = [round(value, 6) for value in values if value is not None]
    if len(known) <= _SAMPLE:
        return tuple(known)
    by_size = sorted(range(len(known)), key=known.__getitem__)
    kept = sorted(by_size[int((i + 0.5) * len(known) / _SAMPLE)] for i in range(_SAMPLE))
    return tuple(known[index] for index in kept)


def _baseline(value: dict[str, Any]) -> Baseline:
    if value.pop("format", None) != FORMAT or value.pop("version", None) != VERSION:
        raise ValueError(f"not {FORMAT} version {VERSION}; write one with 'slo-load run --baseline-out'")
    summary = value["summary"]
    latencies = {name: Quantiles(**item) for name, item in summary.items() if isinstance(item, dict) and "p50" in item}
    samples = {name: tuple(map(float, value.get(name, ()))) for name in ("ttft", "tpot", "token_rates")}
    return Baseline(
        **{
            **value,
            "fingerprint": fingerprint(value["fingerprint"]),
            "workload": Workload(**value["workload"]),
            "load": Load(**value["load"]),
            "client": Client(**value["client"]),
            "summary": Summary(**{**summary, **latencies}),
            **samples,
        }
    )
