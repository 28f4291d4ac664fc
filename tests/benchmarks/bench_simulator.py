"""What a streamed token costs the simulator, and how late it comes.

    python tests/benchmarks/bench_simulator.py [--streams 32 128 256] [--tokens 200]

Raw sockets in this process read `tokens` tokens on each of N streams of a simulator in another process, twice over.
The engine's own speed limits the rate (a full batch of 256 makes 16 000 a second); CPU is the server's, of one core.
"""

import argparse
import asyncio
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import uvloop

ROUNDS = 2


async def read(port: int, tokens: int) -> float:
    """One stream; seconds from sending the request to its end."""
    body = json.dumps({"prompt": list(range(64)), "max_tokens": tokens, "ignore_eos": True, "stream": True}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began, events = time.perf_counter(), 0
    head = b"POST /v1/completions HTTP/1.1\r\nHost: bench\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    writer.write(head % len(body) + body)
    while data := await reader.read(1 << 16):
        events += data.count(b"data: {")
    writer.close()
    assert events == tokens, f"{events} events"
    return time.perf_counter() - began


async def load(port: int, streams: int, tokens: int) -> float:
    """Mean seconds per answer, as clients saw it."""
    seconds: list[float] = []
    for _ in range(ROUNDS):
        seconds += await asyncio.gather(*(read(port, tokens) for _ in range(streams)))
    return sum(seconds) / len(seconds)


def cpu_seconds(process: int) -> float:
    """User and system time of a process so far, from /proc."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def engine_seconds(url: str) -> tuple[float, float]:
    """Sum and count of the engine's own e2e histogram."""
    text = httpx.get(f"{url}/metrics", trust_env=False).text
    values = re.findall(r"^vllm:e2e_request_latency_seconds_(?:count|sum)\{.*\} (\S+)$", text, re.MULTILINE)
    return float(values[1]), float(values[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, nargs="+", default=[32, 128, 256])
    parser.add_argument("--tokens", type=int, default=200)
    args = parser.parse_args()
    command = [sys.executable, "-m", "loadgen.simulator", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as server:
        assert server.stderr
        url = server.stderr.readline().split()[0]
        for streams in args.streams:
            cpu, began, (before, count) = cpu_seconds(server.pid), time.perf_counter(), engine_seconds(url)
            seen = uvloop.run(load(int(url.rpartition(":")[2]), streams, args.tokens))
            seconds, cpu = time.perf_counter() - began, cpu_seconds(server.pid) - cpu
            after, total = engine_seconds(url)
            tokens, late = ROUNDS * streams * args.tokens, seen - (after - before) / (total - count)
            print(
                f"{streams:4} streams {tokens / seconds:7.0f} tokens/s  CPU {cpu / seconds:4.0%}"
                f"  {cpu / tokens * 1e6:5.1f} us/token  answers end {late * 1000:5.2f} ms after the engine says"
            )
        server.terminate()


if __name__ == "__main__":
    main()
