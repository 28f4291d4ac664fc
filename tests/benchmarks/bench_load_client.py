"""How fast and how exact the load generator's client is: against a server that knows the truth, beside other clients.

    python tests/benchmarks/bench_load_client.py [--vllm-python .venv-vllm/bin/python] [--concurrency 512 1024]

Every client has a process and a core of its own, the server another; all get the same load one after the other, so
that their ratios mean something on a machine that others use, too. `events/CPU-s` is what one core could do.
The errors are the p99 that the client reports less the p99 that the server knows, in ms.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

HERE = Path(__file__).parent
TOKENS = 64


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


def play(python: str, name: str, port: int, concurrency: int, requests: int) -> dict[str, Any]:
    command = [python, HERE / "load_clients.py", name, str(port), str(concurrency), str(requests)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    truth = httpx.get(f"http://127.0.0.1:{port}/truth", trust_env=False, timeout=60).json()
    found: dict[str, Any] = json.loads(done.stdout)
    line = f"{name:6} C={concurrency:<5} {found['events'] / found['seconds']:9.0f} events/s"
    line += f" {found['events'] / found['cpu']:9.0f} events/CPU-s  CPU {found['cpu'] / found['seconds']:4.0%}"
    line += f"  {found['megabytes']:4.0f} MB"
    if firsts := truth["firsts"]:
        replies = found["replies"].items()
        ttft = p99(first - start for _, (start, first) in replies) - p99(firsts[key] - s for key, (s, _) in replies)
        line += f"  p99 error: TTFT {ttft:7.2f} ms  ITL {p99(found['gaps']) - p99(truth['gaps']):7.2f} ms"
    print(line, flush=True)
    return found


def compare(clients: dict[str, str], concurrencies: list[int], per_stream: int) -> None:
    with server(0.0, 0.0) as port:
        print("as fast as the server can, one write per event")
        for _ in range(2):
            found = {name: play(python, name, port, 64, 64 * per_stream) for name, python in clients.items()}
        ratio = (found["ours"]["events"] / found["ours"]["cpu"]) / (found["raw"]["events"] / found["raw"]["cpu"])
        rate = found["raw"]["seconds"] / found["ours"]["seconds"]
        print(f"ours / raw: {rate:.0%} of its events/s, {ratio:.0%} of its events/CPU-s")
    with server(0.05, 0.02) as port:
        for concurrency in concurrencies:
            print(f"{concurrency} streams of 50 tokens/s, TTFT 50 ms")
            for name, python in clients.items():
                play(python, name, port, concurrency, concurrency * 3)


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
    parser.add_argument("--vllm-python", help="an interpreter with vLLM, to compare its client")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[512])
    parser.add_argument("--requests-per-stream", type=int, default=40)
    args = parser.parse_args()
    clients = dict.fromkeys(args.clients, sys.executable)
    if args.vllm_python:
        clients["vllm"] = args.vllm_python
    start_up()
    compare(clients, args.concurrency, args.requests_per_stream)


if __name__ == "__main__":
    main()
