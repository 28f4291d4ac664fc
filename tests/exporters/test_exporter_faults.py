"""What can go wrong with spans and with the process itself, against the command as it runs in a pod."""

import contextlib
import gzip
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from exporter_process import COMMAND, ended, running, said
from exporter_servers import Upstream, wait_for
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from exporters.engines import fetch
from exporters.spans import otlp
from slo import catalog

TESTS = Path(__file__).parents[1]
PAGE = (TESTS / "captures" / "vllm-0.32.0-cpu.metrics").read_bytes()
SPANS = (TESTS / "captures" / "vllm-0.32.0-llm_request.otlp.pb").read_bytes()
HEADERS = {"Content-Type": otlp.PROTOBUF}
dice = random.Random(11)


def export(count: int) -> bytes:
    """An export of so many requests of vLLM, each with ids of its own."""
    request = ExportTraceServiceRequest.FromString(SPANS)
    spans = request.resource_spans[0].scope_spans[0].spans
    first = spans[0]
    for _ in range(count - len(spans)):
        spans.add().CopyFrom(first)
    for span in spans:
        span.trace_id, span.span_id = dice.randbytes(16), dice.randbytes(8)
    return request.SerializeToString()


def post(url: str, body: bytes, **headers: str) -> int:
    return httpx.post(f"{url}/v1/traces", content=body, headers=HEADERS | headers, trust_env=False).status_code


def value(url: str, name: str, **labels: str) -> float:
    text = httpx.get(f"{url}/metrics", trust_env=False).text
    samples = (s for f in text_string_to_metric_families(text) for s in f.samples)
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


def test_a_burst_of_ten_thousand_spans_is_counted_whole() -> None:
    """20 senders at once, 512 spans an export as vLLM sends them, some of them twice: every request exactly once."""
    bodies = [export(512) for _ in range(20)]
    with Upstream(PAGE) as engine, running("--engine", engine.url) as (_, url), ThreadPoolExecutor(20) as pool:
        assert set(pool.map(lambda body: post(url, body), [*bodies, *bodies[:5]])) == {200}
        assert value(url, catalog.SPANS_RECEIVED.name) == 25 * 512
        assert value(url, catalog.SPAN_TTFT.name + "_count") == 20 * 512


def test_hostile_exports_cost_nothing_but_a_count() -> None:
    """Garbage, half an export, a bomb, too much: each refused with its status and counted, and the next is taken."""
    bomb = gzip.compress(bytes(200 * 1024 * 1024))
    with Upstream(PAGE) as engine, running("--engine", engine.url) as (process, url):
        before = resident(process)
        assert post(url, dice.randbytes(1000)) == 400
        assert post(url, export(10)[:-3]) == 400
        assert post(url, bomb, **{"Content-Encoding": "gzip"}) == 413
        assert post(url, bytes(otlp.MAX_BODY + 1)) == 413
        assert resident(process) - before < 30
        assert post(url, export(10)) == 200
        assert value(url, catalog.SPANS_REJECTED.name, reason="malformed") == 2
        assert value(url, catalog.SPANS_REJECTED.name, reason="too_large") == 2


def resident(process: subprocess.Popen[str]) -> float:
    """MiB of memory."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


def test_a_page_of_fifty_megabytes_is_not_held() -> None:
    """An engine whose page explodes is down with a reason, costs its limit of memory once, and comes back."""
    with Upstream(PAGE) as engine, running("--engine", engine.url) as (process, url):
        wait_for(lambda: value(url, catalog.SOURCE_UP.name) == 1)
        before = resident(process)
        engine.body = PAGE * (50_000_000 // len(PAGE))
        for _ in range(5):
            wait_for(lambda: value(url, catalog.SOURCE_UP.name) == 0)
        assert resident(process) - before < 3 * fetch.MAX_PAGE / 2**20
        engine.body = PAGE
        wait_for(lambda: value(url, catalog.SOURCE_UP.name) == 1)


def stalled(url: str, body: bytes, length: int) -> socket.socket:
    """A sender that has said how long its body is, and sent a part of it."""
    parts = httpx.URL(url)
    sender = socket.create_connection((parts.host, parts.port or 0))
    sender.sendall(f"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: {otlp.PROTOBUF}\r\n".encode())
    sender.sendall(f"Content-Length: {length}\r\n\r\n".encode() + body)
    return sender


def test_senders_that_stall_cannot_fill_the_memory() -> None:
    """Many senders that stop in the middle of large bodies: from some amount on 429 with Retry-After, and no more."""
    with Upstream(PAGE) as engine, running("--engine", engine.url) as (process, url):
        senders = [stalled(url, bytes(otlp.MAX_BODY - 1), otlp.MAX_BODY) for _ in range(9)]
        refused = ""
        for sender in reversed(senders):
            sender.settimeout(0.2)
            try:
                refused = refused or sender.recv(1000).decode()
            except TimeoutError:
                continue
        assert refused.startswith("HTTP/1.1 429")
        assert "retry-after: 1" in refused.lower()
        assert resident(process) < 200
        for sender in senders:
            sender.close()
        wait_for(lambda: post(url, export(2)) == 200)


def test_sigterm_while_a_sender_stalls() -> None:
    """A body that never ends does not hold the end up, and is no traceback."""
    with (
        Upstream(PAGE) as engine,
        running("--engine", engine.url) as (process, url),
        stalled(url, SPANS[:100], 1000) as sender,
    ):
        wait_for(lambda: httpx.get(f"{url}/healthz", trust_env=False).is_success)
        assert ended(process) == 0
        assert sender.recv(1000).startswith(b"HTTP/1.1 408")


def test_sigterm_during_a_scrape_of_an_engine_that_hangs() -> None:
    """The scrape is answered with what is there, the last spans too, and the process ends before the engine answers."""
    with Upstream(PAGE) as engine, running("--engine", engine.url) as (process, url):
        assert post(url, export(10)) == 200
        engine.gate.clear()
        pages: list[str] = []
        scraper = threading.Thread(target=lambda: pages.append(httpx.get(f"{url}/metrics", trust_env=False).text))
        reads = engine.reads
        scraper.start()
        wait_for(lambda: engine.reads > reads)
        assert ended(process) == 0
        scraper.join()
    assert f'{catalog.SPAN_TTFT.name}_count{{model_name="tiny-llama"}} 10.0' in pages[0]


def test_spans_in_hand_are_forwarded_before_the_end() -> None:
    """SIGTERM right behind an export: what is to go on reaches the upstream before the process is gone."""
    with Upstream(PAGE) as engine, Upstream() as collector:
        args = ("--engine", engine.url, "--forward", collector.url, "--forward-keep", "1")
        with running(*args) as (process, url):
            assert post(url, export(50)) == 200
            assert ended(process) == 0
        sent = [ExportTraceServiceRequest.FromString(gzip.decompress(body)) for body in collector.posted]
    assert sum(len(s.spans) for e in sent for r in e.resource_spans for s in r.scope_spans) == 50


def test_a_grpc_port_that_is_taken_is_a_warning_when_nobody_asked_for_it() -> None:
    """A Collector has the default port: the sidecar says so in one line and serves; asked for, it ends with 2."""
    with socket.socket() as collector:
        collector.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # then it is taken already
            collector.bind(("127.0.0.1", 4317))
            collector.listen()
        args = ["--engine", "http://127.0.0.1:1", "--gpu", "none", "--listen", "127.0.0.1:0"]
        with subprocess.Popen([*COMMAND, *args], stderr=subprocess.PIPE, text=True) as process:
            assert said(process, "(cannot take spans over gRPC on 127.0.0.1:4317: Address already in use.* HTTP only)")
            assert said(process, r"serving (\S+)")
            assert ended(process) == 0
        asked = subprocess.run([*COMMAND, *args, "--otlp-grpc", "127.0.0.1:4317"], capture_output=True, text=True)
    assert asked.returncode == 2
    assert next(line for line in asked.stderr.splitlines() if " INFO " not in line).startswith("slo-exporter: cannot")


def reachable(path: str) -> bool:
    """Whether every user may go there."""
    return all(folder.stat().st_mode & 0o1 for folder in (Path(path), *Path(path).parents))


def test_nobody_on_a_disk_that_cannot_be_written() -> None:
    """With no home and not a byte to write, as nobody where the tests may become that: it serves and takes spans."""
    become_nobody = os.geteuid() == 0 and all(map(reachable, (sys.prefix, sys.base_prefix, str(TESTS))))
    code = (
        "import os, resource, sys\n"
        "from exporters.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "os.chdir('/')\n"
        f"{'os.setgid(65534); os.setuid(65534)' if become_nobody else ''}\n"
        "sys.exit(main())"
    )
    args = ["--gpu", "none", "--listen", "127.0.0.1:0", "--otlp-grpc", "127.0.0.1:0", "--engine"]
    env = {"HOME": "/nonexistent", "TMPDIR": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"}
    with Upstream(PAGE) as engine:
        command = [sys.executable, "-c", code, *args, engine.url]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env) as process:
            url = said(process, r"serving (\S+)/metrics")
            assert post(url, export(10)) == 200
            assert value(url, catalog.SPAN_TTFT.name + "_count") == 10
            assert ended(process) == 0


def test_memory_stays_flat_under_spans() -> None:
    """60 000 requests of made-up models through HTTP: from some point on the memory does not grow."""
    with Upstream(PAGE) as engine, running("--engine", engine.url) as (process, url):
        started = time.monotonic()
        with httpx.Client(base_url=url, headers=HEADERS, trust_env=False) as client:
            template, sizes = ExportTraceServiceRequest.FromString(export(2000)), []
            spans = template.resource_spans[0].scope_spans[0].spans
            for round_ in range(30):
                for span in spans:
                    span.trace_id, span.span_id = dice.randbytes(16), dice.randbytes(8)
                template.resource_spans[0].resource.attributes.add(key="model_name").value.string_value = f"m{round_}"
                assert client.post("/v1/traces", content=template.SerializeToString()).is_success
                sizes.append(resident(process))
        print(f"{30 * 2000} spans in {time.monotonic() - started:.1f} s, {sizes[0]:.0f} to {sizes[-1]:.0f} MiB")
    assert max(sizes[20:]) - max(sizes[:20]) < 5
    assert sizes[-1] < 120
