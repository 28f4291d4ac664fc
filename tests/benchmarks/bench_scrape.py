"""What a scrape costs: the sidecar's way through an engine's page against prometheus_client's own parser and writer.

    python tests/benchmarks/bench_scrape.py [--json]

Both sides run in this process, in turns, on the same pages, and CPU time is counted: the ratio holds on any machine.
Then the whole sidecar runs as a process of its own and is scraped over HTTP, for its CPU per scrape and its memory.
"""

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from exporters.engines.reader import EngineParser
from exporters.serving.page import engine_text

TESTS = Path(__file__).parents[1]
CAPTURES = TESTS / "captures"
HANDWRITTEN = TESTS / "exporters" / "handwritten"
DP8 = "vllm-0.32.0-dp8"
ROUNDS = 5
SCRAPES = 200


class Families:
    """Parsed families as a collector, for generate_latest."""

    def __init__(self, text: str) -> None:
        self._text = text

    def collect(self) -> Iterator[Metric]:
        return text_string_to_metric_families(self._text)


def pages() -> dict[str, bytes]:
    """A page of every engine: the captures of vLLM, eight data-parallel ranks made of two, and the handwritten ones."""
    found = {path.stem: path.read_bytes() for path in sorted(CAPTURES.glob("vllm-0.32.0-*.metrics"))}
    others = {path.stem: path.read_bytes() for path in sorted(HANDWRITTEN.glob("*.metrics"))}
    return {**found, DP8: ranks(found["vllm-0.32.0-dp2"], 8), **others}


def ranks(page: bytes, count: int) -> bytes:
    """A page of engines 0 and 1 with the lines of engine 1 repeated for the others."""
    lines: list[bytes] = []
    for line in page.split(b"\n"):
        is_last = b'engine="1"' in line
        lines += [line.replace(b'engine="1"', b'engine="%d"' % i) for i in range(1, count)] if is_last else [line]
    return b"\n".join(lines)


def cpu(call: Callable[[], object], times: int) -> float:
    """CPU milliseconds of one call."""
    before = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - before) / times * 1e3


def compare(page: bytes) -> dict[str, float]:
    """Both ways, the best of some rounds in turns, with the sidecar's first scrape of a page apart."""
    parser = EngineParser()
    first = cpu(lambda: engine_text([parser.parse(page)]), 1)
    ours, theirs, copies = [], [], []
    for _ in range(ROUNDS):
        ours.append(cpu(lambda: engine_text([parser.parse(page)]), 20))
        theirs.append(cpu(lambda: generate_latest(Families(page.decode())), 2))
        copies.append(cpu(lambda: bytearray(page), 500))
    return {
        "lines": page.count(b"\n"),
        "first_ms": first,
        "ours_ms": min(ours),
        "prometheus_client_ms": min(theirs),
        "ratio": min(theirs) / min(ours),
        "copies": min(ours) / min(copies),
    }


def whole(page: bytes) -> dict[str, float]:
    """The command beside an upstream that serves `page`: CPU per scrape, HTTP and gzip included, and memory."""
    with serving(lambda: page) as engine, sidecar(engine) as (pid, url), httpx.Client(trust_env=False) as client:
        for _ in range(20):
            client.get(url).raise_for_status()
        before = seconds_of(pid)
        for _ in range(SCRAPES):
            client.get(url).raise_for_status()
        return {"cpu_ms": (seconds_of(pid) - before) / SCRAPES * 1e3, "rss_mib": resident(pid)}


@contextlib.contextmanager
def sidecar(engine: str, *more: str) -> Iterator[tuple[int, str]]:
    """The command as a process of its own beside an engine; yields its id and the URL of its metrics."""
    command = [sys.executable, "-c", "import sys; from exporters.cli import main; sys.exit(main())"]
    args = ["--engine", engine, "--gpu", "none", "--listen", "127.0.0.1:0", *more]
    with subprocess.Popen([*command, *args], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        lines = (re.search(r"serving (http://\S+)", line) for line in process.stderr)
        try:
            yield process.pid, next(found[1] for found in lines if found)
        finally:
            process.terminate()


def resident(pid: int) -> float:
    """MiB of memory that a process holds."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


def seconds_of(pid: int) -> float:
    """CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def serving(page: Callable[[], bytes]) -> Iterator[str]:
    """A server that answers everything with what `page` gives, and takes what is posted; yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = page()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--json", action="store_true", help="print one JSON object")
    as_json = options.parse_args().json
    results = {name: compare(page) for name, page in pages().items()}
    process = whole(pages()[DP8])
    if as_json:
        print(json.dumps({"parser": results, "process_dp8": process}))
        return
    print(f"{'page':30}{'lines':>6}{'first ms':>10}{'ours ms':>9}{'prometheus_client ms':>22}{'ratio':>7}{'copies':>8}")
    for name, r in results.items():
        print(
            f"{name:30}{r['lines']:6}{r['first_ms']:10.2f}{r['ours_ms']:9.3f}{r['prometheus_client_ms']:22.2f}"
            f"{r['ratio']:7.1f}{r['copies']:8.0f}"
        )
    print("ratio: prometheus_client to ours; copies: how often the bytes could be copied in our time")
    print(f"sidecar process, dp8: {process['cpu_ms']:.2f} ms CPU per scrape, {process['rss_mib']:.0f} MiB resident")


if __name__ == "__main__":
    main()
