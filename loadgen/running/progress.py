"""The line on stderr that tells how a run is going."""

import os
import time
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import TextIO

from loadgen.results.record import RequestRecord
from loadgen.results.summary import quantile
from loadgen.traffic.arrivals import NS, Load

# Rates and medians shown are of the requests that ended in the last seconds; medians of some hundred of them at most,
# which takes a tenth of a millisecond.
_RECENT_SECONDS, _SAMPLE = 10.0, 400
IN_PLACE_SECONDS = 0.25
_LINE_SECONDS = 5.0

# A request that ended: when, its TTFT, its TPOT and its output tokens.
_Ended = tuple[int, float | None, float | None, int]


class Progress:
    """Counts finished requests and draws: in place four times a second on a terminal, else a line every 5 s."""

    def __init__(self, load: Load, stream: TextIO) -> None:
        self._load, self._stream = load, stream
        self._in_place = stream.isatty()
        self._origin_ns, self._drawn = time.perf_counter_ns(), time.monotonic()
        self._recent: deque[_Ended] = deque()
        self._done = self._failed = self._recent_tokens = 0

    def begin(self, origin_ns: int) -> None:
        """The run begins at this reading of `perf_counter_ns`, from which its stamps count."""
        self._origin_ns = origin_ns

    def add(self, record: RequestRecord) -> None:
        """Count one more finished request."""
        self._done += 1
        self._failed += record.error is not None
        tokens = record.output_tokens or 0
        self._recent_tokens += tokens
        self._recent.append((record.done_ns, record.ttft, record.tpot, tokens))

    def tick(self, in_flight: int) -> None:
        """Draw when it is time to."""
        if time.monotonic() - self._drawn >= (IN_PLACE_SECONDS if self._in_place else _LINE_SECONDS):
            self._draw(in_flight)

    def end(self) -> None:
        """Draw the last state and leave the line."""
        self._draw(0)
        if self._in_place:
            self._stream.write("\n")

    def _draw(self, in_flight: int) -> None:
        self._drawn = time.monotonic()
        parts = list(self.parts((time.perf_counter_ns() - self._origin_ns) / NS, in_flight))
        if self._in_place:
            line = "\r\x1b[K" + _fitting(parts, os.get_terminal_size(self._stream.fileno()).columns or 80)
        else:
            line = "  ".join(parts) + "\n"
        self._stream.write(line)
        self._stream.flush()

    def parts(self, elapsed: float, in_flight: int) -> Iterator[str]:
        """What the line says, `elapsed` seconds into the run: the parts that may be left out come last."""
        requests, duration = self._load.requests, self._load.duration
        seconds = min(_RECENT_SECONDS, elapsed)
        self._forget(int((elapsed - seconds) * NS))
        yield f"{elapsed:.0f}/{duration:g} s" if duration else f"{elapsed:.0f} s"
        yield f"{self._done}/{requests} done" if requests else f"{self._done} done"
        if in_flight:
            yield f"{in_flight} in flight"
        if self._failed:
            yield f"{self._failed} failed"
        yield from self._latencies()
        if seconds > 0:
            yield f"{len(self._recent) / seconds:.1f}/s"
            yield f"{self._recent_tokens / seconds:.0f} tokens/s"

    def _latencies(self) -> Iterator[str]:
        sample = list(islice(self._recent, None, None, len(self._recent) // _SAMPLE + 1))
        if ttfts := sorted(ttft for _, ttft, _, _ in sample if ttft is not None):
            tpots = sorted(tpot for _, _, tpot, _ in sample if tpot is not None)
            tpot = f" TPOT {quantile(tpots, 0.5) * 1000:.1f} ms" if tpots else ""
            yield f"p50: TTFT {quantile(ttfts, 0.5) * 1000:.0f} ms{tpot}"

    def _forget(self, before_ns: int) -> None:
        while self._recent and self._recent[0][0] < before_ns:
            self._recent_tokens -= self._recent.popleft()[3]


def _fitting(parts: list[str], columns: int) -> str:
    """As many parts as the terminal's line has room for: what wraps cannot be drawn over."""
    while len(parts) > 1 and len("  ".join(parts)) >= columns:
        parts.pop()
    return "  ".join(parts)[: max(0, columns - 1)]
