"""One scrape: all sources at once, under one deadline."""

import asyncio
import concurrent.futures
import contextlib
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from exporters.ending import Limits
from exporters.gpus.economics import Ledger, Usage
from exporters.model import EngineScrape, GpuReading, GpuScrape, RawFamilies, SourceError, SourceStatus

T = TypeVar("T")
log = logging.getLogger(__name__)

# Seconds that a scrape may take: less than Prometheus' default timeout of 10 s.
DEADLINE = 4.0
# A source that keeps failing is logged again after so many seconds, or at once when the reason changes.
LOG_AGAIN = 300.0


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What one reading of a source came to; `value` is None when it failed."""

    value: T | None
    status: SourceStatus


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one scrape found. `models` are those of the engines, also of one that does not answer just now."""

    engines: tuple[EngineScrape, ...] = ()
    gpus: tuple[GpuReading, ...] = ()
    statuses: tuple[SourceStatus, ...] = ()
    usage: tuple[Usage, ...] = ()
    extras: tuple[RawFamilies, ...] = ()
    models: tuple[str, ...] = ()


class Source(Generic[T]):
    """Something to read. While a reading is under way, whoever asks shares it.

    `read` raises SourceError when it fails. It must end by itself: nothing here cancels it.
    """

    def __init__(self, name: str, endpoint: str, read: Callable[[], Awaitable[T]]) -> None:
        self.name = name
        self.endpoint = endpoint
        self._read = read
        self._started = 0.0
        self._task: asyncio.Task[Outcome[T]] | None = None

    def begin(self) -> asyncio.Task[Outcome[T]]:
        """The reading under way, or a new one."""
        if self._task is None or self._task.done():
            self._started = time.monotonic()
            self._task = asyncio.create_task(self._outcome())
        return self._task

    @property
    def age(self) -> float:
        """Seconds since the last reading began."""
        return time.monotonic() - self._started

    def failed(self, error: str) -> Outcome[T]:
        """A reading without a value."""
        return Outcome(None, self._status(error))

    async def _outcome(self) -> Outcome[T]:
        try:
            return Outcome(await self._read(), self._status())
        except SourceError as error:
            return self.failed(str(error))
        except Exception as error:  # a fault in one reader must not take the other sources down
            log.exception("%s %s: fault while reading", self.name, self.endpoint)
            return self.failed(f"{type(error).__name__}: {error}")

    def _status(self, error: str = "") -> SourceStatus:
        return SourceStatus(source=self.name, endpoint=self.endpoint, up=not error, seconds=self.age, error=error)


class Collector:
    """Reads engines and GPUs for every scrape, and remembers what each engine served when it was last read.

    `extras` are pages that pass through; `limits` cuts the waiting short when the process ends.
    """

    def __init__(
        self,
        engines: Sequence[Source[EngineScrape]],
        gpus: Sequence[Source[GpuScrape]] = (),
        limits: Limits | None = None,
        ledger: Ledger | None = None,
        extras: Sequence[Source[RawFamilies]] = (),
    ) -> None:
        self._engines = engines
        self._gpus = gpus
        self._extras = extras
        self._limits = limits or Limits()
        self._ledger = ledger or Ledger()
        self._logged: dict[tuple[str, str], tuple[str | None, float]] = {}
        self._models: dict[str, tuple[str, ...]] = {}

    @property
    def models(self) -> tuple[str, ...]:
        """The models that the engines serve."""
        return tuple(sorted({model for models in self._models.values() for model in models}))

    @property
    def only_model(self) -> str | None:
        """The model, when there is just one; None while an engine has not been read yet."""
        complete = len(self._models) == len(self._engines)
        return self.models[0] if complete and len(self.models) == 1 else None

    @property
    def ready(self) -> bool:
        """Whether any engine has been read."""
        return bool(self._models)

    async def collect(self, deadline: float = DEADLINE) -> Snapshot:
        """Read everything; what has not answered within `deadline` seconds counts as down."""
        engines, gpus, extras = await asyncio.gather(
            read(self._engines, deadline, self._limits),
            read(self._gpus, deadline, self._limits),
            read(self._extras, deadline, self._limits),
        )
        scrapes = tuple(outcome.value for outcome in engines if outcome.value is not None)
        self._models |= {outcome.status.endpoint: outcome.value.models for outcome in engines if outcome.value}
        passed = tuple(outcome.value for outcome in extras if outcome.value is not None)
        statuses = tuple(outcome.status for outcome in engines + extras) + tuple(_gpu_statuses(gpus))
        for status in statuses:
            self._log(status)
        readings = tuple(gpu for outcome in gpus if outcome.value for gpu in outcome.value.gpus)
        if readings:
            self._ledger.see(readings, time.monotonic())
        return Snapshot(scrapes, readings, statuses, self._ledger.usage(), passed, self.models)

    def _log(self, status: SourceStatus) -> None:
        key, now = (status.source, status.endpoint), time.monotonic()
        error, since = self._logged.get(key, (None, now))
        if status.error == error and (status.up or now - since < LOG_AGAIN):
            return
        self._logged[key] = (status.error, now)
        if status.up:
            log.info("%s %s: answers", *key)
        else:
            log.warning("%s %s: %s", *key, status.error)


async def read(sources: Sequence[Source[T]], deadline: float, limits: Limits | None = None) -> list[Outcome[T]]:
    """Read sources at once; one that has not answered within `deadline` seconds, or when `limits` are cut, failed."""
    tasks = [source.begin() for source in sources]
    # What has been hanging for longer than that already (a wedged driver) is not waited for again.
    fresh = [task for source, task in zip(sources, tasks, strict=True) if source.age < deadline]
    if fresh:
        with contextlib.suppress(TimeoutError):
            async with (limits or Limits()).within(deadline):
                await asyncio.wait(fresh)
    return [
        task.result() if task.done() else source.failed(f"no answer within {deadline:g} s")
        for source, task in zip(sources, tasks, strict=True)
    ]


def _gpu_statuses(outcomes: Sequence[Outcome[GpuScrape]]) -> Iterator[SourceStatus]:
    for outcome in outcomes:
        yield outcome.status
        for uuid, reason in outcome.value.lost.items() if outcome.value else ():
            yield replace(outcome.status, endpoint=uuid, up=False, error=reason)


async def in_thread(call: Callable[[], T]) -> T:
    """Run a call that blocks, perhaps for ever, in a thread of its own that does not keep the process alive."""
    future: concurrent.futures.Future[T] = concurrent.futures.Future()

    def run() -> None:
        future.set_running_or_notify_cancel()
        try:
            future.set_result(call())
        except BaseException as error:  # handed to whoever waits
            future.set_exception(error)

    threading.Thread(target=run, name="reader", daemon=True).start()
    return await asyncio.wrap_future(future)
