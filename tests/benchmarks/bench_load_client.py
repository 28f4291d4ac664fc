"""How exact the load generator's client is, and how fast, against a cheap server that knows the truth; httpx beside it.

    python tests/benchmarks/bench_load_client.py [--concurrency 128 512] [--requests-per-stream 4]

The server (another process, uvloop) sends each of 64 tokens on an absolute schedule (TTFT 50 ms, ITL 20 ms) and keeps
the instant at which it wrote each first token. The error is how much later the client stamped that token. At full speed
the server writes all tokens at once: events/s are then the client's ceiling on one core, parsing and records included.
"""

import argparse
import asyncio
import io
import json
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import ClassVar, cast

import httpx
import uvloop

sys.path.insert(0, str(Path(__file__).parents[2]))

from loadgen.arrivals import Load
from loadgen.client import Address
from loadgen.record import Client, Fingerprint, Header, Line, RequestRecord, encode
from loadgen.runner import Wire, run
from loadgen.summary import quantile
from loadgen.workload import Workload

TOKENS = 64
NS = 1_000_000_000
_EVENT = json.dumps(
    {
        "id": "chatcmpl-0123456789abcdef0123456789abcdef",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "bench",
        "choices": [{"index": 0, "delta": {"content": " token"}, "logprobs": None, "finish_reason": None}],
    }
)


def _chunk(payload: str) -> bytes:
    data = f"data: {payload}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(data), data)


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = _chunk(_EVENT)
END = (
    _chunk(json.dumps({"choices": [], "usage": {"prompt_tokens": 8, "completion_tokens": TOKENS}}))
    + _chunk("[DONE]")
    + b"0\r\n\r\n"
)


class Server(asyncio.Protocol):
    """Answers every POST with TOKENS tokens; GET /truth returns [trace id, Unix ns of the first token] of each."""

    truth: ClassVar[list[tuple[str, int]]] = []

    def __init__(self, ttft: float, itl: float) -> None:
        self.ttft, self.itl = ttft, itl
        self.pending = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.pending += data
        head, blank, body = self.pending.partition(b"\r\n\r\n")
        lowered = head.lower()
        length = int(lowered.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        if not blank or len(body) < length:
            return
        self.pending, self.received = b"", time.perf_counter_ns()
        if head.startswith(b"GET"):
            reply = json.dumps(Server.truth).encode()
            Server.truth.clear()
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(reply), reply))
            return
        self.trace_id = lowered.partition(b"traceparent: 00-")[2][:32].decode()
        if self.itl == 0:
            self.transport.write(HEAD + EVENT * TOKENS + END)
        else:
            self.transport.write(HEAD)
            self.wait(0)

    def wait(self, token: int) -> None:
        due = self.received + int((self.ttft + token * self.itl) * NS)
        asyncio.get_running_loop().call_later(max(0, due - time.perf_counter_ns()) / NS, self.emit, token)

    def emit(self, token: int) -> None:
        if self.transport.is_closing():
            return
        if token == 0:
            Server.truth.append((self.trace_id, time.time_ns()))
        self.transport.write(EVENT if token < TOKENS - 1 else EVENT + END)
        if token < TOKENS - 1:
            self.wait(token + 1)


async def serve(port: int, ttft: float, itl: float) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Server(ttft, itl), "127.0.0.1", port, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def header(concurrency: int, requests: int) -> Header:
    return Header(
        started_unix_ns=0,
        target="",
        timeout=60,
        workload=Workload(prompt_tokens=64, output_tokens=TOKENS),
        load=Load(concurrency=concurrency, requests=requests),
        fingerprint=Fingerprint(model="bench"),
        client=Client(version="", python="", event_loop="", cores=1),
    )


# Trace id and Unix ns of the first token.
Stamps = list[tuple[str, int]]


async def ours(port: int, concurrency: int, requests: int) -> Stamps:
    records: list[RequestRecord] = []
    started = 0
    file = io.StringIO()

    def write(line: Line) -> None:
        nonlocal started
        file.write(encode(line))
        if isinstance(line, RequestRecord):
            records.append(line)
        elif isinstance(line, Header):
            started = line.started_unix_ns

    await run(header(concurrency, requests), Wire(Address("127.0.0.1", port), "", {"Host": "bench"}), write)
    assert all(r.error is None and len(r.token_ns) == TOKENS for r in records)
    return [(r.trace_id, started + r.token_ns[0]) for r in records]


async def with_httpx(port: int, concurrency: int, requests: int) -> Stamps:
    results: Stamps = []
    todo = deque(range(requests))
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=60, trust_env=False) as client:

        async def slot() -> None:
            while todo:
                trace_id = f"{todo.popleft() + 1:032x}"
                headers = {"traceparent": f"00-{trace_id}-{1:016x}-01"}
                first = 0
                url = f"http://127.0.0.1:{port}/v1/chat/completions"
                async with client.stream("POST", url, json={"prompt": "x" * 300}, headers=headers) as response:
                    async for line in response.aiter_lines():
                        if line.startswith("data: {") and json.loads(line[6:])["choices"]:
                            first = first or time.time_ns()
                results.append((trace_id, first))

        await asyncio.gather(*(slot() for _ in range(concurrency)))
    return results


Contender = Callable[[int, int, int], Coroutine[None, None, Stamps]]


def measure(name: str, contender: Contender, port: int, concurrency: int, requests: int) -> None:
    cpu, began = time.process_time(), time.perf_counter()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        results = runner.run(contender(port, concurrency, requests))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    truth = dict(httpx.get(f"http://127.0.0.1:{port}/truth", trust_env=False).json())
    errors = sorted((stamp - truth[trace_id]) / 1e6 for trace_id, stamp in results if trace_id in truth)
    events = len(results) * TOKENS / seconds
    line = f"{name:6} C={concurrency:<5} {events:9.0f} events/s  CPU {cpu / seconds:4.0%}"
    if errors:
        line += "  TTFT error p50 {:7.2f} ms  p99 {:7.2f} ms".format(*(quantile(errors, q) for q in (0.5, 0.99)))
    print(line, flush=True)


def compare(concurrencies: list[int], per_stream: int) -> None:
    for ttft, itl in ((0.05, 0.02), (0.0, 0.0)):
        serving = [sys.executable, __file__, "--serve", str(ttft), str(itl)]
        with subprocess.Popen(serving, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            print(f"server: TTFT {ttft * 1000:g} ms, ITL {itl * 1000:g} ms" if itl else "server: as fast as possible")
            try:
                for concurrency in concurrencies if itl else [64]:
                    measure("ours", ours, port, concurrency, concurrency * per_stream)
                    measure("httpx", with_httpx, port, concurrency, concurrency * per_stream)
            finally:
                server.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--requests-per-stream", type=int, default=4)
    parser.add_argument("--serve", type=float, nargs=2, metavar=("TTFT", "ITL"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        uvloop.run(serve(0, *args.serve))
    else:
        compare(args.concurrency, args.requests_per_stream)


if __name__ == "__main__":
    main()
