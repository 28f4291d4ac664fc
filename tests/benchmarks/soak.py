"""Does the sidecar's memory stay flat with everything on? An hour of scrapes, one every five seconds, run together.

    python tests/benchmarks/soak.py [--scrapes 720] [--seconds 600] [--json]

The engine shows eight data-parallel ranks. All its values move with every scrape, once a minute a client invents a new
HTTP handler, and every ten minutes the engine restarts with another model: what was remembered must go. Between two
scrapes come a thousand request spans (200 a second) of a thousand tenants, which the SLOs of slo/specs/chat.yaml judge
one by one; a part of them goes on to a tracing backend. GPUs are read from a dcgm-exporter, and scrapes are OpenMetrics
with exemplars. The first tenth warms up; what memory grows by after that is printed.
"""

import argparse
import itertools
import json
import os
import random
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
from bench_scrape import DP8, HANDWRITTEN, TESTS, pages, resident, seconds_of, serving, sidecar
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

CAPTURE = TESTS / "captures" / "vllm-0.32.0-llm_request.otlp.pb"
SPEC = TESTS.parent / "slo" / "specs" / "chat.yaml"
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
_VALUE = re.compile(rb" (\d+)\.0$", re.MULTILINE)
MINUTE = 12  # scrapes
RESTART = 10 * MINUTE
EXPORTS, PER_EXPORT, TENANTS = 2, 500, 1000


def engine_page(page: bytes, scrape: int) -> bytes:
    """What the engine shows at the n-th scrape."""
    moved = _VALUE.sub(lambda match: b" %d.0" % (int(match[1]) + scrape % RESTART), page)
    handlers = range(scrape % RESTART // MINUTE)
    invented = (b'http_requests_total{handler="/%d/%d",method="GET",status="4xx"} 1.0\n' % (scrape // RESTART, i)
                for i in handlers)  # fmt: skip
    return moved.replace(b'model_name="', b'model_name="%d-' % (scrape // RESTART)) + b"".join(invented)


def exports(dice: random.Random) -> Iterator[bytes]:
    """Exports of requests of many tenants, fast and slow ones, without an end."""
    export = ExportTraceServiceRequest.FromString(CAPTURE.read_bytes())
    spans = export.resource_spans[0].scope_spans[0].spans
    template = Span.FromString(spans[0].SerializeToString())
    ttft = next(a for a in template.attributes if a.key.endswith("time_to_first_token"))
    tenant = template.attributes.add(key="tenant")
    while True:
        del spans[:]
        for _ in range(PER_EXPORT):
            ttft.value.double_value = dice.lognormvariate(-2, 1)
            tenant.value.string_value = f"tenant {dice.randrange(TENANTS)}"
            template.trace_id, template.span_id = os.urandom(16), os.urandom(8)
            spans.append(template)
        yield export.SerializeToString()


def soak(scrapes: int, seconds: float) -> tuple[list[float], float]:
    """Resident memory, in MiB, after every scrape, fewer when the time is up; and the sidecar's CPU seconds."""
    page, gpus, counter = pages()[DP8], (HANDWRITTEN / "dcgm-4.5.txt").read_bytes(), itertools.count()
    until, spans, memory = time.monotonic() + seconds, exports(random.Random(3)), list[float]()
    with ExitStack() as stack:
        engine = stack.enter_context(serving(lambda: engine_page(page, next(counter))))
        dcgm, backend = (stack.enter_context(serving(lambda body=body: body)) for body in (gpus, b""))  # type: ignore[misc]
        more = ("--gpu", "dcgm", "--dcgm-url", dcgm, "--price", "2.50", "--slo", str(SPEC), "--span-label",
                "tenant=tenant", "--forward", backend, "--otlp-grpc", "none")  # fmt: skip
        pid, url = stack.enter_context(sidecar(engine, *more))
        client = stack.enter_context(httpx.Client(trust_env=False, timeout=30))
        while len(memory) < scrapes and time.monotonic() < until:
            for export in itertools.islice(spans, EXPORTS):
                headers = {"Content-Type": "application/x-protobuf"}
                client.post(url.replace("/metrics", "/v1/traces"), content=export, headers=headers).raise_for_status()
            body = client.get(url, headers=OPENMETRICS).raise_for_status().content
            memory.append(resident(pid))
        _check(body)
        return memory, seconds_of(pid)


def _check(body: bytes) -> None:
    """Everything was on."""
    for needed in (b"llm_gpu_cost_total{", b"llm_slo_good_events_total{", b'tenant="other"', b"# {trace_id="):
        assert needed in body, needed


def main() -> None:
    options = argparse.ArgumentParser(description="Watch the sidecar's memory over an hour of scrapes, run together.")
    options.add_argument("--scrapes", type=int, default=720)
    options.add_argument("--seconds", type=float, default=600, help="the longest it may take")
    options.add_argument("--json", action="store_true", help="print one JSON object")
    args = options.parse_args()
    memory, cpu = soak(args.scrapes, args.seconds)
    warm = memory[len(memory) // 10 :]
    result = {"scrapes": len(memory), "spans": len(memory) * EXPORTS * PER_EXPORT, "cpu_s": cpu,
              "warm_mib": warm[0], "last_mib": warm[-1], "most_mib": max(memory)}  # fmt: skip
    if args.json:
        print(json.dumps(result))
        return
    print(
        f"{len(memory)} scrapes and {result['spans']} spans in {cpu:.0f} s of CPU: {warm[0]:.1f} MiB after the first "
        f"tenth, {warm[-1]:.1f} MiB at the end, {max(memory):.1f} MiB at most"
    )


if __name__ == "__main__":
    main()
