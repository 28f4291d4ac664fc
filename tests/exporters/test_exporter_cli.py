"""The command as a user runs it: arguments, exit codes, signals, --check and the sidecar's own traces."""

import json
import re
import socket
from pathlib import Path

import httpx
import pytest
from exporter_process import ended, running
from exporter_servers import Upstream, wait_for
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from exporters.cli import main
from slo import catalog

TESTS = Path(__file__).parents[1]
PAGE = (TESTS / "captures" / "vllm-0.32.0-cpu.metrics").read_bytes()
DCGM = (Path(__file__).parent / "handwritten" / "dcgm-4.5.txt").read_bytes()


def get(url: str, **headers: str) -> httpx.Response:
    return httpx.get(url, headers=headers, trust_env=False, timeout=10)


def test_sigterm_is_a_clean_and_quick_end() -> None:
    """Served, asked to end, gone with exit code 0 and nothing on stderr that looks like an accident."""
    with Upstream(PAGE) as engine, running("--engine", engine.url) as (process, url):
        assert catalog.RUNNING.name in get(f"{url}/metrics").text
        assert ended(process) == 0


def test_sigterm_while_everything_hangs() -> None:
    """A scrape under way is answered, traces that nobody takes are dropped, and the process ends."""
    with Upstream(PAGE) as engine, Upstream() as traces:
        traces.gate.clear()
        with running("--engine", engine.url, OTEL_EXPORTER_OTLP_ENDPOINT=traces.url) as (process, url):
            assert get(f"{url}/").status_code == 200  # the span of this one cannot leave
            assert get(f"{url}/metrics").status_code == 200
            engine.gate.clear()
            reads = engine.reads
            with socket.create_connection((httpx.URL(url).host, httpx.URL(url).port or 0)) as scraper:
                scraper.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Prometheus-Scrape-Timeout-Seconds: 1\r\n\r\n")
                wait_for(lambda: engine.reads > reads)
                assert ended(process) == 0
                assert scraper.recv(100).startswith(b"HTTP/1.1 200 OK")


def test_own_requests_are_traced_but_not_scrapes() -> None:
    """With OTEL_EXPORTER_OTLP_ENDPOINT set, requests to the sidecar are spans, /metrics and probes are not."""
    env = {"OTEL_BSP_SCHEDULE_DELAY": "50"}
    with Upstream(PAGE) as engine, Upstream() as traces:
        with running("--engine", engine.url, OTEL_EXPORTER_OTLP_ENDPOINT=traces.url, **env) as (process, url):
            for path in ("/metrics", "/healthz", "/readyz", "/"):
                assert get(url + path).status_code == 200
            assert httpx.post(f"{url}/v1/traces", headers={"Content-Type": "application/x-protobuf"}).is_success
            wait_for(lambda: len(spans(traces)) >= 2)
            assert ended(process) == 0
        assert sorted(spans(traces)) == ["GET /", "POST /v1/traces"]
        assert b"slo-exporter" in traces.posted[0]


def spans(traces: Upstream) -> list[str]:
    exports = (ExportTraceServiceRequest.FromString(body) for body in traces.posted)
    return [span.name for export in exports for r in export.resource_spans for s in r.scope_spans for span in s.spans]


def test_traces_of_the_sidecar_to_itself_do_not_feed_themselves() -> None:
    """When the target may be the sidecar itself, taking in spans is not traced: it would never end."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env = {"OTEL_BSP_SCHEDULE_DELAY": "20", "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
    received = f"{catalog.SPANS_RECEIVED.name} "

    def count(url: str) -> float:
        lines = get(f"{url}/metrics").text.splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(received))

    with Upstream(PAGE) as engine, running("--engine", engine.url, "--listen", f"127.0.0.1:{port}", **env) as (_, url):
        for n in range(1, 6):
            get(f"{url}/")
            wait_for(lambda n=n: count(url) >= n)
            assert count(url) == n


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "the following arguments are required: --engine"),
        (("--engine", "localhost:8000"), "'localhost:8000' is no URL; write it like http://127.0.0.1:8000"),
        (("--engine", "http://:8000"), "is no URL"),
        (("--engine", "http://h:99999"), "is no URL"),
        (("--engine", "http://h:0"), "is no URL"),
        (("--engine", "http://a b"), "is no URL"),
        (("--engine", "http://h", "--engine", "http://h/metrics"), "http://h/metrics is given twice"),
        (("--engine", "http://h", "--json"), "--json goes with --check"),
        (("--engine", "http://h", "--listen", "9402"), "'9402' is no address"),
        (("--engine", "http://h", "--listen", "h:99999"), "is no address"),
        (("--engine", "http://h", "--gpu", "tpu"), "invalid choice: 'tpu'"),
        (("--engine", "http://h", "--gpu", "dcgm"), "--gpu dcgm needs --dcgm-url"),
        (("--engine", "http://h", "--gpu", "amd"), "--gpu amd needs --gpu-url, or the node's address in HOST_IP"),
        (("--engine", "http://h", "--gpu-url", "http://h"), "--gpu-url needs --gpu dcgm|amd|gaudi|intel"),
        (("--engine", "http://h", "--price", "cheap"), "'cheap' is no price per GPU hour; write it like 2.50 or"),
        (("--engine", "http://h", "--slo", "/nowhere.yaml"), "/nowhere.yaml: cannot be read"),
        (("--engine", "http://h", "--otlp-grpc", "4317"), "'4317' is no address"),
        (("--engine", "http://h", "--gpu", "none", "--otlp-token-file", "/none"), "/none: cannot be read"),
        (("--engine", "http://h", "--gpu", "none", "--web.config.file", "/none"), "/none: cannot be read"),
        (("--engine", "http://h", "--span-label", "tenant"), "write it like tenant=user.tenant"),
        (("--engine", "http://h", "--span-label", "a-b=c"), "write it like tenant=user.tenant"),
        (("--engine", "http://h", "--span-label", "model_name=c"), "the label 'model_name' has a meaning already"),
        (("--engine", "http://h", "--span-label", "a=b", "--span-label", "a=c"), "--span-label a is given twice"),
        (("--engine", "http://h", "--span-label-sets", "0"), "'0' is no whole number above 0"),
        (("--engine", "http://h", "--forward", "collector:4318"), "is no URL; write it like http://127.0.0.1:4318"),
        (("--engine", "http://h", "--forward-keep", "5%"), "'5%' is no fraction"),
        (("--engine", "http://h", "--forward-keep", "nan"), "'nan' is no fraction"),
        (("--engine", "http://h", "--push", ""), "is no URL; write it like http://127.0.0.1:4318"),
        (("--engine", "http://h", "--gpu", "none", "--listen", "no.such.host.invalid:1"), "cannot listen on"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    args: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever is wrong with the arguments: what, where and what to do, on one line of stderr."""
    try:
        code = main(args)
    except SystemExit as stop:  # how argparse ends
        code = stop.code  # type: ignore[assignment]
    captured = capsys.readouterr()
    assert code == 2
    assert captured.err.startswith("slo-exporter: ")
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_port_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    """Another process on the port is one line with the way out."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--engine", "http://127.0.0.1:1", "--gpu", "none", "--listen", f"127.0.0.1:{port}"]) == 2
    said = f"slo-exporter: cannot listen on 127.0.0.1:{port}: Address already in use; choose another address"
    assert capsys.readouterr().err.startswith(said)


def test_check_lists_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    """--check shows every source with its model, its families and where each comes from, and ends with 0."""
    with Upstream(PAGE) as engine, Upstream(DCGM) as dcgm:
        args = ["--check", "--engine", engine.url, "--gpu", "dcgm", "--dcgm-url", dcgm.url]
        assert main(args) == 0
        text = capsys.readouterr().out
        assert main([*args, "--json"]) == 0
        of_engine, of_gpus = json.loads(capsys.readouterr().out)["sources"]
    assert f"engine  {engine.url}/metrics  " in text
    assert re.search(rf"{catalog.TTFT.name} +vllm:time_to_first_token_seconds\n", text)
    assert of_engine["models"] == ["tiny-llama"]
    assert of_engine["families"][catalog.ITL.name] == "vllm:inter_token_latency_seconds"
    assert of_gpus["gpus"] == ["GPU-aaaa", "GPU-bbbb"]
    assert catalog.GPU_ENERGY.name in of_gpus["families"]


def test_check_fails_when_a_source_does(capsys: pytest.CaptureFixture[str]) -> None:
    """A source that is not an engine, or does not answer, is exit code 2 and says which; the password stays out."""
    with Upstream(b"<html>\n") as web:
        url = web.url.replace("http://", "http://user:secret@")
        assert main(["--check", "--engine", url, "--gpu", "none"]) == 2
    captured = capsys.readouterr()
    assert f"slo-exporter: {web.url}/metrics: a web page (HTML), without any metric of a known engine" in captured.err
    assert "secret" not in captured.err + captured.out
    assert main(["--check", "--engine", web.url, "--gpu", "none"]) == 2


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """--version names the command and its version."""
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert re.fullmatch(r"slo-exporter \d+\.\d+\.\d+\n", capsys.readouterr().out)
