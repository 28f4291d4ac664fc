"""The sidecar over HTTP, between real scripted upstreams and real scrapers."""

import contextlib
import gzip
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import uvicorn
from exporter_servers import Upstream, serving, wait_for
from nvml_replay import Replay, capture
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporters.collector import Collector
from exporters.engines import fetch
from exporters.engines import sources as engine_sources
from exporters.engines.reader import MAX_SERIES
from exporters.gpus import sources as gpu_sources
from exporters.serving.server import create_app
from exporters.spans import otlp
from exporters.spans.exact import SpanMetrics
from exporters.spans.intake import Intake
from exporters.spans.reader import REQUEST_SPAN, SpanReader
from slo import catalog
from slo.sli import LatencySli
from slo.spec.model import Slo

TESTS = Path(__file__).parents[1]
PAGE = (TESTS / "captures" / "vllm-0.32.0-cpu.metrics").read_bytes()
SPANS = (TESTS / "captures" / "vllm-0.32.0-llm_request.otlp.pb").read_bytes()
DCGM = (Path(__file__).parent / "handwritten" / "dcgm-4.5.txt").read_bytes()
SLO = Slo(service="chat", name="ttft", objective=0.99, sli=LatencySli(catalog.TTFT, 0.3))
SHORT = {"X-Prometheus-Scrape-Timeout-Seconds": "0.6"}


@contextlib.contextmanager
def sidecar(*engines: str, dcgm: str = "", nvml: Replay | None = None) -> Iterator[tuple[httpx.Client, uvicorn.Server]]:
    """A sidecar of these upstreams, and a client to it."""
    pages, registry = fetch.Pages(), CollectorRegistry()
    url_of_gpus = dcgm and fetch.metrics_url(dcgm)
    choice = "dcgm" if dcgm else "nvml" if nvml else "none"
    gpus = gpu_sources.choose(pages, nvml, choice, dcgm_url=url_of_gpus, env={}).found
    collector = Collector(engine_sources.engines(pages, [engine_sources.engine_url(url) for url in engines]), gpus)
    spans = SpanMetrics(registry, [SLO])
    intake = Intake(collector, spans, SpanReader())
    app = create_app(collector, spans, intake, registry)
    with serving(app, pages.close) as (url, server), httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        yield client, server


def values(response: httpx.Response) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    """Per sample name, the value of each label set."""
    found: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for family in parse_text(response.text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


def up(response: httpx.Response) -> list[float]:
    return list(values(response)[catalog.SOURCE_UP.name].values())


def test_engine_and_gpu_on_one_page_joined() -> None:
    """Engine families, GPU families and the info metric that joins them come from one scrape."""
    with Upstream(PAGE) as engine, Upstream(DCGM) as dcgm, sidecar(engine.url, dcgm=dcgm.url) as (client, _):
        found = values(client.get("/metrics"))
    assert found[catalog.GENERATION_TOKENS.name] == {frozenset({("engine", "0"), ("model_name", "tiny-llama")}): 245}
    assert found[catalog.GPU_ENERGY.name] == {frozenset({("gpu_uuid", "GPU-aaaa"), ("gpu", "0")}): 123456.789}
    assert found[catalog.ENGINE_GPU_INFO.name] == {
        frozenset({("model_name", "tiny-llama"), ("gpu_uuid", uuid)}): 1 for uuid in ("GPU-aaaa", "GPU-bbbb")
    }
    assert set(found[catalog.SOURCE_UP.name].values()) == {1}


def test_an_engine_that_is_gone_keeps_its_gpus() -> None:
    """What a GPU did to an engine is looked for when the engine no longer answers: their join stays."""
    with Upstream(PAGE) as engine, Upstream(DCGM) as dcgm, sidecar(engine.url, dcgm=dcgm.url) as (client, _):
        before = values(client.get("/metrics"))
        engine.status = 500
        after = values(client.get("/metrics"))
    assert catalog.GENERATION_TOKENS.name not in after
    assert after[catalog.ENGINE_GPU_INFO.name] == before[catalog.ENGINE_GPU_INFO.name]


def test_two_engines_of_one_model_do_not_collide() -> None:
    """Two replicas behind one sidecar keep their own series, told apart by endpoint, under one HELP and TYPE."""
    with Upstream(PAGE) as a, Upstream(PAGE) as b, sidecar(a.url, b.url) as (client, _):
        response = client.get("/metrics")
        found = values(response)[catalog.RUNNING.name]
        assert {dict(labels)["endpoint"] for labels in found} == {a.url + "/metrics", b.url + "/metrics"}
    assert response.text.count(f"# TYPE {catalog.RUNNING.name} ") == 1
    lines = [line.rpartition(" ")[0] for line in response.text.splitlines() if not line.startswith("#")]
    assert len(lines) == len(set(lines))


def test_both_text_formats_and_gzip() -> None:
    """Prometheus text by default, OpenMetrics that the strict parser takes on request, and gzip for who accepts it."""
    with Upstream(PAGE) as engine, Upstream(DCGM) as dcgm, sidecar(engine.url, dcgm=dcgm.url) as (client, _):
        client.post("/v1/traces", content=SPANS, headers={"Content-Type": otlp.PROTOBUF})
        plain = client.get("/metrics", headers={"Accept-Encoding": "identity"})
        openmetrics = client.get("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0,*/*;q=0.1"})
        zipped = client.get("/metrics", headers={"Accept-Encoding": "gzip"})
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "Content-Encoding" not in plain.headers
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    names = {sample.name for family in parse_openmetrics(openmetrics.text) for sample in family.samples}
    assert names == values(plain).keys()
    assert not [name for name in names if name.endswith("_created")]
    assert zipped.headers["content-encoding"] == "gzip"
    assert values(zipped).keys() == names


@pytest.mark.parametrize("accept", ["application/openmetrics-text;version=abc", "nonsense", ";;,,", "*/*"])
def test_odd_accept_headers_get_a_page(accept: str) -> None:
    """No Accept header can break a scrape."""
    with Upstream(PAGE) as engine, sidecar(engine.url) as (client, _):
        assert client.get("/metrics", headers={"Accept": accept}).status_code == 200


def break_down(engine: Upstream, way: str) -> str:
    """Make an upstream fail in one way; returns what the sidecar should say about it."""
    if way == "hanging":
        engine.gate.clear()
        return "no answer within 0.3 s"
    if way == "slow":
        engine.drip = 0.01
        return "no answer within 0.3 s"
    if way == "compressed":
        engine.body, engine.encoding = gzip.compress(bytes(50_000_000)), "gzip"
        return "a page compressed with gzip"
    if way == "50 MB":
        engine.body = PAGE * (50_000_000 // len(PAGE))
        return "a page of more than 8 MiB"
    if way == "500":
        engine.status = 500
        return "HTTP 500"
    if way == "half a body":
        engine.body, engine.claimed = PAGE[:5000], 1000
        return "no answer"
    engine.body = {"garbage": b"\x00\xff\xfe", "html": b"<html>login</html>\n", "half a page": PAGE[:5000]}[way]
    return {"garbage": "cut short", "html": "a web page", "half a page": "cut short"}[way]


WAYS = ["hanging", "slow", "500", "half a body", "half a page", "garbage", "html", "50 MB", "compressed"]


@pytest.mark.parametrize("way", WAYS)
def test_a_broken_engine_costs_only_its_own_part(way: str, caplog: pytest.LogCaptureFixture) -> None:
    """However one engine fails, the others and the GPUs are served in time, and it is back when it is back."""
    with Upstream(PAGE) as bad, Upstream(PAGE) as good, Upstream(DCGM) as dcgm:
        said = break_down(bad, way)
        with sidecar(bad.url, good.url, dcgm=dcgm.url) as (client, _):
            started = time.monotonic()
            response = client.get("/metrics", headers=SHORT)
            assert time.monotonic() - started < 3.0  # less than the 4 s of a scrape that sets no limit
            assert up(response) == [0, 1, 1]
            assert catalog.GPU_ENERGY.name in values(response)
            assert len(values(response)[catalog.RUNNING.name]) == 1
            wait_for(lambda: up(client.get("/metrics", headers=SHORT))[0] == 0 and said in caplog.text)
            bad.gate.set()
            bad.status, bad.claimed, bad.body, bad.encoding, bad.drip = 200, 0, PAGE, "", 0
            wait_for(lambda: up(client.get("/metrics", headers=SHORT)) == [1, 1, 1])


def test_an_engine_that_is_not_there_yet(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing listens: the page is served with source_up 0, and the reason is logged."""
    with Upstream() as gone:
        pass
    with sidecar(gone.url) as (client, _):
        assert up(client.get("/metrics")) == [0]
    assert any("no connection" in record.getMessage() for record in caplog.records)


def test_a_hundred_scrapers_are_one_upstream_read() -> None:
    """While one reading is under way every scraper waits for it: the engine is asked once."""
    with Upstream(PAGE) as engine, sidecar(engine.url) as (client, server), ThreadPoolExecutor(100) as pool:
        engine.gate.clear()
        answers = [pool.submit(client.get, "/metrics") for _ in range(100)]
        wait_for(lambda: len(server.server_state.tasks) == 100)
        engine.gate.set()
        assert [len(values(answer.result())[catalog.RUNNING.name]) for answer in answers] == [1] * 100
        assert engine.reads == 1


def test_a_label_that_explodes_costs_its_family_only(caplog: pytest.LogCaptureFixture) -> None:
    """A scanner has invented more routes than a family may have series: the family is left out whole, and counted."""
    routes = b"".join(
        b'http_requests_total{handler="/%d",method="GET",status="4xx"} 1.0\n' % n for n in range(MAX_SERIES)
    )
    with Upstream(PAGE + routes) as engine, sidecar(engine.url) as (client, _):
        for _ in range(2):
            found = values(client.get("/metrics"))
            assert catalog.HTTP_REQUESTS.name not in found
            assert found[catalog.RUNNING.name]
            ((labels, series),) = found[catalog.SERIES_DROPPED.name].items()
            assert (dict(labels), series > MAX_SERIES) == ({"family": catalog.HTTP_REQUESTS.name}, True)
        engine.body = PAGE
        assert values(client.get("/metrics"))[catalog.HTTP_REQUESTS.name]
    assert caplog.text.count(f"{catalog.HTTP_REQUESTS.name} has more than {MAX_SERIES} series and is left out") == 1


class Wedged(Replay):
    """A driver whose first call of a reading returns when `gate` is open."""

    def __init__(self) -> None:
        super().__init__(capture("nvml-handmade-h200.json"))
        self.gate = threading.Event()
        self.gate.set()

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802 - NVML's names
        assert self.gate.wait(60)
        return 2


def test_a_wedged_driver_costs_a_scrape_no_more_than_its_gpus() -> None:
    """A driver call hangs: scrapes are answered with the engine, however many come, and wait in one thread."""
    with Upstream(PAGE) as engine, sidecar(engine.url, nvml=(driver := Wedged())) as (client, _):

        def found() -> dict[str, dict[frozenset[tuple[str, str]], float]]:
            return values(client.get("/metrics", headers=SHORT))

        def engine_alone() -> bool:
            page = found()
            assert catalog.GPU_POWER.name not in page
            assert catalog.GPU_SECONDS.name in page  # what was counted stays
            return list(page[catalog.SOURCE_UP.name].values()) == [1, 0] and catalog.RUNNING.name in page

        wait_for(lambda: list(found()[catalog.SOURCE_UP.name].values()) == [1, 1])
        driver.gate.clear()
        for _ in range(10):
            wait_for(engine_alone)
        assert [thread.name for thread in threading.enumerate()].count("reader") == 1
        driver.gate.set()
        wait_for(lambda: catalog.GPU_POWER.name in found())


def test_the_engine_is_spared() -> None:
    """Pages are asked for uncompressed: compressing them would cost the engine's own process."""
    with Upstream(PAGE) as engine, sidecar(engine.url) as (client, _):
        client.get("/metrics")
        assert engine.headers["Accept-Encoding"] == "identity"


def test_probes() -> None:
    """/healthz says alive; /readyz waits for a first engine, gives the reason in one line, and stays ready after."""
    with Upstream(PAGE) as engine, sidecar(engine.url) as (client, _):
        engine.status = 503
        assert client.get("/healthz").text == "ok\n"
        not_yet = client.get("/readyz")
        assert not_yet.status_code == 503
        assert not_yet.text.startswith(f"no engine read yet: {engine.url}/metrics: HTTP 503")
        assert not_yet.text.count("\n") == 1
        engine.status = 200
        assert client.get("/readyz").status_code == 200
        engine.status = 503
        assert client.get("/readyz").status_code == 200
        assert "/metrics" in client.get("/").text


def test_spans_are_counted_for_the_engines_model() -> None:
    """A real export, before any scrape: the model is asked of the engine, and a re-sent batch counts once."""
    with Upstream(PAGE) as engine, sidecar(engine.url) as (client, _):
        for content, headers in (
            (SPANS, {"Content-Type": otlp.PROTOBUF}),
            (gzip.compress(SPANS), {"Content-Type": otlp.PROTOBUF, "Content-Encoding": "gzip"}),
        ):
            answer = client.post("/v1/traces", content=content, headers=headers)
            assert (answer.status_code, answer.content) == (200, b"")
            assert answer.headers["content-type"] == otlp.PROTOBUF
        found = values(client.get("/metrics"))
    labels = frozenset({("slo", "chat-ttft"), ("model_name", "tiny-llama")})
    assert found[catalog.SLO_EVENTS.name] == {labels: 2}
    assert found[catalog.SLO_GOOD_EVENTS.name] == {labels: 2}
    assert found[catalog.SPAN_TTFT.name + "_count"] == {frozenset({("model_name", "tiny-llama")}): 2}


def test_slo_series_start_at_zero_with_the_first_scrape() -> None:
    """The model is known from the engine: its SLO counters are there before the first span."""
    with Upstream(PAGE) as engine, sidecar(engine.url) as (client, _):
        found = values(client.get("/metrics"))
    assert list(found[catalog.SLO_EVENTS.name].values()) == [0]


def test_refusals_over_http() -> None:
    """The statuses of the OTLP specification, their bodies in the sender's encoding, and a count by reason."""
    with Upstream(PAGE) as engine, sidecar(engine.url) as (client, _):

        def post(content: bytes, content_type: str, encoding: str = "identity") -> httpx.Response:
            headers = {"Content-Type": content_type, "Content-Encoding": encoding}
            return client.post("/v1/traces", content=content, headers=headers)

        assert post(b"{}", "application/json; charset=utf-8").json() == {}
        malformed = post(b"{", otlp.JSON)
        assert (malformed.status_code, malformed.json()["code"]) == (400, 3)
        assert post(b"\xff", otlp.PROTOBUF).status_code == 400
        assert post(SPANS, "text/plain").status_code == 415
        bomb = gzip.compress(bytes(otlp.MAX_BODY + 1))
        assert post(bomb, otlp.PROTOBUF, "gzip").status_code == 413
        assert post(bytes(otlp.MAX_BODY + 1), otlp.PROTOBUF).status_code == 413
        found = values(client.get("/metrics"))
    rejected = {dict(labels)["reason"]: count for labels, count in found[catalog.SPANS_REJECTED.name].items()}
    assert rejected == {"malformed": 2, "content_type": 1, "too_large": 2}


def test_a_sender_that_dies_is_a_count_and_no_accident(caplog: pytest.LogCaptureFixture) -> None:
    """A connection that breaks in the middle of a body is counted, and not a traceback in the log."""
    head = f"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: {otlp.PROTOBUF}\r\nContent-Length: 1000\r\n\r\n"
    with Upstream(PAGE) as engine, sidecar(engine.url) as (client, server):
        with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as sender:
            sender.sendall(head.encode() + SPANS[:100])
            wait_for(lambda: len(server.server_state.tasks) == 1)
        wait_for(lambda: not server.server_state.tasks)
        found = values(client.get("/metrics"))
    assert found[catalog.SPANS_REJECTED.name] == {frozenset({("reason", "cut_off")}): 1}
    assert not [record for record in caplog.records if record.exc_info]


def test_partial_success_names_the_reason() -> None:
    """A batch with one unusable span is taken, and the sender is told not to send that one again."""
    span = {"traceId": "0" * 31 + "1", "spanId": "0" * 15 + "1", "name": REQUEST_SPAN}
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]})
    with Upstream(PAGE) as engine, sidecar(engine.url) as (client, _):
        answer = client.post("/v1/traces", content=body, headers={"Content-Type": otlp.JSON})
    assert answer.status_code == 200
    assert answer.json()["partialSuccess"]["rejectedSpans"] == "1"
    assert "no_latency" in answer.json()["partialSuccess"]["errorMessage"]
