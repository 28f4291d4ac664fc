"""Baselines: what one run measured, kept to compare later runs with, and the comparison itself."""

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadgen.arrivals import Load
from loadgen.record import Client, Fingerprint, Header, Recording, fingerprint, plain
from loadgen.summary import Quantiles, Summary, quantile, summarize
from loadgen.workload import Workload

FORMAT = "llm-slo-baseline"
VERSION = 1

# Raw values kept per latency: enough for a p99 (and its bounds), and about 200 kB of JSON.
_SAMPLE = 10_000
_RESAMPLES = 2_000
_TINY = 1e-9


class BaselineError(ValueError):
    """A baseline file that cannot be used; the text says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """One run's figures with what was measured and how, and raw TTFT and TPOT values in seconds, sorted.

    Of more than 10 000 values every n-th in order is kept, which leaves all quantiles where they are.
    """

    started_unix_ns: int
    fingerprint: Fingerprint
    workload: Workload
    load: Load
    client: Client
    summary: Summary
    ttft: tuple[float, ...]
    tpot: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """New over old of one figure, with 95 % bounds where its noise is known; above 1 is worse for latencies."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Why the runs do not compare (empty: they do), and how the new figures relate to the old ones."""

    problems: tuple[str, ...]
    ratios: tuple[Ratio, ...]


def from_recording(recording: Recording) -> Baseline:
    """The baseline of a finished run."""
    header = recording.header
    return Baseline(
        started_unix_ns=header.started_unix_ns,
        fingerprint=header.fingerprint,
        workload=header.workload,
        load=header.load,
        client=header.client,
        summary=summarize(recording),
        ttft=_sample(record.ttft for record in recording.records),
        tpot=_sample(record.tpot for record in recording.records),
    )


def encode(baseline: Baseline) -> str:
    """The baseline as the text of a JSON file."""
    return json.dumps({"format": FORMAT, "version": VERSION, **plain(baseline)}, indent=1) + "\n"


def read(path: Path | str) -> Baseline:
    """Read a file that holds what `encode` made. Raises BaselineError."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
        if value.pop("format", None) != FORMAT or value.pop("version", None) != VERSION:
            raise ValueError(f"not {FORMAT} version {VERSION}; write one with 'slo-load run --baseline-out'")
        return _baseline(value)
    except OSError as error:
        raise BaselineError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BaselineError(f"{path}: not a usable baseline: {error}") from None


def compare(baseline: Baseline, recording: Recording, seed: int = 0) -> Comparison:
    """Compare a run with a baseline: medians and p90 with bootstrap bounds, throughput as observed."""
    now = from_recording(recording)
    ratios = [
        ratio
        for name, old, new in (("TTFT", baseline.ttft, now.ttft), ("TPOT", baseline.tpot, now.tpot))
        for q in (0.5, 0.9)
        if (ratio := _quantile_ratio(f"{name} p{q * 100:.0f}", old, new, q, seed))
    ]
    before, after = baseline.summary.output_tokens_per_second, now.summary.output_tokens_per_second
    if before and after is not None:
        ratios.append(Ratio(name="output tokens/s", value=after / before))
    return Comparison(tuple(_problems(baseline, recording.header)), tuple(ratios))


def _problems(baseline: Baseline, header: Header) -> list[str]:
    """What must be equal. The engine's version and settings need not: a change of them is what a gate is for."""
    old, new = baseline.fingerprint, header.fingerprint
    was, now = baseline.workload, header.workload
    pairs: list[tuple[str, Any, Any]] = [
        ("simulated", old.simulated, new.simulated),
        ("model", old.model, new.model),
        ("GPUs", old.gpus, new.gpus),
        ("endpoint", was.endpoint, now.endpoint),
        ("prompt tokens", was.prompt_tokens, now.prompt_tokens),
        ("output tokens", was.output_tokens, now.output_tokens),
        ("load", plain(baseline.load), plain(header.load)),  # its length too: the idle tail is part of the throughput
    ]
    return [f"other {name}: {_text(was)} then, {_text(now)} now" for name, was, now in pairs if was != now]


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={item}" for name, item in value.items()) or "none"
    return (", ".join(value) or "none") if isinstance(value, tuple) else str(value)


def _quantile_ratio(name: str, old: Sequence[float], new: Sequence[float], q: float, seed: int) -> Ratio | None:
    """The ratio of two samples' quantiles with its 95 % bootstrap bounds; None when a sample is empty or zero.

    The k-th of n resampled values is the value at rank n * Beta(k, n + 1 - k), so no resample need be drawn.
    """
    if not old or not new or not quantile(old, q):
        return None
    rng = random.Random(f"bootstrap {name} {seed}")
    pairs = ((_resampled(new, q, rng), _resampled(old, q, rng)) for _ in range(_RESAMPLES))
    ratios = sorted(above / max(below, _TINY) for above, below in pairs)
    return Ratio(
        name=name,
        value=quantile(new, q) / quantile(old, q),
        low=quantile(ratios, 0.025),
        high=quantile(ratios, 0.975),
    )


def _resampled(ordered: Sequence[float], q: float, rng: random.Random) -> float:
    """The q-quantile of one bootstrap resample."""
    n = len(ordered)
    k = min(n, int(q * n) + 1)
    return ordered[min(n - 1, int(n * rng.betavariate(k, n + 1 - k)))]


def _sample(values: Iterable[float | None]) -> tuple[float, ...]:
    known = sorted(round(value, 6) for value in values if value is not None)
    if len(known) <= _SAMPLE:
        return tuple(known)
    return tuple(known[int((i + 0.5) * len(known) / _SAMPLE)] for i in range(_SAMPLE))


def _baseline(value: dict[str, Any]) -> Baseline:
    summary = value["summary"]
    latencies = {name: Quantiles(**item) for name, item in summary.items() if isinstance(item, dict) and "p50" in item}
    samples = {name: tuple(map(float, value.get(name, ()))) for name in ("ttft", "tpot")}
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
