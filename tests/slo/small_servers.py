"""Servers for tests: one that answers what a function says, and a real Prometheus over given samples."""

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="Prometheus is not installed (Debian: prometheus)",
)

# method, path, headers, body -> status, body
Answer = Callable[[str, str, Mapping[str, str], bytes], tuple[int, str]]


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """The URL of a server that answers every request with what `answer` returns."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, text = answer(self.command, self.path, headers, body)
            self.send_response(status)
            self.send_header("content-length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        do_POST = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# Series as text (`name{label="value"}`) with its samples: Unix seconds and value.
Samples = Mapping[str, Iterable[tuple[float, float]]]


@contextmanager
def prometheus(directory: Path, samples: Samples) -> Iterator[str]:
    """The URL of a Prometheus that holds these samples."""
    lines = (f"{name} {value:.10g} {at:.3f}\n" for name, pairs in samples.items() for at, value in pairs)
    text, data = directory / "samples.txt", directory / "data"
    text.write_text("".join(lines) + "# EOF\n")
    load = ["promtool", "tsdb", "create-blocks-from", "openmetrics", text, data]
    subprocess.run(load, check=True, capture_output=True)
    (directory / "prometheus.yml").write_text("")
    port = _free_port()
    command = [
        "prometheus",
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={data}",
        "--storage.tsdb.retention.time=100y",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (directory / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            _await_ready(f"http://127.0.0.1:{port}", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _await_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/-/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"no Prometheus at {url}")
