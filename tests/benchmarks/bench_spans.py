"""What spans cost: request spans of vLLM taken in by the sidecar, as a function call, over HTTP and over gRPC.

    python tests/benchmarks/bench_spans.py [--json]

CPU time is counted, of this process for the call and of the sidecar's own process for HTTP and gRPC, so that other
work on the machine matters little. Three SLOs are judged per span; exports hold 512 spans, as vLLM's do at most.
"""

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client import CollectorRegistry

from exporters.collector import Collector
from exporters.serving import otlp_grpc
from exporters.spans import otlp
from exporters.spans.exact import SpanMetrics
from exporters.spans.intake import Intake
from exporters.spans.reader import SpanReader
from slo.spec import model as spec

CAPTURE = Path(__file__).parents[1] / "captures" / "vllm-0.32.0-llm_request.otlp.pb"
SPEC = """\
apiVersion: llm-slo/v1
service: bench
slos:
  - {name: ttft, objective: 99%, exact: true, sli: {latency: {metric: ttft, threshold: 300ms}}}
  - {name: tpot, objective: 99%, exact: true, sli: {latency: {metric: tpot, threshold: 30ms}}}
  - name: goodput
    objective: 95%
    exact: true
    sli:
      goodput:
        conditions: [{metric: ttft, threshold: 300ms}, {metric: tpot, threshold: 30ms}]
"""
PER_EXPORT = 512
EXPORTS = 100


def exports(count: int) -> list[bytes]:
    """Exports whose spans all have ids of their own."""
    request = ExportTraceServiceRequest.FromString(CAPTURE.read_bytes())
    spans, bodies = request.resource_spans[0].scope_spans[0].spans, []
    for _ in range(PER_EXPORT - len(spans)):
        spans.add().CopyFrom(spans[0])
    for _ in range(count):
        for span in spans:
            span.trace_id, span.span_id = os.urandom(16), os.urandom(8)
        bodies.append(request.SerializeToString())
    return bodies


def called(slos: Path) -> float:
    """CPU microseconds per span, without a protocol."""
    bodies = exports(EXPORTS)
    intake = Intake(Collector([]), SpanMetrics(CollectorRegistry(), spec.load(slos).slos), SpanReader())

    async def take() -> float:
        before = time.process_time()
        for body in bodies:
            await intake.take(body, otlp.PROTOBUF)
        return time.process_time() - before

    return asyncio.run(take()) / (EXPORTS * PER_EXPORT) * 1e6


def sent(process: "subprocess.Popen[str]", send: Callable[[bytes], object]) -> dict[str, float]:
    """Send exports one after another; the sidecar's CPU per span, and spans per second of wall time."""
    for body in exports(5):
        send(body)
    bodies = exports(EXPORTS)
    before, began = seconds_of(process.pid), time.monotonic()
    for body in bodies:
        send(body)
    spans = EXPORTS * PER_EXPORT
    cpu, wall = seconds_of(process.pid) - before, time.monotonic() - began
    return {"cpu_us": cpu / spans * 1e6, "spans_per_cpu_second": spans / cpu, "spans_per_second": spans / wall}


def over_the_wire(slos: Path) -> dict[str, dict[str, float]]:
    """The command as a process of its own, over both protocols; and its memory in the end."""
    command = [sys.executable, "-c", "import sys; from exporters.cli import main; sys.exit(main())"]
    args = ["--engine", "http://127.0.0.1:1", "--gpu", "none", "--listen", "127.0.0.1:0", "--slo", str(slos)]
    with subprocess.Popen(
        [*command, *args, "--otlp-grpc", "127.0.0.1:0"], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        log = iter(process.stderr)
        grpc_at = next(found[1] for line in log if (found := re.search(r"over gRPC on (\S+)", line)))
        url = next(found[1] for line in log if (found := re.search(r"serving (\S+)/metrics", line)))
        with httpx.Client(trust_env=False, headers={"Content-Type": otlp.PROTOBUF}) as client:
            http = sent(process, lambda body: client.post(f"{url}/v1/traces", content=body).raise_for_status())
        with grpc.insecure_channel(grpc_at) as channel:
            export = channel.unary_unary(f"/{otlp_grpc.SERVICE}/{otlp_grpc.METHOD}")
            rpc = sent(process, export)
        memory = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
        process.terminate()
    assert memory
    return {"http": http, "grpc": rpc, "memory": {"rss_mib": int(memory[1]) / 1024}}


def seconds_of(pid: int) -> float:
    """CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--json", action="store_true", help="print one JSON object")
    as_json = options.parse_args().json
    with tempfile.TemporaryDirectory() as home:
        slos = Path(home) / "spec.yaml"
        slos.write_text(SPEC)
        results = {"call": {"cpu_us": called(slos)}} | over_the_wire(slos)
    if as_json:
        print(json.dumps(results))
        return
    print(f"call: {results['call']['cpu_us']:.1f} us CPU per span")
    for protocol in ("http", "grpc"):
        r = results[protocol]
        print(
            f"{protocol}: {r['cpu_us']:.1f} us CPU of the sidecar per span, {r['spans_per_cpu_second']:.0f} spans per "
            f"second of one core; {r['spans_per_second']:.0f} per second by the clock, sender included"
        )
    print(f"{results['memory']['rss_mib']:.0f} MiB resident")


if __name__ == "__main__":
    main()
