"""A run by tasks on a Ray cluster: the same job per worker, records brought back whole.

Each machine has a monotonic clock of its own, so the common start is an instant of wall time: the machines' clocks must
be kept together by NTP, and by so much as they differ the workers start apart. Latencies never cross machines.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter_ns
from typing import Any

from loadgen.arrivals import NS
from loadgen.job import Job
from loadgen.record import Footer, RequestRecord, decode, encode
from loadgen.runner import Driver, Write, run
from loadgen.workers import WorkerError, merge

# From the moment at which the tasks are submitted until they begin: scheduling and imports on every node.
_START_AFTER = 5.0

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def run_on_ray(address: str, job: Job, write: Write, new_loop: LoopFactory) -> Footer:
    """Do the jobs of all workers as Ray tasks of one CPU each. Raises WorkerError.

    Every node needs this package. Records come when a task ends: a task that dies is counted in the footer and its
    records are lost, as are all when Ctrl-C cancels the tasks.
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
        start = time.time_ns() + int(_START_AFTER * NS)
        task = ray.remote(num_cpus=1, max_retries=0)(work)
        tasks = [task.remote(replace(job, worker=number), start, new_loop) for number in range(job.workers)]
        write(replace(job.header, started_unix_ns=start))
        footer = _gather(ray, tasks, write)
    finally:
        ray.shutdown()
    write(footer)
    return footer


def work(job: Job, start_unix_ns: int, new_loop: LoopFactory) -> tuple[list[str], Footer]:
    """One worker's whole job on some machine: its record lines and its footer."""
    lines: list[str] = []

    def write(line: object) -> None:
        if isinstance(line, RequestRecord):
            lines.append(encode(line))

    async def begin(_: Driver) -> int:
        late = time.time_ns() - start_unix_ns
        if late > 0:
            raise WorkerError(f"worker {job.worker} got ready {late / NS:.1f} s after the start")
        return perf_counter_ns() - late

    with asyncio.Runner(loop_factory=new_loop) as runner:
        return lines, runner.run(run(job, write, start=begin))


def _gather(ray: Any, tasks: list[Any], write: Write) -> Footer:
    footers: list[Footer | None] = []
    began = perf_counter_ns()
    while tasks:
        (done,), tasks = ray.wait(tasks, num_returns=1)
        try:
            lines, footer = ray.get(done)
        except ray.exceptions.RayTaskError as error:
            raise WorkerError(str(error.cause)) from None
        except ray.exceptions.RayError:
            footers.append(None)
            continue
        footers.append(footer)
        for line in lines:
            write(decode(line))
    return merge(footers, (perf_counter_ns() - began) / NS)
