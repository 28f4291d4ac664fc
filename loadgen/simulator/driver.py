"""Runs the model in real time: computes a step, waits until it ends, hands its tokens to the streams.

Model time is seconds of the monotonic clock since the driver was made. A step starts where the one before ended, not
when the event loop got round to it, so late timers delay a delivery and never the model.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from loadgen.simulator.faults import Faults, Kind
from loadgen.simulator.model import Engine, Request

HANG_POLL_SECONDS = 0.05
LATE_SECONDS = 0.1
LATE_WARNING_SECONDS = 10.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What the API knows of a request and the model does not need. `trace` holds its W3C trace headers."""

    id: str
    temperature: float
    top_p: float
    trace: Mapping[str, str] = field(default_factory=dict)


class Stream:
    """One request on its way to a client."""

    def __init__(self, request: Request, call: Call) -> None:
        self.request = request
        self.call = call
        self.broken = False
        self._changed = asyncio.Event()

    async def progress(self, seen: int) -> int:
        """Wait for more than `seen` tokens and return how many there are; `seen` when the server stops before that."""
        while self.request.generated <= seen and not self.broken:
            self._changed.clear()
            await self._changed.wait()
        return self.request.generated

    def wake(self) -> None:
        """Say that there are new tokens, or none any more."""
        self._changed.set()


class Driver:
    """The engine, its clock, its faults and its streams. `on_finish` is called for every stream that has finished."""

    def __init__(self, engine: Engine, on_finish: Callable[[Stream], None], faults: Faults | None = None) -> None:
        self.engine = engine
        self.faults = faults or Faults()
        self._healthy = engine.config
        self.epoch = time.time()
        self._origin = time.monotonic()
        self._on_finish = on_finish
        self._streams: dict[Request, Stream] = {}
        self._submitted = asyncio.Event()
        self._warned = -LATE_WARNING_SECONDS
        self._resume = 0.0  # no step starts before: the end of a hang
        self.stopped = False

    def now(self) -> float:
        """Model time: seconds since the driver was made."""
        return time.monotonic() - self._origin

    def submit(self, request: Request, call: Call) -> Stream:
        """Serve a request that the engine has queued."""
        stream = self._streams[request] = Stream(request, call)
        stream.broken = self.stopped
        self._submitted.set()
        return stream

    def close(self, stream: Stream) -> None:
        """Forget a stream; one that has not finished is aborted in the engine. Every stream must be closed."""
        self.engine.abort(stream.request)
        del self._streams[stream.request]

    def stop(self) -> None:
        """End every stream where it is; later ones end at once."""
        self.stopped = True
        for stream in self._streams.values():
            stream.broken = True
            stream.wake()

    async def run(self) -> None:
        """Serve until cancelled. Costs nothing while the engine has nothing to do."""
        try:
            while True:
                await self._next()
        except Exception:
            logger.exception("the simulated engine has died")
        finally:
            self.stop()

    async def _next(self) -> None:
        start = self.engine.next_start()
        if start is None:
            self._submitted.clear()
            await self._submitted.wait()
        elif self.faults.size(Kind.HANG, self.now()):
            await asyncio.sleep(HANG_POLL_SECONDS)
            self._resume = self.now()
        else:
            await self._step(max(start, self._resume))

    async def _step(self, start: float) -> None:
        self.engine.config = self.faults.config(self._healthy, start)
        step = self.engine.schedule(start)
        await asyncio.sleep(max(0.0, step.end - self.now()))
        while self.now() < step.end:  # timers may fire up to a millisecond early
            await asyncio.sleep(step.end - self.now())
        self._warn_when_late(step.end)
        for request in self.engine.complete(step):
            stream = self._streams[request]
            stream.wake()
            if request.finished:
                self._on_finish(stream)

    def _warn_when_late(self, due: float) -> None:
        now = self.now()
        if now - due > LATE_SECONDS and now - self._warned > LATE_WARNING_SECONDS:
            self._warned = now
            logger.warning("%.1f s behind the model: clients see later tokens than /metrics and spans say", now - due)
