"""Incidents on demand: what goes wrong with the simulated engine, from when, for how long and how badly.

There is no clock here: times are seconds since the simulator started. A fault is written
`KIND[=SIZE][@START][+SECONDS]`, such as `prefill=4@60+120`; without `@START` it begins at once, without `+SECONDS` it
lasts until it is ended.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from math import inf

from loadgen.simulator.model import EngineConfig

_NUMBER = r"\d{1,9}(?:\.\d{1,9})?"
_WRITTEN = re.compile(
    rf"(?P<kind>[a-z]+)(?:=(?P<size>{_NUMBER}))?(?:@(?P<start>{_NUMBER}))?(?:\+(?P<seconds>{_NUMBER}))?", re.ASCII
)
HELP = """KIND[=SIZE][@START][+SECONDS], seconds since the start: prefill=4@60+120 makes prompts take 4 times as long,
throttle=3 every step, since heat slows the GPU down; kv=0.9 withholds this share of the KV cache, errors=0.5 answers
this share of requests with 500, hang stops every step"""


class Kind(StrEnum):
    """What can go wrong."""

    PREFILL = "prefill"
    KV = "kv"
    HANG = "hang"
    ERRORS = "errors"
    THROTTLE = "throttle"


_FACTORS = (Kind.PREFILL, Kind.THROTTLE)
_SHARES = (Kind.KV, Kind.ERRORS)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong from `start` for `seconds`.

    `size` is a factor of time (prefill, throttle), a share (kv, errors), or 1 (hang). ValueError when it cannot be.
    """

    kind: Kind
    size: float = 1.0
    start: float = 0.0
    seconds: float = inf

    def __post_init__(self) -> None:
        if self.kind in _FACTORS and not self.size > 1:
            raise ValueError(f"{self}: the factor must be more than 1")
        if self.kind in _SHARES and not 0 < self.size <= 1:
            raise ValueError(f"{self}: the share must be more than 0 and at most 1")
        if not self.seconds > 0:
            raise ValueError(f"{self}: it must last for more than 0 seconds")

    @property
    def end(self) -> float:
        """When it is over."""
        return self.start + self.seconds

    def __str__(self) -> str:
        """As it is written."""
        size = "" if self.kind is Kind.HANG else f"={_text(self.size)}"
        return f"{self.kind}{size}@{_text(self.start)}" + ("" if self.seconds == inf else f"+{_text(self.seconds)}")


def parse(text: str) -> Fault:
    """The fault that is written so; ValueError says what is wrong with it."""
    found = _WRITTEN.fullmatch(text)
    if not found or found["kind"] not in set(Kind):
        raise ValueError(f"{text!r} is no fault; write KIND[=SIZE][@START][+SECONDS], such as prefill=4@60+120, with a "
                         f"KIND of {', '.join(Kind)}")  # fmt: skip
    kind, sized = Kind(found["kind"]), found["size"] is not None
    if sized == (kind is Kind.HANG):
        raise ValueError(f"{text!r}: {kind} takes {'no' if sized else 'a'} size")
    return Fault(kind, float(found["size"] or 1), float(found["start"] or 0), float(found["seconds"] or inf))


class Faults:
    """All faults of one simulator, past and to come. Of several of a kind at a time the worst counts."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._faults = list(faults)

    def add(self, fault: Fault, now: float) -> None:
        """Let a fault happen whose start counts from `now`."""
        self._faults.append(replace(fault, start=now + fault.start))

    def clear(self) -> None:
        """End what goes on and forget what is to come."""
        self._faults.clear()

    def size(self, kind: Kind, now: float) -> float | None:
        """How bad a kind of fault is; None while there is none."""
        sizes = [fault.size for fault in self._faults if fault.kind is kind and fault.start <= now < fault.end]
        return max(sizes, default=None)

    def texts(self, now: float) -> list[str]:
        """What goes on and what is to come, as it is written."""
        return [str(fault) for fault in self._faults if now < fault.end]

    def clock(self, now: float) -> float:
        """The share of its full clock that the GPU runs at."""
        return 1 / (self.size(Kind.THROTTLE, now) or 1)

    def config(self, healthy: EngineConfig, now: float) -> EngineConfig:
        """What `healthy` becomes under the faults of this moment."""
        if not self._faults:
            return healthy
        return replace(
            healthy,
            prefill_token_seconds=healthy.prefill_token_seconds * (self.size(Kind.PREFILL, now) or 1),
            clock=self.clock(now),
            withheld_blocks=int(healthy.kv_blocks * (self.size(Kind.KV, now) or 0)),
        )


def _text(number: float) -> str:
    return f"{number:.9f}".rstrip("0").rstrip(".")
