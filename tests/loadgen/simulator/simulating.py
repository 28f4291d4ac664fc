"""A simulator on a real socket, and a collector that keeps the span bodies it is sent: what several tests run."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

from loadgen.simulator.model import Engine, EngineConfig
from loadgen.simulator.server import Server
from loadgen.simulator.spans import SpanSender

QUICK = EngineConfig(
    max_model_len=4096, kv_blocks=512, step_seconds=0.002, prefill_token_seconds=1 / 100_000, mean_output_tokens=20.0
)
DEADLINE = 10.0


def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds; an AssertionError after DEADLINE seconds."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "the condition never held"
        time.sleep(0.005)


class Running:
    """A simulator that serves: its address, a client for it, and the engine inside."""

    def __init__(self, server: Server, listener: socket.socket) -> None:
        self.server = server
        self.engine = server.driver.engine
        self.listener = listener
        self.address: tuple[str, int] = listener.getsockname()
        self.url = "http://{}:{}".format(*self.address)

    @contextmanager
    def client(self) -> Iterator[httpx.Client]:
        """A client with the simulator's address."""
        with httpx.Client(base_url=self.url, timeout=DEADLINE, trust_env=False) as client:
            yield client


@contextmanager
def serving(config: EngineConfig = QUICK, spans: SpanSender | None = None) -> Iterator[Running]:
    """Run a simulator in a thread for the time of the block."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(Engine(config, seed=1), "sim", seed=1, spans=spans)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        until(lambda: server.started)
        yield Running(server, listener)
    finally:
        server.should_exit = True
        thread.join(DEADLINE)
        listener.close()
        assert not thread.is_alive()


class Collector:
    """An OTLP/HTTP endpoint; `bodies` are the requests it got."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/traces"
