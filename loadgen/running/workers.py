"""A run by several processes of this machine: each has every n-th arrival, all begin at one reading of one clock.

Each worker appends to a part file of its own. The parent carries whole lines from the parts into the records file
while the run goes on, and removes the parts when it has ended: nothing is lost with a worker that is killed.
"""

import asyncio
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from io import BufferedReader, FileIO
from multiprocessing.connection import Connection, wait
from pathlib import Path
from time import perf_counter_ns
from typing import cast

from loadgen.results.record import Footer, Lag, Line, RequestRecord, append, decode
from loadgen.running.job import Job
from loadgen.running.progress import Progress
from loadgen.running.runner import Driver, Write, run
from loadgen.traffic.arrivals import NS

# From the moment at which all workers are ready until they begin: enough for each to hear of it.
_START_AFTER = 0.05
_CARRY_SECONDS = 0.25
# How often a worker says how many requests it has in flight.
_TELL_SECONDS = 0.5


class WorkerError(Exception):
    """A worker that could not do its job; the text says why."""


LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def run_workers(job: Job, part: Path, write: Write, new_loop: LoopFactory, progress: Progress | None = None) -> Footer:
    """Do the jobs of all workers and write their lines through `write`; parts are `part` with a number.

    SIGINT and SIGTERM are passed on as in a run by one process, from the start on: before it they do what they usually
    do, and nothing is sent. A worker that dies is counted in the footer. Raises WorkerError when one cannot start or
    cannot write; the parts then stay.
    """
    paths = [part.with_name(f"{part.name}.part{number}") for number in range(job.workers)]
    with ExitStack() as stack:
        stack.callback(_remove_empty, paths)
        workers = [_Worker(replace(job, worker=i), path, new_loop) for i, path in enumerate(paths)]
        for worker in workers:
            stack.callback(worker.end)
        parts = [_Part(stack.enter_context(path.open("rb"))) for path in paths]
        origin = _start(workers)
        with forwarded_signals(lambda: _interrupt(workers)):
            if progress:
                progress.begin(origin)
            write(replace(job.header, started_unix_ns=time.time_ns() + origin - perf_counter_ns()))
            while any(worker.busy for worker in workers):
                wait([worker.pipe for worker in workers if worker.busy], _CARRY_SECONDS)
                for worker in workers:
                    worker.listen()
                _carry(parts, write, progress)
                if progress:
                    progress.tick(sum(worker.in_flight for worker in workers if worker.busy))
            _carry(parts, write, progress)
            if progress:
                progress.end()
            footer = merge([worker.footer for worker in workers], (perf_counter_ns() - origin) / NS)
            write(footer)
            for path in paths:
                path.unlink()
    return footer


def _remove_empty(paths: Sequence[Path]) -> None:
    for path in paths:
        if path.exists() and not path.stat().st_size:
            path.unlink()


def merge(footers: Sequence[Footer | None], seconds: float) -> Footer:
    """One footer of all: sums of what was sent, the worst of what hindered; None stands for a worker that died."""
    known = [footer for footer in footers if footer]
    lost = tuple(number for number, footer in enumerate(footers) if footer is None)
    return Footer(
        interrupted=bool(lost) or any(footer.interrupted for footer in known),
        seconds=max((footer.seconds for footer in known), default=seconds),
        sent=sum(footer.sent for footer in known),
        cpu_share=max((footer.cpu_share for footer in known), default=0.0),
        achieved_rate=sum(footer.achieved_rate or 0.0 for footer in known) or None,
        send_lag=_worst([footer.send_lag for footer in known]),
        loop_lag=_worst([footer.loop_lag for footer in known]),
        coalesced=max((footer.coalesced for footer in known if footer.coalesced is not None), default=None),
        workers=len(footers),
        lost_workers=lost,
    )


def _worst(lags: Sequence[Lag | None]) -> Lag | None:
    known = [lag for lag in lags if lag]
    if not known:
        return None
    return Lag(p50=max(lag.p50 for lag in known), p99=max(lag.p99 for lag in known), max=max(lag.max for lag in known))


# --- the parent's side ------------------------------------------------------------------------------------------------


class _Worker:
    """A process and what it has told so far."""

    def __init__(self, job: Job, path: Path, new_loop: LoopFactory) -> None:
        can_fork = "fork" in multiprocessing.get_all_start_methods() and threading.active_count() == 1
        context = multiprocessing.get_context("fork") if can_fork else multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        path.touch()
        self.process = context.Process(target=_work, args=(job, path, self.pipe, other, new_loop))
        self.process.start()
        other.close()
        self.busy, self.ready, self.in_flight = True, False, 0
        self.footer: Footer | None = None

    def listen(self) -> None:
        """Take what it has to say. Raises WorkerError when that is why it failed."""
        try:
            while self.busy and self.pipe.poll():
                said = self.pipe.recv()
                if isinstance(said, Footer):
                    self.footer, self.busy = said, False
                elif isinstance(said, str):
                    self.busy = False
                    raise WorkerError(said)
                elif isinstance(said, int):
                    self.in_flight = said
                else:
                    self.ready = True
        except (EOFError, ConnectionError):  # killed
            self.busy = False

    def tell(self, what: int) -> None:
        """Send the origin, or later an interruption; one that has gone may still have told what is not read yet."""
        with suppress(OSError):
            self.pipe.send(what)

    def end(self) -> None:
        """Have it gone: closing the pipe breaks off whatever it still does."""
        self.pipe.close()
        self.process.join(10)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class _Part:
    """A part file that still grows."""

    def __init__(self, file: BufferedReader) -> None:
        self._file, self._rest = file, b""

    def records(self) -> Iterator[RequestRecord]:
        """The lines that were completed since the last call."""
        *whole, self._rest = (self._rest + self._file.read()).split(b"\n")
        return (cast(RequestRecord, decode(line.decode())) for line in whole)


def _carry(parts: Sequence[_Part], write: Write, progress: Progress | None) -> None:
    """Write what the workers wrote since the last time."""
    for part in parts:
        for record in part.records():
            write(record)
            if progress:
                progress.add(record)


def _start(workers: Sequence[_Worker]) -> int:
    """Wait until all are ready and tell them when to begin, as a reading of `perf_counter_ns`."""
    while not all(worker.ready for worker in workers):
        wait([worker.pipe for worker in workers])
        for worker in workers:
            worker.listen()
            if not worker.busy:
                raise WorkerError(f"a worker died before the start (exit code {worker.process.exitcode})")
    origin = perf_counter_ns() + int(_START_AFTER * NS)
    for worker in workers:
        worker.tell(origin)
    return origin


def _interrupt(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.tell(0)


@contextmanager
def forwarded_signals(forward: Callable[[], object]) -> Iterator[None]:
    """Call it for every SIGINT and SIGTERM while the block runs, instead of what these usually do."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: forward()) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


# --- the worker's side ------------------------------------------------------------------------------------------------


def _work(job: Job, path: Path, parent: Connection, pipe: Connection, new_loop: LoopFactory) -> None:
    """A worker's whole life. The parent's end of the pipe is closed here, or the parent's death would go unseen."""
    parent.close()
    for number in (signal.SIGINT, signal.SIGTERM):  # a terminal sends them to all; the parent passes them on
        signal.signal(number, signal.SIG_IGN)
    try:
        with FileIO(path, "a") as file, asyncio.Runner(loop_factory=new_loop) as runner:

            def write(line: Line) -> None:
                try:
                    if isinstance(line, RequestRecord):
                        append(file, line)
                except OSError as error:
                    raise WorkerError(f"{path}: cannot be written: {error.strerror}") from None

            footer: Footer | str = runner.run(run(job, write, start=lambda driver: _begin(driver, pipe)))
    except (OSError, WorkerError) as error:
        footer = str(error)
    try:
        pipe.send(footer)
    except OSError:
        os._exit(1)


async def _begin(driver: Driver, pipe: Connection) -> int:
    """Say that all is ready and wait for the origin; from then on, every word and the pipe's end is an interruption."""
    loop = asyncio.get_running_loop()
    origin: asyncio.Future[int] = loop.create_future()

    def hear() -> None:
        try:
            said = pipe.recv()
        except (EOFError, OSError):
            loop.remove_reader(pipe.fileno())
            said = 0
            driver.interrupt()  # nobody waits for what is in flight
        if origin.done():
            driver.interrupt()
        else:
            origin.set_result(said)

    def tell() -> None:
        with suppress(OSError):
            pipe.send(len(driver.client.in_flight))
            loop.call_later(_TELL_SECONDS, tell)

    loop.add_reader(pipe.fileno(), hear)
    pipe.send(None)
    loop.call_later(_TELL_SECONDS, tell)
    return await origin
