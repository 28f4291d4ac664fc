"""`slo-exporter`: the edge where arguments, environment, sockets and exit codes are."""

import argparse
import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence

import pynvml

from exporters import arguments, check
from exporters.collector import Collector, Source
from exporters.describe import engines as describe
from exporters.ending import Limits
from exporters.engines import fetch
from exporters.engines import sources as engine_sources
from exporters.gpus import economics
from exporters.gpus import sources as gpu_sources
from exporters.model import EngineScrape, GpuScrape, UsageError
from exporters.serving import runner
from slo import stdout
from slo.arguments import USAGE, Parser, add_version
from slo.spec import model as spec


def main(argv: Sequence[str] | None = None) -> int:
    """Run `slo-exporter` until it is told to end; returns the exit code: 0, or 2 for what the user has to mend."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == [describe.NAME]:
        return describe.main(argv[1:])
    parser = _parser()
    options = parser.parse_args(argv)
    pages = [*(engine.url for engine in options.engine), *options.merge]
    if twice := {url for url in pages if pages.count(url) > 1}:
        parser.error(f"{fetch.without_password(twice.pop())} is given twice")
    labels = [name for name, _ in options.span_label]
    if twice := {name for name in labels if labels.count(name) > 1}:
        parser.error(f"--span-label {twice.pop()} is given twice")
    if options.json and not options.check:
        parser.error("--json goes with --check")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for chatty in ("httpx", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        main_task = _check if options.check else _serve
        return stdout.run(lambda: asyncio.run(main_task(options, os.environ)))
    except (UsageError, spec.SpecError) as error:
        print(f"slo-exporter: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return 0


def _parser() -> Parser:
    parser = Parser(
        prog="slo-exporter",
        description="Sidecar of an LLM inference engine: engine metrics, GPU telemetry and request spans on one "
        "/metrics page, in one vocabulary.",
        epilog=f"slo-exporter {describe.NAME} prints what every engine exposes, and under which name",
    )
    arguments.add_engines(parser)
    arguments.add_gpus(parser)
    add = parser.add_argument
    add("--slo", metavar="SPEC", help="SLO spec: its latency and goodput SLOs are counted from spans, exactly")
    add("--listen", default="0.0.0.0:9402", type=arguments.address, metavar="HOST:PORT",
        help="address to serve on (0.0.0.0:9402; 9400 is taken on GPU nodes, by dcgm-exporter)")  # fmt: skip
    arguments.add_spans(parser)
    add("--check", action="store_true", help="read every source once, print what is there, and end")
    add("--json", action="store_true", help="with --check: print one JSON object")
    add_version(parser)
    return parser


async def _check(options: argparse.Namespace, env: Mapping[str, str]) -> int:
    pages = fetch.Pages()
    engines, gpus = await _sources(pages, options, env)
    reports = await check.check(engines, gpus)
    await pages.close()
    print(json.dumps({"sources": reports}) if options.json else check.table(reports))
    if broken := [f"{report['endpoint']}: {report['error']}" for report in reports if report["error"]]:
        raise UsageError("; ".join(broken))
    return 0


async def _serve(options: argparse.Namespace, env: Mapping[str, str]) -> int:
    # The server, once it is down, raises the signal that ended it again: that is a clean end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    slos = spec.load(options.slo).slos if options.slo else ()
    with _listen(*options.listen) as listener:
        pages, limits = fetch.Pages(), Limits()
        extras = engine_sources.merged(pages, options.merge)
        collector = Collector(
            *await _sources(pages, options, env), limits=limits, extras=extras, ledger=economics.Ledger(options.price)
        )
        await runner.serve(listener, collector, slos, options, env, pages, limits)
    return 0


async def _sources(
    pages: fetch.Pages, options: argparse.Namespace, env: Mapping[str, str]
) -> tuple[list[Source[EngineScrape]], list[Source[GpuScrape]]]:
    gpus = gpu_sources.choose(pages, pynvml, options.gpu, dcgm_url=options.dcgm_url, gpu_url=options.gpu_url,
                              uuids=options.gpu_uuids, env=env)  # fmt: skip
    if options.check:
        await gpus.look()
    else:
        gpus.keep_looking(gpu_sources.pauses())
    engines = engine_sources.engines(pages, options.engine, options.model_name, options.passthrough)
    return engines, gpus.found


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        dualstack = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
        return socket.create_server(address[:2], family=family, dualstack_ipv6=dualstack)
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]
        raise UsageError(f"cannot listen on {host}:{port}: {reason}; choose another address with --listen") from None
