"""One run from start to end: find the target, open the records file, drive the event loop."""

import asyncio
import contextlib
import os
import platform
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from loadgen.arrivals import Load
from loadgen.progress import Progress
from loadgen.record import Client, Footer, Header, Line, encode
from loadgen.runner import Wire, run
from loadgen.target import Target, TargetError, inspect, resolve
from loadgen.workload import Workload

try:
    import uvloop

    _new_event_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
except ImportError:
    _new_event_loop = asyncio.new_event_loop

# One descriptor per connection; the usual soft limit of 1024 would cap an open loop.
_DESCRIPTORS = 65_536


class RunError(Exception):
    """A run that cannot be done or recorded; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure. `timeout` is in seconds, per request; `metrics` are expositions that tell of engine and GPUs."""

    target: Target
    workload: Workload
    load: Load
    model: str | None = None
    timeout: float = 120.0
    api_key: str | None = None
    metrics: Sequence[str] = ()


def measure(
    plan: Plan,
    records: Path,
    *,
    force: bool = False,
    quiet: bool = False,
    listen_metrics: tuple[str, int] | None = None,
) -> Footer:
    """Do the run and write its records. Raises TargetError or RunError; KeyboardInterrupt only before the first send.

    `force` overwrites an existing file, `quiet` draws no progress; `listen_metrics` is where to serve the live figures.
    """
    auth = {"Authorization": f"Bearer {plan.api_key}"} if plan.api_key else {}
    address = resolve(plan.target)
    fingerprint = inspect(plan.target, auth, plan.model, plan.metrics)
    header = Header(
        started_unix_ns=0,  # the runner knows
        target=plan.target.url,
        timeout=plan.timeout,
        workload=plan.workload,
        load=plan.load,
        fingerprint=fingerprint,
        client=_client(),
    )
    headers = {
        "Host": plan.target.netloc,
        "User-Agent": f"slo-load/{header.client.version}",
        "Accept": "text/event-stream",
        "Content-Type": "application/json",
        **auth,
    }
    _raise_descriptor_limit()
    wire = Wire(address, plan.target.base_path, headers)
    progress = None if quiet else Progress(plan.load, sys.stderr)
    with (
        _line_writer(records, force) as write,
        _counted(write, listen_metrics) as write_and_count,
        asyncio.Runner(loop_factory=_new_event_loop) as runner,
    ):
        try:
            return runner.run(run(header, wire, write_and_count, progress))
        except OSError as error:
            raise TargetError(f"{plan.target.url}: refuses connections at the start: {error}") from None


@contextlib.contextmanager
def _line_writer(path: Path, force: bool) -> Iterator[Callable[[Line], None]]:
    """A function that appends a line and hands it to the system at once, so that a killed run keeps its records."""
    try:
        file = path.open("w" if force else "x", encoding="ascii")
    except FileExistsError:
        raise RunError(f"{path}: exists already; give another --records or overwrite it with --force") from None
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}") from None

    def write(line: Line) -> None:
        try:
            file.write(encode(line) + "\n")
            file.flush()
        except OSError as error:
            raise RunError(f"{path}: cannot be written: {error.strerror}") from None

    try:
        with file:
            yield write
    finally:
        if path.is_file() and path.stat().st_size == 0:
            path.unlink()


@contextlib.contextmanager
def _counted(write: Callable[[Line], None], listen_metrics: tuple[str, int] | None) -> Iterator[Callable[[Line], None]]:
    """`write`, and the live figures count each line where they are served. They cost the reading of streams nothing."""
    if listen_metrics is None:
        yield write
        return
    from loadgen.live import Live, serving  # the runs without it start sooner

    live = Live()

    def write_and_count(line: Line) -> None:
        write(line)
        live.add(line)

    with contextlib.ExitStack() as served:
        try:
            served.enter_context(serving(live, *listen_metrics))
        except OSError as error:
            host, port = listen_metrics
            raise RunError(f"--listen-metrics {host}:{port}: cannot listen there: {error.strerror}") from None
        yield write_and_count


def _client() -> Client:
    try:
        version = metadata.version("llm-slo")
    except metadata.PackageNotFoundError:  # a checkout that is not installed
        version = "unknown"
    return Client(
        version=version,
        python=platform.python_version(),
        event_loop=_new_event_loop.__module__.partition(".")[0],
        cores=os.cpu_count() or 1,
    )


def _raise_descriptor_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # macOS has a lower limit of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
