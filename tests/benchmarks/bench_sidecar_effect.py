"""What the sidecar costs the engine: tokens per second of a real vLLM with and without it, in pairs.

    python tests/benchmarks/bench_sidecar_effect.py [--vllm-venv .venv-vllm] [--pairs 6] [--seconds 20] [--json]
    python tests/benchmarks/bench_sidecar_effect.py --engine URL --spans-port PORT --model NAME --concurrency 256 ...

Of an engine that runs already it must be said to which port of this machine it sends its spans over HTTP. Else, one
vLLM on a core of its own serves a closed loop all along and traces every request. Clients and sidecar share the other
cores: on the engine's, which spins, any process at all would show as an effect. In one half of a pair the spans go to
the sidecar, which is scraped every second; in the other to a sink that drops them, and nobody scrapes. The halves
change places from pair to pair, so that a machine that grows slower or faster does not look like an effect. The
sidecar's own CPU time is counted too: it says on any machine what the sidecar can take from an engine at most.
"""

import argparse
import contextlib
import json
import os
import random
import socketserver
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import httpx
from prometheus_client.parser import text_string_to_metric_families

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))
from serve import MODEL, free_port, vllm

BIN = Path(sys.executable).parent
TOKENS = "vllm:generation_tokens_total"
# Seconds at the start of a half that do not count: the sidecar starts, the batch fills.
SETTLE = 3.0
RESAMPLES = 10_000


@contextlib.contextmanager
def sink(port: int) -> Iterator[None]:
    """Takes every export and drops it; yields nobody's process."""

    class Drop(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    socketserver.TCPServer.allow_reuse_address = True
    server = ThreadingHTTPServer(("127.0.0.1", port), Drop)
    server.daemon_threads, server.block_on_close = True, False
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def sidecar(engine: str, port: int, gpu: str = "none") -> Iterator[int]:
    """The sidecar, scraped every second; yields its process id."""
    args = ["--engine", engine, "--gpu", gpu, "--listen", f"127.0.0.1:{port}", "--otlp-grpc", "none"]
    ended = threading.Event()

    def scrape() -> None:
        with httpx.Client(trust_env=False) as client:
            while not ended.wait(1):
                with contextlib.suppress(httpx.HTTPError):
                    client.get(f"http://127.0.0.1:{port}/metrics", headers={"Accept": "application/openmetrics-text"})

    with subprocess.Popen([BIN / "slo-exporter", *args], stderr=subprocess.DEVNULL) as process:
        scraper = threading.Thread(target=scrape)
        scraper.start()
        try:
            yield process.pid
        finally:
            ended.set()
            scraper.join()
            process.terminate()


class Target(NamedTuple):
    """An engine, the port to which it sends its spans, and the closed loop to keep it busy with."""

    url: str
    spans: int
    model: str = MODEL
    concurrency: int = 8
    prompt_tokens: int = 100
    output_tokens: int = 64
    gpu: str = "none"


@contextlib.contextmanager
def load(target: Target, seconds: float) -> Iterator[None]:
    """The closed loop, for so many seconds at most."""
    with tempfile.TemporaryDirectory() as home:
        command = [BIN / "slo-load", "run", "--target", target.url, "--model", target.model, "--quiet",
                   "--concurrency", target.concurrency, "--duration", seconds, "--prompt-tokens", target.prompt_tokens,
                   "--output-tokens", target.output_tokens, "--records", Path(home) / "records.jsonl"]  # fmt: skip
        with subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL) as process:
            yield
            process.terminate()


def tokens(engine: str) -> float:
    """Output tokens so far."""
    page = httpx.get(f"{engine}/metrics", trust_env=False).text
    return sum(s.value for f in text_string_to_metric_families(page) for s in f.samples if s.name == TOKENS)


class Half(NamedTuple):
    """Tokens per second once settled, and the share of a core that the sidecar used."""

    rate: float
    cores: float


def half(engine: str, seconds: float, pid: int | None) -> Half:
    """Measure for so many seconds."""
    time.sleep(SETTLE)
    before, spent, began = tokens(engine), cpu_seconds(pid), time.monotonic()
    time.sleep(seconds)
    wall = time.monotonic() - began
    rate = (tokens(engine) - before) / wall
    if not rate:
        raise SystemExit("the engine makes no tokens: did slo-load end?")
    return Half(rate, (cpu_seconds(pid) - spent) / wall)


def cpu_seconds(pid: int | None) -> float:
    """CPU seconds that a process has used."""
    if pid is None:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(venv: Path, pairs: int, seconds: float) -> list[tuple[Half, Half]]:
    """Both halves, pair by pair, on a vLLM that has the first core for itself."""
    port = free_port()
    first, *others = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {first})
    with vllm(venv, port) as engine:
        os.sched_setaffinity(0, others or {first})
        return measure_running(Target(engine, port), pairs, seconds)


def measure_running(target: Target, pairs: int, seconds: float) -> list[tuple[Half, Half]]:
    """Both halves, without and with the sidecar, pair by pair."""
    with load(target, (pairs + 1) * 2 * (seconds + SETTLE + 5)):
        with sink(target.spans):
            half(target.url, seconds, None)  # warm
        return [pair(target, number, seconds) for number in range(pairs)]


def pair(target: Target, number: int, seconds: float) -> tuple[Half, Half]:
    """One half without and one with the sidecar; which comes first alternates with `number`."""
    found, port = {}, target.spans
    for name in ("without", "with") if number % 2 == 0 else ("with", "without"):
        with sink(port) if name == "without" else sidecar(target.url, port, target.gpu) as pid:
            found[name] = half(target.url, seconds, pid)
    print(f"pair {number + 1}: without {found['without'].rate:.1f}, with {found['with'].rate:.1f}", file=sys.stderr)
    return found["without"], found["with"]


def effect(pairs: list[tuple[Half, Half]]) -> dict[str, float]:
    """The loss in percent: the mean over the pairs, and its 95 % interval by resampling them."""
    losses = [100 * (1 - with_it.rate / without.rate) for without, with_it in pairs]
    dice = random.Random(1)
    means = sorted(statistics.fmean(dice.choices(losses, k=len(losses))) for _ in range(RESAMPLES))
    low, high = means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES)]
    cores = statistics.fmean(with_it.cores for _, with_it in pairs)
    return {"loss_percent": statistics.fmean(losses), "low": low, "high": high, "pairs": len(pairs), "cores": cores}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--vllm-venv", type=Path, default=Path(".venv-vllm"))
    options.add_argument("--pairs", type=int, default=6)
    options.add_argument("--seconds", type=float, default=20.0, help="of each half, after it has settled")
    options.add_argument("--engine", metavar="URL", help="a running engine; with --spans-port")
    options.add_argument("--spans-port", type=int, metavar="PORT", help="of this machine, where its spans go")
    options.add_argument("--model", default=MODEL, help="that --engine serves")
    options.add_argument("--concurrency", type=int, default=8, help="of the loop on --engine")
    options.add_argument("--gpu", default="none", help="where the sidecar reads GPUs")
    options.add_argument("--json", action="store_true", help="print one JSON object")
    args = options.parse_args()
    if bool(args.engine) != bool(args.spans_port):
        options.error("--engine and --spans-port go together")
    if not args.engine and not (args.vllm_venv / "bin" / "python").exists():
        print(f"skipped: no vLLM in {args.vllm_venv}; make test-engine installs it", file=sys.stderr)
        return
    if args.engine:
        target = Target(args.engine, args.spans_port, args.model, args.concurrency, gpu=args.gpu)
        result = effect(measure_running(target, args.pairs, args.seconds))
    else:
        result = effect(measure(args.vllm_venv, args.pairs, args.seconds))
    if args.json:
        print(json.dumps(result))
        return
    print(
        f"the sidecar costs {result['loss_percent']:.2f} % of the engine's tokens per second "
        f"(95 % interval {result['low']:.2f} to {result['high']:.2f}, {result['pairs']:.0f} pairs) and used "
        f"{100 * result['cores']:.1f} % of a core"
    )


if __name__ == "__main__":
    main()
