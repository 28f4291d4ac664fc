"""Small real servers that answer with scripted bytes, and ways to run the load generator against them."""

import asyncio
import contextlib
import json
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from load_header import header

from loadgen.results.record import Footer, Line, RequestRecord
from loadgen.running.job import Job, Wire
from loadgen.running.runner import run
from loadgen.traffic.arrivals import Load
from loadgen.traffic.conversation import Files
from loadgen.wire.client import Address, Tls


@dataclass(frozen=True)
class Got:
    """A request as the server read it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Handler = Callable[[Got, asyncio.StreamWriter], Awaitable[None]]


def chunk(data: bytes | str) -> bytes:
    """One chunk of a chunked body."""
    data = data.encode() if isinstance(data, str) else data
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(payload: object) -> bytes:
    """One server-sent event."""
    return f"data: {payload if isinstance(payload, str) else json.dumps(payload)}\n\n".encode()


def delta(finish: str | None = None, **fields: object) -> bytes:
    """A chat chunk with this delta."""
    return event({"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]})


def usage(prompt: int, completion: int) -> bytes:
    """The chunk with the usage that ends a stream."""
    return event({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}})


ROLE = delta(role="assistant", content="")
DONE = event("[DONE]")
END = b"0\r\n\r\n"


def head(status: str = "200 OK", kind: str = "text/event-stream", **fields: str) -> bytes:
    """A response head; chunked unless a field says otherwise. Underscores in names stand for dashes."""
    headers = {"content-type": kind, **({} if fields else {"transfer-encoding": "chunked"}), **fields}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode()


def answer(tokens: int) -> bytes:
    """A whole chunked reply of so many tokens, as vLLM sends it."""
    words = [delta(content=f" w{i}") for i in range(tokens - 1)] + [delta("length", content=" end")]
    return head() + b"".join(map(chunk, [ROLE, *words, usage(7, tokens), DONE])) + END


def says(data: bytes, then: Callable[[asyncio.StreamWriter], object] = lambda writer: None) -> Handler:
    """A handler that writes these bytes, whatever was asked."""

    async def handle(_got: Got, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        then(writer)

    return handle


async def read_request(reader: asyncio.StreamReader) -> Got:
    """Read one request; IncompleteReadError when the client is gone."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, path, _ = lines[0].split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}
    return Got(method, path, headers, await reader.readexactly(int(headers.get("content-length", 0))))


@contextlib.asynccontextmanager
async def listening(handler: Handler, **options: object) -> AsyncIterator[int]:
    """Serve on a free loopback port while the block lasts; yields the port."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while not writer.is_closing():
                await handler(await read_request(reader), writer)
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.ensure_future(serve(reader, writer)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0, **options)  # type: ignore[arg-type]
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        for _ in range(10):  # turns of the loop in which what waits in the backlog becomes a connection to close
            await asyncio.sleep(0)
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def in_thread(handler: Handler, **options: object) -> Iterator[int]:
    """The same in a thread, for commands that run an event loop of their own; yields the port."""
    loop, started = asyncio.new_event_loop(), threading.Event()
    stop, port = asyncio.Event(), []

    async def serve() -> None:
        async with listening(handler, **options) as number:
            port.append(number)
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert started.wait(10)
    try:
        yield port[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


ONE = Load(concurrency=1, requests=1)


@dataclass
class Lines:
    """What a run wrote."""

    all: list[Line] = field(default_factory=list)

    @property
    def records(self) -> list[RequestRecord]:
        return [line for line in self.all if isinstance(line, RequestRecord)]

    @property
    def footer(self) -> Footer:
        assert isinstance(self.all[-1], Footer)
        return self.all[-1]


def job(
    port: int,
    load: Load = ONE,
    timeout: float = 5.0,
    tls: Tls | None = None,
    files: Files | None = None,
    **workload: object,
) -> Job:
    """A run against a port of this machine."""
    wire = Wire(Address("127.0.0.1", port, tls), "", {"Host": "test"})
    return Job(header(load, timeout, **workload), wire, files or Files())


async def drive(port: int, load: Load = ONE, timeout: float = 5.0, **more: object) -> Lines:
    """Run a load against a port of this machine."""
    lines = Lines()
    await run(job(port, load, timeout, **more), lines.all.append)  # type: ignore[arg-type]
    return lines


def measured(handler: Handler, load: Load = ONE, timeout: float = 5.0, **more: object) -> Lines:
    """Serve a handler and run a load against it, all in one event loop."""

    async def both() -> Lines:
        async with listening(handler) as port:
            return await drive(port, load, timeout, **more)

    return asyncio.run(both())


def certified(folder: Path) -> tuple[ssl.SSLContext, str]:
    """The context of a server called localhost or engine.test, and the file that its clients have to trust."""
    key, certificate = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
               "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost",
               "-addext", "subjectAltName=DNS:localhost,DNS:engine.test"]  # fmt: skip
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs openssl to make a certificate")
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_side.load_cert_chain(certificate, key)
    return server_side, str(certificate)
