"""A server that does little but stream, and knows what it did: the ground truth of benchmarks of clients.

    python truth_server.py TTFT ITL TOKENS [CORE]

It prints its port and answers every POST with TOKENS events, each in a write of its own, token k at the absolute time
TTFT + k * ITL (seconds) after the request; with ITL 0 as fast as it can. GET /truth gives, and forgets: when it read
the first request and wrote the last event (perf_counter_ns, which all processes share), how many events it wrote, when
it wrote the first token of each request (by X-Request-Id or trace id), how long after the request that was, and its
gaps, in ns. Any other GET gets a list of models.
"""

import asyncio
import gc
import json
import os
import re
import sys
import time
from array import array
from typing import ClassVar, cast

import uvloop

NS = 1_000_000_000
_EVENT = {
    "id": "chatcmpl-0123456789abcdef0123456789abcdef",
    "object": "chat.completion.chunk",
    "created": 1_700_000_000,
    "model": "bench",
    "choices": [{"index": 0, "delta": {"content": " token"}, "logprobs": None, "finish_reason": None}],
}


def chunk(payload: object) -> bytes:
    """One server-sent event as one chunk of a chunked body."""
    data = f"data: {payload if isinstance(payload, str) else json.dumps(payload, separators=(',', ':'))}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(data), data)


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = chunk(_EVENT)


class Server(asyncio.Protocol):
    """One connection."""

    firsts: ClassVar[dict[str, int]] = {}
    gaps: ClassVar["array[int]"] = array("q")
    ttfts: ClassVar["array[int]"] = array("q")
    events = began = ended = 0

    def __init__(self, ttft: float, itl: float, tokens: int) -> None:
        self.ttft, self.itl, self.tokens = ttft, itl, tokens
        self.loop = asyncio.get_running_loop()
        self.pending = b""
        usage = {"choices": [], "usage": {"prompt_tokens": 8, "completion_tokens": tokens}}
        self.end = chunk(usage) + chunk("[DONE]") + b"0\r\n\r\n"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.pending += data
        head, blank, body = self.pending.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        if not blank or len(body) < length:
            return
        self.pending, self.received = b"", time.perf_counter_ns()
        if head.startswith(b"GET"):
            self.answer(self.truth() if head.startswith(b"GET /truth") else {"data": [{"id": "bench"}]})
            return
        Server.began = Server.began or self.received
        key = re.search(rb"(?:X-Request-Id: |traceparent: 00-)(\w+)", head, re.IGNORECASE)
        self.key = key[1].decode() if key else ""
        self.transport.write(HEAD)
        self.sent = self.left = 0
        self.left = self.tokens
        if self.itl:
            self.wait()
        else:
            self.loop.call_soon(self.blast)

    def truth(self) -> dict[str, object]:
        found = {
            "began": Server.began, "ended": Server.ended, "events": Server.events, "firsts": dict(Server.firsts),
            "ttfts": Server.ttfts.tolist(), "gaps": Server.gaps.tolist(),
        }  # fmt: skip
        Server.began = Server.ended = Server.events = 0
        Server.firsts.clear()
        del Server.gaps[:], Server.ttfts[:]
        return found

    def answer(self, value: object) -> None:
        body = json.dumps(value).encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        self.transport.write(head + body)

    def finish(self) -> None:
        self.transport.write(EVENT + self.end)
        Server.events, Server.ended = Server.events + self.tokens, time.perf_counter_ns()

    def blast(self) -> None:
        """One event per turn of the loop: the loop would join two writes of one turn."""
        if self.transport.is_closing():
            return
        self.left -= 1
        if self.left:
            self.transport.write(EVENT)
            self.loop.call_soon(self.blast)
        else:
            self.finish()

    def wait(self) -> None:
        due = self.received + int((self.ttft + (self.tokens - self.left) * self.itl) * NS)
        self.loop.call_later(max(0, due - time.perf_counter_ns()) / NS, self.emit)

    def emit(self) -> None:
        if self.transport.is_closing():
            return
        now = time.perf_counter_ns()
        if self.left == self.tokens:
            Server.firsts[self.key] = now
            Server.ttfts.append(now - self.received)
        else:
            Server.gaps.append(now - self.sent)
        self.sent, self.left = now, self.left - 1
        if self.left:
            self.transport.write(EVENT)
            self.wait()
        else:
            self.finish()


async def serve(ttft: float, itl: float, tokens: int) -> None:
    """Serve on a free loopback port until killed."""
    gc.disable()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Server(ttft, itl, tokens), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    if len(sys.argv) > 4:
        os.sched_setaffinity(0, {int(sys.argv[4])})
    uvloop.run(serve(float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])))
