"""`slo-load simulate`: a simulated vLLM engine and GPU behind one port."""

import argparse
import signal
import socket
import sys
from urllib.parse import urlsplit

from loadgen.simulator import faults
from loadgen.simulator.model import Engine, EngineConfig

DEFAULTS = EngineConfig()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `slo-load simulate`."""
    parser.add_argument("--listen", type=address, default="127.0.0.1:8000", metavar="HOST:PORT",
                        help="where to listen; port 0 takes a free one (default %(default)s)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (default %(default)s)")
    parser.add_argument("--otlp", type=_url, metavar="URL",
                        help="send a span per request there, e.g. http://127.0.0.1:9402/v1/traces")  # fmt: skip
    parser.add_argument("--model", default="simulated-8b", metavar="NAME",
                        help="name of the model (default %(default)s)")  # fmt: skip
    parser.add_argument("--max-num-seqs", type=int, default=DEFAULTS.max_num_seqs, metavar="N",
                        help="requests in the running batch (default %(default)s)")  # fmt: skip
    parser.add_argument("--max-model-len", type=int, default=DEFAULTS.max_model_len, metavar="N",
                        help="tokens of prompt and answer together (default %(default)s)")  # fmt: skip
    parser.add_argument("--kv-blocks", type=int, default=DEFAULTS.kv_blocks, metavar="N",
                        help=f"blocks of {DEFAULTS.block_size} tokens in the cache (default %(default)s)")  # fmt: skip
    parser.add_argument("--fault", type=_fault, action="append", default=[], metavar="FAULT",
                        help=f"an incident, {faults.HELP}; may be repeated, or sent to /faults later")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM, then 0; 2 when an option makes no sense or the address is taken."""
    try:
        config = EngineConfig(
            max_num_seqs=args.max_num_seqs, max_model_len=args.max_model_len, kv_blocks=args.kv_blocks
        )
        listener = _listen(*args.listen)
    except ValueError as error:
        print(f"slo-load simulate: {error}", file=sys.stderr)
        return 2
    _serve(Engine(config, args.seed), args, listener)
    return 0


def _serve(engine: Engine, args: argparse.Namespace, listener: socket.socket) -> None:
    # Imported here: a web server and the OpenTelemetry SDK cost the other commands of slo-load 0.3 s.
    from loadgen.simulator.server import Server
    from loadgen.simulator.spans import SpanSender

    # uvicorn raises a signal again once it has stopped; by then there is nothing left to do.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    spans = SpanSender(args.otlp) if args.otlp else None
    with listener:
        Server(engine, args.model, args.seed, spans, faults.Faults(args.fault)).run([listener])
    if spans:
        spans.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]  # create_server adds the address to it
        raise ValueError(f"cannot listen on {host}:{port}: {reason}; choose another address with --listen") from error


def address(text: str) -> tuple[str, int]:
    """HOST:PORT of an argument, with IPv6 addresses in brackets."""
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, such as 127.0.0.1:8000")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _fault(text: str) -> faults.Fault:
    try:
        return faults.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise argparse.ArgumentTypeError(f"{text!r} is not a full URL, such as http://127.0.0.1:9402/v1/traces")
    return text
