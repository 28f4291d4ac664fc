"""How long each GPU was at hand, and what that cost."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from exporters.join import serving
from exporters.model import GpuReading

_PRICE = re.compile(r"(\d+(?:\.\d+)?) ?([A-Z]{3})?")


@dataclass(frozen=True, slots=True)
class Price:
    """What a GPU costs per hour."""

    per_hour: float
    currency: str = "USD"


@dataclass(frozen=True, slots=True)
class Usage:
    """Seconds that a GPU was at hand since the sidecar started, and their cost where a price is known."""

    uuid: str
    index: str
    seconds: float
    cost: float | None = None
    currency: str = ""


def price(text: str) -> Price:
    """Read `2.50`, `2.50EUR` or `2.50 EUR`. Raises ValueError when it is none of these."""
    match = _PRICE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no price per GPU hour; write it like 2.50 or 2.50EUR")
    return Price(float(match[1]), match[2] or "USD")


class Ledger:
    """Adds up the time between two readings for the GPUs that are in both, and keeps those that have gone.

    A reading that failed is no reading: the time until the next one that succeeds counts in full.
    """

    def __init__(self, price: Price | None = None) -> None:
        self._price = price
        self._seconds: dict[str, float] = {}
        self._index: dict[str, str] = {}
        self._last: dict[str, float] = {}

    def see(self, gpus: Iterable[GpuReading], now: float) -> None:
        """Take in one reading, of `now` in seconds of a clock that never goes back."""
        here = serving(gpus)
        for gpu in here:
            passed = max(now - self._last.get(gpu.uuid, now), 0.0)
            self._seconds[gpu.uuid] = self._seconds.get(gpu.uuid, 0.0) + passed
            self._index[gpu.uuid] = gpu.index
        self._last = {gpu.uuid: now for gpu in here}

    def usage(self) -> tuple[Usage, ...]:
        """Of every GPU ever seen."""
        return tuple(self._usage(uuid, seconds) for uuid, seconds in self._seconds.items())

    def _usage(self, uuid: str, seconds: float) -> Usage:
        price, index = self._price, self._index[uuid]
        if price is None:
            return Usage(uuid, index, seconds)
        return Usage(uuid, index, seconds, seconds * price.per_hour / 3600, price.currency)
