"""A run by tasks on a Ray cluster: the same job per worker, whose records come back while it runs.

Each machine has a monotonic clock of its own, so the common start is an instant of wall time: the machines' clocks must
be kept together by NTP, and by so much as they differ the workers start apart. Latencies never cross machines.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, replace
from time import perf_counter_ns
from typing import Any, Protocol

from loadgen.results.record import Footer, Line, RequestRecord, decode, encode
from loadgen.running.job import Job
from loadgen.running.runner import Driver, Write, run
from loadgen.running.workers import LoopFactory, WorkerError, forwarded_signals, merge
from loadgen.traffic.arrivals import NS

# From the moment at which all tasks are ready until they begin: enough for each to hear of it.
_START_AFTER = 1.0
_POLL_SECONDS = 0.05
# Scheduling, imports and connections on every node.
_READY_SECONDS = 120.0
# How often a task hands over what it has recorded, and hears of signals: at most so much is lost with it.
_BATCH_SECONDS = 0.5

# What a task yields: lines of records as they come, its footer at the end.
Batch = list[str] | Footer


class Desk(Protocol):
    """Where a task learns what all of them must know."""

    def meet(self) -> int:
        """Say that all is ready and wait until it is so everywhere; the Unix time in ns at which to begin."""
        ...

    def signals(self) -> int:
        """How many signals there were so far."""
        ...


def run_on_ray(address: str, job: Job, write: Write, new_loop: LoopFactory) -> Footer:
    """Do the jobs of all workers as Ray tasks of one CPU each. Raises WorkerError.

    Every node needs this package. SIGINT and SIGTERM are passed on as in a run by one process. A task that dies is
    named in the footer, and what it had handed over is kept.
    """
    try:
        import ray
    except ImportError:
        raise WorkerError("--ray needs the ray package: pip install 'llm-slo[ray]'") from None
    try:
        ray.init(address=address, logging_level="warning", log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise WorkerError(f"--ray {address}: {error}") from None
    try:
        desk = ray.remote(num_cpus=0)(_Desk).remote()
        task = ray.remote(num_cpus=1, max_retries=0, num_returns="streaming")(work)
        tasks = [task.remote(replace(job, worker=number), _AtDesk(desk), new_loop) for number in range(job.workers)]
        start = _start(ray, desk, tasks)
        with forwarded_signals(desk.hear.remote):
            write(replace(job.header, started_unix_ns=start))
            footer = _gather(ray, tasks, write)
            write(footer)
    finally:
        ray.shutdown()
    return footer


class _Desk:
    """The actor that all tasks ask."""

    def __init__(self) -> None:
        self._ready = self._start = self._signals = 0

    def come(self) -> None:
        """One more task is ready."""
        self._ready += 1

    def begin(self, start_unix_ns: int) -> None:
        """All may begin then."""
        self._start = start_unix_ns

    def hear(self) -> None:
        """One more signal."""
        self._signals += 1

    def tell(self) -> tuple[int, int, int]:
        """Tasks that are ready, when to begin (0: not known yet), and signals."""
        return self._ready, self._start, self._signals


@dataclass(frozen=True, slots=True)
class _AtDesk:
    """A task's way to the actor."""

    desk: Any

    def meet(self) -> int:
        self.desk.come.remote()
        while not (start := self._told()[1]):
            time.sleep(_POLL_SECONDS)
        return start

    def signals(self) -> int:
        return self._told()[2]

    def _told(self) -> tuple[int, int, int]:
        import ray

        ready, start, signals = ray.get(self.desk.tell.remote())
        return ready, start, signals


def _start(ray: Any, desk: Any, tasks: list[Any]) -> int:
    """Wait until all tasks are ready and tell them when to begin, in Unix ns. Raises WorkerError."""
    deadline = time.monotonic() + _READY_SECONDS
    while (ready := ray.get(desk.tell.remote())[0]) < len(tasks):
        for task in ray.wait(tasks, timeout=_POLL_SECONDS)[0]:
            _next(ray, task)
            raise WorkerError("a task died before the start")
        if time.monotonic() > deadline:
            raise WorkerError(f"{ready} of {len(tasks)} tasks were ready in time; has the cluster so many free CPUs?")
    start = time.time_ns() + int(_START_AFTER * NS)
    ray.get(desk.begin.remote(start))
    return start


def work(job: Job, desk: Desk, new_loop: LoopFactory) -> Iterator[Batch]:
    """One worker's whole job on some machine: batches of its record lines as they come, then its footer."""
    lines: deque[str] = deque()
    interrupts: list[Callable[[], object]] = []

    def write(line: Line) -> None:
        if isinstance(line, RequestRecord):
            lines.append(encode(line))

    async def begin(driver: Driver) -> int:
        start = await asyncio.to_thread(desk.meet)
        late = time.time_ns() - start
        if late > 0:
            raise WorkerError(f"worker {job.worker} got ready {late / NS:.1f} s after the start")
        loop = asyncio.get_running_loop()
        interrupts.append(lambda: loop.call_soon_threadsafe(driver.interrupt))
        return perf_counter_ns() - late

    def drive() -> Footer:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(run(job, write, start=begin))

    with ThreadPoolExecutor(1) as thread:
        driven, heard = thread.submit(drive), 0
        while not driven.done() or lines:
            wait_for([driven], _BATCH_SECONDS)
            if batch := [lines.popleft() for _ in range(len(lines))]:
                yield batch
            if interrupts and not driven.done():
                new = desk.signals() - heard
                heard += new
                for _ in range(new):
                    interrupts[0]()
        yield driven.result()


def _gather(ray: Any, tasks: list[Any], write: Write) -> Footer:
    """Write what the tasks yield until all have ended."""
    footers: list[Footer | None] = [None] * len(tasks)
    began, running = perf_counter_ns(), {task: number for number, task in enumerate(tasks)}
    while running:
        for task in ray.wait(list(running), timeout=_BATCH_SECONDS)[0]:
            batch = _next(ray, task)
            if isinstance(batch, list):
                for line in batch:
                    write(decode(line))
            else:
                footers[running.pop(task)] = batch
    return merge(footers, (perf_counter_ns() - began) / NS)


def _next(ray: Any, task: Any) -> Batch | None:
    """What the task yielded next; None when it is dead. Raises WorkerError when that is why it failed."""
    try:
        found: Batch = ray.get(next(task))
    except ray.exceptions.RayTaskError as error:
        raise WorkerError(str(error.cause)) from None
    except (ray.exceptions.RayError, StopIteration):
        return None
    return found
