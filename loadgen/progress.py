"""The line on stderr that tells how a run is going."""

import asyncio
import time
from collections import deque
from typing import TextIO

from loadgen.arrivals import NS, Load
from loadgen.record import RequestRecord
from loadgen.summary import quantile

# Figures shown are over this many requests, the latest ones.
_RECENT = 200
_IN_PLACE_SECONDS, _LINE_SECONDS = 0.25, 5.0


class Progress:
    """Counts finished requests and draws: in place four times a second on a terminal, else a line every 5 s."""

    def __init__(self, load: Load, stream: TextIO) -> None:
        self._load, self._stream = load, stream
        self._in_place = stream.isatty()
        self._began = self._drawn = time.monotonic()
        self._recent: deque[RequestRecord] = deque(maxlen=_RECENT)
        self._done = self._failed = 0

    def add(self, record: RequestRecord) -> None:
        """Count one more finished request."""
        self._done += 1
        self._failed += record.error is not None
        self._recent.append(record)

    async def draw_forever(self) -> None:
        """Draw until cancelled."""
        while True:
            await asyncio.sleep(_IN_PLACE_SECONDS)
            self.tick()

    def tick(self) -> None:
        """Draw when it is time to."""
        if time.monotonic() - self._drawn >= (_IN_PLACE_SECONDS if self._in_place else _LINE_SECONDS):
            self._draw()

    def end(self) -> None:
        """Draw the last state and leave the line."""
        self._draw()
        if self._in_place:
            self._stream.write("\n")

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        line = self.line(time.monotonic() - self._began)
        self._stream.write(f"\r\x1b[K{line}" if self._in_place else f"{line}\n")
        self._stream.flush()

    def line(self, elapsed: float) -> str:
        """The text of the line, `elapsed` seconds into the run."""
        requests, duration = self._load.requests, self._load.duration
        parts = [f"{self._done}/{requests} requests" if requests else f"{self._done} requests"]
        parts.append(f"{elapsed:.0f}/{duration:g} s" if duration else f"{elapsed:.0f} s")
        if self._failed:
            parts.append(f"{self._failed} failed")
        if ttfts := sorted(record.ttft for record in self._recent if record.ttft is not None):
            parts.append(f"TTFT p50 {quantile(ttfts, 0.5) * 1000:.0f} ms")
        if rate := self._token_rate():
            parts.append(f"{rate:.0f} tokens/s")
        return "  ".join(parts)

    def _token_rate(self) -> float | None:
        """Output tokens per second, from the first end among the recent requests to the last."""
        if len(self._recent) < 2:
            return None
        seconds = (self._recent[-1].done_ns - self._recent[0].done_ns) / NS
        tokens = sum(record.output_tokens or 0 for record in list(self._recent)[1:])
        return tokens / seconds if seconds > 0 else None
