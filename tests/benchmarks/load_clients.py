"""The clients that benchmarks compare, each in a process of its own: `load_clients.py NAME PORT CONCURRENCY REQUESTS`.

| name | is |
|---|---|
| raw | a uvloop protocol that does nothing with a read but look for `data:`: what Python can do |
| ours | the runner as `slo-load run` uses it, records encoded and written to a file |
| httpx | httpx, JSON per event |
| vllm | the request function of `vllm bench serve`, in the Python of an installation of vLLM |

It prints one JSON object: seconds, CPU seconds, peak memory in MB, events, and the stamps of each reply in ns: when it
was asked for, its first token by the id of its request, and the gaps.
"""

import asyncio
import importlib.util
import json
import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Coroutine
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import uvloop

sys.path.insert(0, str(Path(__file__).parents[2]))

# Stamps of each reply in ns, by its request's id: the start, then one per token.
Stamps = dict[str, list[int]]
Contender = Callable[[int, int, int], Coroutine[None, None, Stamps]]
BODY = json.dumps({"model": "bench", "prompt": "x" * 300, "stream": True}).encode()


class Raw(asyncio.Protocol):
    """Scans, stamps, and sends the next request when it sees the end."""

    def __init__(self, port: int, todo: deque[int], done: "asyncio.Future[None]", stamps: Stamps) -> None:
        self.head = b"POST /v1/completions HTTP/1.1\r\nHost: b:%d\r\nContent-Length: %d\r\n" % (port, len(BODY))
        self.todo, self.done, self.stamps = todo, done, stamps
        self.current: list[int] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.send()

    def send(self) -> None:
        if self.todo:
            self.id = self.todo.popleft()
            self.current = [time.perf_counter_ns()]
            self.transport.write(self.head + b"X-Request-Id: %d\r\n\r\n" % self.id + BODY)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter_ns()
        self.current += [now] * data.count(b"data: {")
        if data.endswith(b"0\r\n\r\n"):
            del self.current[-1]  # the usage
            self.stamps[str(self.id)] = self.current
            self.send()
            if not self.todo and not self.done.done() and len(self.stamps) == self.stamps_wanted:
                self.done.set_result(None)

    stamps_wanted = 0


async def raw(port: int, concurrency: int, requests: int) -> Stamps:
    loop, stamps = asyncio.get_running_loop(), cast(Stamps, {})
    done, todo, Raw.stamps_wanted = loop.create_future(), deque(range(requests)), requests
    for _ in range(concurrency):
        await loop.create_connection(lambda: Raw(port, todo, done, stamps), "127.0.0.1", port)
    await done
    return stamps


async def ours(port: int, concurrency: int, requests: int) -> Stamps:
    from io import FileIO

    from loadgen.results.record import Client, Fingerprint, Header, Line, RequestRecord, append
    from loadgen.running.job import Job, Wire
    from loadgen.running.runner import run
    from loadgen.traffic.arrivals import Load
    from loadgen.traffic.workload import Workload
    from loadgen.wire.client import Address

    header = Header(
        started_unix_ns=0, target="", timeout=60, workload=Workload(prompt_tokens=64),
        load=Load(concurrency=concurrency, requests=requests), fingerprint=Fingerprint(model="bench"),
        client=Client(version="", python="", event_loop="", cores=1),
    )  # fmt: skip
    stamps: Stamps = {}
    origin = 0
    with tempfile.NamedTemporaryFile() as name, FileIO(name.name, "w") as file:

        def write(line: Line) -> None:
            nonlocal origin
            append(file, line)
            if isinstance(line, Header):
                origin = time.perf_counter_ns() - (time.time_ns() - line.started_unix_ns)
            if isinstance(line, RequestRecord):
                assert line.error is None, line
                stamps[line.trace_id] = [origin + stamp for stamp in (line.sent_ns, *line.token_ns)]

        await run(Job(header, Wire(Address("127.0.0.1", port), "", {"Host": "bench"})), write)
    return stamps


async def httpx(port: int, concurrency: int, requests: int) -> Stamps:
    import httpx as library

    url, limits = f"http://127.0.0.1:{port}/v1/completions", library.Limits(None, None)
    async with library.AsyncClient(limits=limits, timeout=60, trust_env=False) as client:

        async def one(key: str) -> list[int]:
            found = [time.perf_counter_ns()]
            async with client.stream("POST", url, content=BODY, headers={"X-Request-Id": key}) as response:
                async for line in response.aiter_lines():
                    if line.startswith("data: {") and json.loads(line[6:])["choices"]:
                        found.append(time.perf_counter_ns())
            return found

        return await _slots(one, concurrency, requests)


async def vllm(port: int, concurrency: int, requests: int) -> Stamps:
    import aiohttp

    name = "vllm/benchmarks/lib/endpoint_request_func.py"
    path = next(found for place in sys.path if (found := Path(place) / name).exists())
    spec = importlib.util.spec_from_file_location("endpoint_request_func", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    url = f"http://127.0.0.1:{port}/v1/completions"
    limits: dict[str, Any] = {"limit": concurrency, "limit_per_host": concurrency, "keepalive_timeout": 60}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(**limits)) as session:

        async def one(key: str) -> list[int]:
            asked = module.RequestFuncInput(
                prompt="x" * 300, api_url=url, prompt_len=64, output_len=64, model="bench", request_id=key
            )
            output = await module.async_request_openai_completions(asked, session)
            assert output.success, output.error
            found = [output.start_time, output.start_time + output.ttft]
            for gap in output.itl:
                found.append(found[-1] + gap)
            return [int(stamp * 1e9) for stamp in found]

        return await _slots(one, concurrency, requests)


async def _slots(one: Callable[[str], Coroutine[None, None, list[int]]], concurrency: int, requests: int) -> Stamps:
    todo, stamps = deque(map(str, range(requests))), cast(Stamps, {})

    async def slot() -> None:
        while todo:
            key = todo.popleft()
            stamps[key] = await one(key)

    await asyncio.gather(*(slot() for _ in range(concurrency)))
    return stamps


CONTENDERS: dict[str, Contender] = {"raw": raw, "ours": ours, "httpx": httpx, "vllm": vllm}


def main(name: str, port: int, concurrency: int, requests: int) -> None:
    if len(os.sched_getaffinity(0)) > 1:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    cpu, began = time.process_time(), time.perf_counter()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        stamps = runner.run(CONTENDERS[name](port, concurrency, requests))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert len(stamps) == requests
    (peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    megabytes = int(peak.split()[1]) / 1024
    result = {
        "seconds": seconds,
        "cpu": cpu,
        "events": sum(len(reply) - 1 for reply in stamps.values()),
        "megabytes": megabytes,
        "replies": {key: reply[:2] for key, reply in stamps.items()},
        "gaps": [after - before for reply in stamps.values() for before, after in pairwise(reply[1:])],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]))
