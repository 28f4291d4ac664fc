"""How fast and how exact the load generator's client is: against a server that knows the truth, beside other clients.

    python tests/benchmarks/bench_load_client.py [--peers aiperf,guidellm] [--vllm-python .venv-vllm/bin/python]

Every client has a core of its own, the server another; all get the same load one after the other, so that their ratios
mean something on a machine that others use, too. `--peers` installs those load generators from PyPI, each in a virtual
environment under `--peers-home` that later runs find again; they run whole, as their users run them, but on one core.
Events and seconds are the server's, from the first request to the last event; `events/CPU-s` is what one core could do.
The errors are the p99 that the client reports less the p99 that the server knows, in ms.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import load_peers

HERE = Path(__file__).parent
TOKENS = 64
FULL_SPEED = 64


@dataclass(frozen=True)
class Played:
    """What a client did; errors in ms, None where the server streamed as fast as it could."""

    name: str
    concurrency: int
    events: int
    seconds: float
    cpu: float
    megabytes: float
    errors: tuple[float, float] | None

    @property
    def rate(self) -> float:
        return self.events / self.seconds

    @property
    def per_cpu(self) -> float:
        return self.events / self.cpu

    def __str__(self) -> str:
        line = f"{self.name:8} C={self.concurrency:<5} {self.rate:9.0f} events/s {self.per_cpu:9.0f} events/CPU-s"
        line += f"  CPU {self.cpu / self.seconds:4.0%}  {self.megabytes:5.0f} MB"
        if self.errors is None:
            return line
        return line + "  p99 error: TTFT {:8.2f} ms  ITL {:7.2f} ms".format(*self.errors)


@dataclass(frozen=True)
class Clients:
    """Our own and others as functions, by the interpreter that runs them, and peers by their virtual environment."""

    pythons: dict[str, str]
    peers: dict[str, Path]


def p99(values: Iterable[int]) -> float:
    """In ms."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))] / 1e6


@contextmanager
def server(ttft: float, itl: float) -> Iterator[int]:
    core = ["0"] if len(os.sched_getaffinity(0)) > 1 else []
    command = [sys.executable, HERE / "truth_server.py", str(ttft), str(itl), str(TOKENS), *core]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def truth(port: int) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"http://127.0.0.1:{port}/truth", trust_env=False, timeout=60).json()
    return found


def play(python: str, name: str, port: int, concurrency: int, requests: int) -> Played:
    command = [python, HERE / "load_clients.py", name, str(port), str(concurrency), str(requests)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found, known = json.loads(done.stdout), truth(port)
    errors = None
    if firsts := known["firsts"]:
        replies = found["replies"].items()
        ttft = p99(first - start for _, (start, first) in replies) - p99(firsts[key] - s for key, (s, _) in replies)
        errors = ttft, p99(found["gaps"]) - p99(known["gaps"])
    return _told(Played(name, concurrency, *_streamed(known), found["cpu"], found["megabytes"], errors))


def play_peer(venv: Path, name: str, port: int, concurrency: int, requests: int) -> Played:
    with tempfile.TemporaryDirectory() as folder:
        task = load_peers.Task(port, concurrency, requests, Path(folder))
        seen, known = load_peers.play(name, venv, task), truth(port)
        reported = load_peers.PEERS[name].reported(task.folder)
    errors = None
    if known["gaps"]:
        errors = reported[0] - p99(known["ttfts"]), reported[1] - p99(known["gaps"])
    cpu, megabytes = load_peers.between(seen, known["began"], known["ended"])
    return _told(Played(name, concurrency, *_streamed(known), cpu, megabytes, errors))


def _streamed(known: dict[str, Any]) -> tuple[int, float]:
    return known["events"], (known["ended"] - known["began"]) / 1e9


def _told(played: Played) -> Played:
    print(played, flush=True)
    return played


def compare(clients: Clients, concurrencies: list[int], per_stream: int) -> None:
    with server(0.0, 0.0) as port:
        print("as fast as the server can, one write per event")
        requests = FULL_SPEED * per_stream
        for _ in range(2):
            found = [play(python, name, port, FULL_SPEED, requests) for name, python in clients.pythons.items()]
        found += [play_peer(venv, name, port, FULL_SPEED, requests) for name, venv in clients.peers.items()]
        ratios(found)
    with server(0.05, 0.02) as port:
        for concurrency in concurrencies:
            print(f"{concurrency} streams of 50 tokens/s, TTFT 50 ms")
            found = [play(python, n, port, concurrency, concurrency * 3) for n, python in clients.pythons.items()]
            found += [play_peer(venv, n, port, concurrency, concurrency * 3) for n, venv in clients.peers.items()]


def ratios(found: list[Played]) -> None:
    ours = next(one for one in found if one.name == "ours")
    for other in (one for one in found if one is not ours):
        rate, per_cpu = ours.rate / other.rate, ours.per_cpu / other.per_cpu
        print(f"ours / {other.name}: {rate:.2f} times its events/s, {per_cpu:.2f} times its events/CPU-s")


def start_up() -> None:
    """From the command to its first request, through a run of one request."""
    with server(0.0, 0.0) as port:
        command = [sys.executable, "-c", "import sys; from loadgen.cli import main; sys.exit(main())", "run", "--model",
                   "bench", "--target", f"http://127.0.0.1:{port}", "--concurrency", "1", "--requests", "1", "--quiet",
                   "--records", "/dev/null", "--force"]  # fmt: skip
        best = float("inf")
        for _ in range(3):
            began = time.perf_counter()
            subprocess.run(command, cwd=HERE.parents[1], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            best = min(best, time.perf_counter() - began)
    print(f"slo-load run with one request, from start to exit: {best:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", nargs="+", default=["raw", "ours"], choices=("raw", "ours", "httpx"))
    parser.add_argument("--peers", type=lambda text: text.split(","), default=[], metavar="NAME,NAME",
                        help=f"of {', '.join(load_peers.PEERS)}")  # fmt: skip
    parser.add_argument("--peers-home", type=Path, default=Path(tempfile.gettempdir()) / "llm-slo-peers")
    parser.add_argument("--vllm-python", help="an interpreter with vLLM, to compare its client")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[512])
    parser.add_argument("--requests-per-stream", type=int, default=40)
    args = parser.parse_args()
    pythons = dict.fromkeys(args.clients, sys.executable)
    if args.vllm_python:
        pythons["vllm"] = args.vllm_python
    clients = Clients(pythons, {name: load_peers.install(name, args.peers_home) for name in args.peers})
    start_up()
    compare(clients, args.concurrency, args.requests_per_stream)


if __name__ == "__main__":
    main()
