"""Real small servers for the exporter's tests: scripted upstreams, and the sidecar itself, on loopback ports."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import uvicorn
from fastapi import FastAPI


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Return as soon as the condition holds; fail when it does not in a time that is long on any machine."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.005)


class Upstream:
    """An HTTP server whose answer is a variable: `body`, `status`, or one of the ways to misbehave."""

    def __init__(self, body: bytes = b"") -> None:
        self.body = body
        self.status = 200
        self.content_type = "text/plain"
        self.answer: dict[str, str] = {}  # headers of the answer to a POST
        self.claimed = 0  # bytes promised beyond those sent
        self.drip = 0.0  # seconds before every byte of a body
        self.encoding = ""
        self.gate = threading.Event()  # closed: requests hang
        self.gate.set()
        self.reads = 0
        self.headers: dict[str, str] = {}
        self.posted: list[bytes] = []
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                upstream.reads += 1
                upstream.headers = dict(self.headers)
                upstream.gate.wait(60)
                body = upstream.body
                with contextlib.suppress(ConnectionError):
                    self.send_response(upstream.status)
                    self.send_header("Content-Type", upstream.content_type)
                    self.send_header("Content-Length", str(len(body) + upstream.claimed))
                    if upstream.encoding:
                        self.send_header("Content-Encoding", upstream.encoding)
                    self.end_headers()
                    for start in range(0, len(body), 1 if upstream.drip else len(body)):
                        time.sleep(upstream.drip)
                        self.wfile.write(body[start : start + 1] if upstream.drip else body)
                self.close_connection = upstream.claimed > 0

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                upstream.gate.wait(60)
                upstream.headers = dict(self.headers)
                upstream.posted.append(body)
                with contextlib.suppress(ConnectionError):
                    self.send_response(upstream.status)
                    for name, value in upstream.answer.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def __enter__(self) -> "Upstream":
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextlib.contextmanager
def serving(app: FastAPI, close: Callable[[], Awaitable[None]]) -> Iterator[tuple[str, uvicorn.Server]]:
    """The app on a port of its own, in a thread, closed in the end; yields its URL and the server."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=1))

    async def serve() -> None:
        await server.serve()
        await close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    wait_for(lambda: server.started)
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}", server
    finally:
        server.should_exit = True
        thread.join()
