"""One run from start to end: find the target, open the records file, drive the event loop."""

import asyncio
import contextlib
import os
import platform
import resource
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from importlib import metadata
from io import FileIO
from math import ceil
from pathlib import Path
from typing import Any

import httpx

from loadgen.results import tokens
from loadgen.results.record import Client, Footer, Header, Line, append
from loadgen.running.job import Job, Wire
from loadgen.running.progress import Progress
from loadgen.running.provenance import commit
from loadgen.running.runner import Write, run
from loadgen.running.sampling import sampled, unread
from loadgen.running.workers import WorkerError, run_workers
from loadgen.traffic import calibrate
from loadgen.traffic.arrivals import Load, parse_stages
from loadgen.traffic.conversation import Files
from loadgen.traffic.workload import Workload
from loadgen.wire.proxies import Proxies, Proxy
from loadgen.wire.target import Target, TargetError, control, inspect, resolve

try:
    import uvloop

    _new_event_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
except ImportError:
    _new_event_loop = asyncio.new_event_loop

# One descriptor per connection; the usual soft limit of 1024 would cap an open loop.
_DESCRIPTORS = 65_536
# What one process does with ease on one core; beyond, the default is another process.
_TOKENS_PER_SECOND, _CONCURRENCY = 50_000, 1_000


class RunError(Exception):
    """A run that cannot be done or recorded; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure. `timeout` is in seconds, per request; `metrics` are expositions of engine and GPUs that
    are sampled during the run.

    `headers` go with every request, `cafile` holds the authorities to trust, `workers` is the number of processes
    (None: as many as the load needs), `ray` a cluster to run them on, `tokenizer` names a local one that sizes prompts
    and counts answers.
    """

    target: Target
    workload: Workload
    load: Load
    model: str | None = None
    timeout: float = 120.0
    api_key: str | None = None
    metrics: Sequence[str] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    cafile: str | None = None
    proxies: Proxies = field(default_factory=Proxies)
    files: Files = field(default_factory=Files)
    workers: int | None = None
    ray: str | None = None
    tokenizer: str | None = None

    @property
    def proxy(self) -> Proxy | None:
        """The proxy that leads to the target."""
        return self.proxies.find(self.target.scheme, self.target.host, self.target.port)

    @property
    def own_headers(self) -> dict[str, str]:
        """What only the target may get."""
        key = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        return {**self.headers, **key}


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
    if plan.tokenizer and records.exists() and not records.is_file():
        raise RunError(f"{records}: is no file; --tokenizer writes one anew when the run has ended")
    tokenizer = _tokenizer(plan.tokenizer) if plan.tokenizer else None
    job = _job(plan, tokenizer, quiet)
    _raise_descriptor_limit()
    progress = None if quiet else Progress(plan.load, sys.stderr)
    with (
        _line_writer(records, force) as write,
        sampled(write, plan.metrics, lambda: _control(plan)) as write_and_sample,
        _counted(write_and_sample, listen_metrics) as write_and_count,
    ):
        try:
            footer = _run(plan, job, records, write_and_count, progress)
        except OSError as error:
            raise TargetError(f"{plan.target.url}: refuses connections at the start: {error}") from None
        except WorkerError as error:
            kept = f"; its records are in {records}.part*" if list(records.parent.glob(f"{records.name}.part*")) else ""
            raise RunError(f"{plan.target.url}: the run was given up: {error}{kept}") from None
    if tokenizer:
        _recount(records, tokenizer)
    return footer


def _tokenizer(name: str) -> Any:
    try:
        return tokens.load(name)
    except ImportError:
        raise RunError("--tokenizer needs the tokenizers package: pip install 'llm-slo[tokenizer]'") from None
    except ValueError as error:
        raise RunError(f"--tokenizer {error}") from None


def _recount(records: Path, tokenizer: Any) -> None:
    try:
        tokens.recount(records, tokenizer)
    except OSError as error:
        raise RunError(
            f"{records}: cannot be written anew: {error.strerror}; its output tokens are those that the server counted"
        ) from None


def _run(plan: Plan, job: Job, records: Path, write: Write, progress: Progress | None) -> Footer:
    if plan.ray:
        from loadgen.running.cluster import run_on_ray

        return run_on_ray(plan.ray, job, write, _new_event_loop)
    if job.workers > 1:
        return run_workers(job, records, write, _new_event_loop, progress)
    with asyncio.Runner(loop_factory=_new_event_loop) as runner:
        return runner.run(run(job, write, progress))


def _job(plan: Plan, tokenizer: Any, quiet: bool) -> Job:
    """The whole run as one job, for which the target is asked what it is and how it counts."""
    client_facts = _client()
    wire = _wire(plan, client_facts.version)
    with _control(plan) as client:
        models = list(plan.workload.models) or ([plan.model] if plan.model else [])
        fingerprint = inspect(client, plan.target, models, plan.metrics)
        for complaint in unread(client, plan.metrics):
            print(f"slo-load: {complaint}; as long as that lasts it is not sampled", file=sys.stderr)
        workload, files = _sized(plan, client, models[0] if models else fingerprint.model, tokenizer, quiet)
    header = Header(
        started_unix_ns=0,  # the runner knows
        target=plan.target.url,
        timeout=plan.timeout,
        workload=workload,
        load=plan.load,
        fingerprint=fingerprint,
        client=client_facts,
        commit=commit(os.environ, Path.cwd()),
        proxy=plan.proxy.url if plan.proxy else None,
        tokenizer=plan.tokenizer,
    )
    return Job(header, wire, files, workers=_workers(plan))


def _wire(plan: Plan, version: str) -> Wire:
    """How to reach the target. A proxy is asked for whole URLs, or for a tunnel when the target speaks TLS."""
    target, proxy = plan.target, plan.proxy
    headers = {
        "Host": target.netloc,
        "User-Agent": f"slo-load/{version}",
        "Accept": "text/event-stream",
        "Content-Type": "application/json",
        **plan.own_headers,
    }
    address = resolve(target, plan.cafile, proxy)
    if proxy is None or address.tunnel:
        return Wire(address, target.base_path, headers)
    return Wire(address, target.url, headers | proxy.headers)


def _control(plan: Plan) -> AbstractContextManager[httpx.Client]:
    return control(plan.target, plan.own_headers, plan.cafile, plan.proxies)


def _sized(plan: Plan, client: httpx.Client, model: str, tokenizer: Any, quiet: bool) -> tuple[Workload, Files]:
    """The workload with the scale at which the server (or a local tokenizer) counts its prompts."""
    workload, files = plan.workload, plan.files
    if files.dialogues:
        return workload, files
    counter = calibrate.Counter(client, plan.target.url, workload.endpoint, model)
    if workload.token_ids:
        ids = counter.token_ids()
        if not ids:
            raise RunError(f"{plan.target.url}: has no usable POST /tokenize, where token ids for prompts come from")
        return workload, replace(files, token_ids=ids)
    scale = _local_scale(tokenizer) if tokenizer else counter.scale()
    if scale is None:
        if not quiet:
            print(
                "the server does not tell how it counts tokens: a prompt's word is taken for a token", file=sys.stderr
            )
        return workload, files
    return (
        replace(workload, tokens_per_word=round(scale.tokens_per_word, 6), template_tokens=scale.template_tokens),
        files,
    )


def _local_scale(tokenizer: Any) -> calibrate.Scale:
    try:
        return calibrate.from_tokenizer(tokenizer)
    except ValueError as error:
        raise RunError(f"--tokenizer: {error}") from None


def _workers(plan: Plan) -> int:
    """As many processes as were asked for, or as the load needs and the cores allow; each has something to do."""
    load = plan.load
    most = min(limit for limit in (load.concurrency, load.requests, len(plan.files.rows), 1024) if limit)
    if plan.workers:
        return min(plan.workers, most)
    rates = [max(stage.start, stage.end) for stage in parse_stages(load.stages)] if load.stages else [load.rate or 0.0]
    tokens = max(rates) * plan.workload.output_tokens
    wanted = ceil(max(tokens / _TOKENS_PER_SECOND, (load.concurrency or 0) / _CONCURRENCY))
    return max(1, min(wanted, most, (os.cpu_count() or 1) - 1))


@contextlib.contextmanager
def _line_writer(path: Path, force: bool) -> Iterator[Callable[[Line], None]]:
    """A function that appends a line and hands it to the system at once, so that a killed run keeps its records."""
    try:
        file = FileIO(path, "w" if force else "x")
    except FileExistsError:
        raise RunError(f"{path}: exists already; give another --records or overwrite it with --force") from None
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}") from None

    def write(line: Line) -> None:
        try:
            append(file, line)
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
    from loadgen.running.live import Live, serving

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
