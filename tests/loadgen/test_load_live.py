"""The live figures of a run: what the page says of known records, and that a run serves it and then lets go."""

import asyncio
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from load_records import footer, request
from load_servers import Got, answer, head, header, in_thread
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from loadgen.cli import main
from loadgen.running.live import Live, serving
from loadgen.traffic.arrivals import Load
from slo import catalog


def samples(page: str) -> dict[str, float]:
    """Each sample by its name and the value of its last label."""
    families = text_string_to_metric_families(page)
    return {" ".join((s.name, *list(s.labels.values())[2:])): s.value for f in families for s in f.samples}


def counted() -> Live:
    live = Live()
    live.add(header(Load(rate=20, arrivals="poisson", requests=3)))
    for line in (request(0), request(1), request(2, error="timeout"), footer()):
        live.add(line)
    return live


def test_the_page_counts_what_the_records_say() -> None:
    """Outcomes, latencies and the offered rate of three requests, one of which timed out."""
    found = samples(generate_latest(counted().registry).decode())
    assert found["llm_load_requests_total ok"] == 2
    assert found["llm_load_requests_total timeout"] == 1
    assert found["llm_load_offered_requests_per_second"] == 20
    assert found["llm_load_request_duration_seconds_count"] == 2
    assert found["llm_load_send_lag_seconds_count"] == 3
    assert found["llm_load_time_to_first_token_seconds_sum"] == pytest.approx(sum(filter(None, (request(0).ttft,) * 2)))
    assert not any(name.partition(" ")[0].endswith("_created") for name in found)


def test_a_run_begins_with_zeros() -> None:
    """Every family is there before the first request ends, so that the first one is an increase to Prometheus."""
    live = Live()
    live.add(header(Load(concurrency=8, requests=1)))
    found = samples(generate_latest(live.registry).decode())
    assert found["llm_load_requests_total ok"] == found["llm_load_time_to_first_token_seconds_count"] == 0
    assert "llm_load_offered_requests_per_second" not in found  # a closed loop offers no rate


def test_buckets_and_exemplars() -> None:
    """The buckets are the engine's, edge for edge, and carry the trace of a request that fell into them."""
    page = openmetrics(counted().registry).decode()
    lines = [line for line in page.splitlines() if line.startswith("llm_load_time_to_first_token_seconds_bucket")]
    assert [line.partition('le="')[2].partition('"')[0] for line in lines] == [
        *(catalog.TTFT.edge(bound) for bound in catalog.TTFT.buckets), "+Inf",
    ]  # fmt: skip
    assert any(f'trace_id="{request(1).trace_id}"' in line for line in lines)


def test_loads_have_names() -> None:
    """An open loop is its rate, a closed one its concurrency, stages and a trace are what was asked for."""
    named = {
        "2.5/s": Load(rate=2.5, arrivals="constant", requests=1),
        "8 in flight": Load(concurrency=8, requests=1),
        "stages 1..9:60,9:30": Load(rate=6.3, arrivals="poisson", stages="1..9:60,9:30"),
        "replay of azure.csv": Load(rate=3, arrivals="trace", trace="azure.csv sha256:0123456789abcdef"),
        "replay of a b.csv, 2.5 times as fast": Load(rate=3, trace="a b.csv sha256:0123456789abcdef", speed=2.5),
    }
    assert [load.title for load in named.values()] == list(named)


def test_the_offered_rate_is_that_of_the_time() -> None:
    """In a sweep it is the level that goes on, in a ramp it climbs, afterwards nothing is asked for."""
    sweep = Load(rate=15, arrivals="poisson", stages="10..20/2:60,20..0:10")
    assert [sweep.rate_at(seconds) for seconds in (0, 59.9, 60, 125, 130)] == [10, 10, 20, 10, 0]
    assert Load(rate=4, requests=9).rate_at(99) == 4
    assert Load(concurrency=4, requests=9).rate_at(0) is None
    live = Live()
    live.add(header(Load(rate=70, arrivals="poisson", stages="100..40:3600")))
    begin, later = (samples(generate_latest(live.registry).decode()) for _ in range(2))
    name = "llm_load_offered_requests_per_second"
    assert 99 < later[name] < begin[name] <= 100


def test_the_page_is_gone_after_the_run() -> None:
    """The port is free again, at once."""
    with serving(counted(), "127.0.0.1", 0) as port:
        assert "llm_load_seconds_total" in httpx.get(f"http://127.0.0.1:{port}/metrics").text
    with socket.create_server(("127.0.0.1", port)):
        pass


async def engine(got: Got, writer: asyncio.StreamWriter) -> None:
    body = json.dumps({"data": [{"id": "tiny"}]}).encode()
    page = head("200 OK", "application/json", content_length=str(len(body))) + body
    writer.write(page if got.method == "GET" else answer(4))


def run(port: int, records: Path, *more: str) -> list[str]:
    base = ["run", "--target", f"http://127.0.0.1:{port}", "--model", "tiny", "--quiet"]
    return [*base, "--records", str(records), *more]


def scraped(url: str) -> str:
    try:
        return httpx.get(url).text
    except httpx.ConnectError:
        return ""


def test_a_run_serves_its_figures(tmp_path: Path) -> None:
    """While `slo-load run` sends, a scrape of its address sees requests that ended."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with in_thread(engine) as port:
        load = ["--rate", "50", "--duration", "30", "--listen-metrics", address]
        command = [sys.executable, "-c", "import sys; from loadgen.cli import main; sys.exit(main())"]
        process = subprocess.Popen([*command, *run(port, tmp_path / "r.jsonl", *load)], stdout=subprocess.DEVNULL)
        ok, deadline = 0.0, time.monotonic() + 20
        while not ok and process.poll() is None and time.monotonic() < deadline:
            ok = samples(scraped(f"http://{address}/metrics")).get("llm_load_requests_total ok", 0)
            time.sleep(0.05)
        process.terminate()
        assert process.wait(20) == 130
    assert ok > 0


def test_an_address_in_use_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is sent and no records are left behind when the page cannot be served."""
    records = tmp_path / "r.jsonl"
    with in_thread(engine) as port:
        load = ["--concurrency", "1", "--requests", "1", "--listen-metrics", f"127.0.0.1:{port}"]
        assert main(run(port, records, *load)) == 2
    err = capsys.readouterr().err
    assert "cannot listen there: Address already in use" in err
    assert err.count("\n") == 1
    assert not records.exists()
