"""The sidecar at work: its parts are started in order, and ended in order."""

import argparse
import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from types import FrameType

import uvicorn
from prometheus_client import CollectorRegistry

from exporters.collector import Collector
from exporters.ending import LAST, Limits
from exporters.engines import fetch
from exporters.model import UsageError
from exporters.serving import otlp_grpc, push, tracing, web
from exporters.serving.access import Access, Guard
from exporters.serving.server import create_app
from exporters.spans import forward as forwarding
from exporters.spans.exact import SpanMetrics
from exporters.spans.forward import Forwarder, Sampler
from exporters.spans.intake import Intake
from exporters.spans.reader import SpanReader
from slo.spec.model import Slo

# Where an engine in the same pod sends its spans by default. Loopback, since vLLM's gRPC is always plain text.
GRPC = ("127.0.0.1", 4317)
# Seconds that requests under way are given when the process is told to end: twice as long as their waits can be.
_GRACE = int(2 * LAST) + 1
# Seconds that spans are given to reach the upstream.
_FLUSH = 2.0
log = logging.getLogger(__name__)


async def serve(
    listener: socket.socket,
    collector: Collector,
    slos: Sequence[Slo],
    options: argparse.Namespace,
    env: Mapping[str, str],
    pages: fetch.Pages,
    limits: Limits,
) -> None:
    """Serve on `listener` until a signal comes. Raises UsageError and SpecError for what the user has to mend."""
    config = web.load(options.web_config) if options.web_config else web.WebConfig()
    access = Access(config.users, options.otlp_token_file)
    traces_to, push_to = tracing.target(env), options.push or push.target(env)
    registry = CollectorRegistry()
    async with AsyncExitStack() as ending:
        ending.push_async_callback(pages.close)
        spans, intake = _intake(ending, registry, collector, slos, options, env)
        app = create_app(collector, spans, intake, registry, limits)
        host, port = listener.getsockname()[:2]
        if traces_to:
            ending.callback(tracing.start(app, traces_to, port))
        if push_to:
            pushing = push.start(collector, registry, push_to, env)
            ending.push_async_callback(pushing)
        if options.otlp_grpc:
            ending.push_async_callback(await _grpc(intake, access, options.otlp_grpc))
        first = asyncio.create_task(collector.collect())  # says in the log what answers and what does not
        ending.callback(first.cancel)
        scheme = "https" if config.tls else "http"
        log.info("serving %s://%s:%d/metrics", scheme, f"[{host}]" if ":" in host else host, port)
        await _Server(_uvicorn(Guard(app, access, config.headers, spans.reject), config), limits.cut).serve(
            sockets=[listener]
        )


def _intake(
    ending: AsyncExitStack,
    registry: CollectorRegistry,
    collector: Collector,
    slos: Sequence[Slo],
    options: argparse.Namespace,
    env: Mapping[str, str],
) -> tuple[SpanMetrics, Intake]:
    labels, sampler, forward = dict(options.span_label), Sampler(options.forward_keep), None
    if options.forward:
        forward = Forwarder(options.forward, sampler, forwarding.headers(env))
        registry.register(forward)
        forward.start()
        ending.push_async_callback(forward.close, _FLUSH)
    linked = (lambda trace: sampler.keeps(bytes.fromhex(trace))) if forward else (lambda _: True)
    spans = SpanMetrics(registry, slos, list(labels), options.span_label_sets, linked)
    return spans, Intake(collector, spans, SpanReader(list(labels.values())), forward)


async def _grpc(intake: Intake, access: Access, address: tuple[str, int]) -> Callable[[], Awaitable[None]]:
    try:
        port, stop = await otlp_grpc.serve(intake, access, *address)
    except UsageError as error:
        if address is not GRPC:
            raise
        log.warning("%s. Spans are taken over HTTP only", error)
        return _nothing
    log.info("taking spans over gRPC on %s:%d", address[0], port)
    return partial(stop, LAST)


async def _nothing() -> None:
    pass


def _uvicorn(app: Guard, config: web.WebConfig) -> uvicorn.Config:
    tls = config.tls
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_GRACE,
        ssl_context_factory=(lambda *_: web.renewing(tls)) if tls else None,
    )


class _Server(uvicorn.Server):
    """uvicorn that calls `cut` as soon as it is told to end."""

    def __init__(self, config: uvicorn.Config, cut: Callable[[], None]) -> None:
        super().__init__(config)
        self._cut = cut
        self._loop = asyncio.get_running_loop()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._loop.call_soon_threadsafe(self._cut)
