"""Client spans: sent when the variables say so, with the ids that the requests carried, and never in the way."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from load_records import recording, request
from load_servers import Got, answer, head, in_thread
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from loadgen.results.reading import read
from loadgen.running import spans

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "import sys; from loadgen.cli import main; sys.exit(main())"]


@pytest.mark.parametrize(
    ("env", "yes"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
    ],
)
def test_spans_are_wanted_when_the_variables_say_so(env: dict[str, str], yes: bool) -> None:
    """OpenTelemetry's own variables, also those that turn it off."""
    assert spans.wanted(env) is yes


def test_a_span_says_what_its_record_says() -> None:
    """Ids, times and tokens of a request; of a failed one the category, and nothing that is not known."""
    run = recording([request(0, ttft=0.25), request(1, error="refused")])
    good, bad = spans.spans(run)
    assert good.context is not None
    assert f"{good.context.trace_id:032x}" == run.records[0].trace_id
    assert good.start_time == run.header.started_unix_ns + run.records[0].sent_ns
    assert good.attributes is not None
    assert good.attributes["gen_ai.latency.time_to_first_token"] == 0.25
    assert bad.attributes is not None
    assert bad.attributes["error.type"] == "refused"
    assert "gen_ai.usage.output_tokens" not in bad.attributes


def run(collector: str, records: Path) -> tuple["subprocess.CompletedProcess[str]", list[bytes], list[str]]:
    """A run of 20 requests with spans for a collector; what the collector and the engine got."""
    bodies: list[bytes] = []
    parents: list[str] = []

    async def handle(got: Got, writer: asyncio.StreamWriter) -> None:
        if got.path == "/v1/traces":
            bodies.append(got.body)
            writer.write(head("200 OK", "application/x-protobuf", content_length="0"))
        elif got.method == "GET":
            body = json.dumps({"data": [{"id": "tiny"}]}).encode()
            writer.write(head("200 OK", "application/json", content_length=str(len(body))) + body)
        else:
            parents.append(got.headers.get("traceparent", ""))
            writer.write(answer(3))

    with in_thread(handle) as port:
        url = f"http://127.0.0.1:{port}"
        env = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": collector or url, "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
        arguments = ["run", "--target", url, "--concurrency", "4", "--requests", "20", "--quiet", "--records", records]
        done = subprocess.run([*COMMAND, *map(str, arguments)], cwd=ROOT, env=env, capture_output=True, text=True)
    return done, bodies, parents


def test_every_request_has_the_span_that_its_traceparent_names(tmp_path: Path) -> None:
    """The engine saw the trace and parent ids that the collector gets."""
    done, bodies, parents = run("", tmp_path / "r")
    assert done.returncode == 0, done.stderr
    found = [
        span
        for body in bodies
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert len(found) == 20
    ids = {f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01" for span in found}
    assert ids == {parent for parent in parents if parent}


def test_a_collector_that_is_down_costs_one_line(tmp_path: Path) -> None:
    """The run is as good as without: exit 0, records whole, and a line that says how many spans are missing."""
    done, _, _ = run("http://127.0.0.1:1", tmp_path / "r")
    assert done.returncode == 0
    assert "0 of 20 spans" in done.stderr
    assert done.stderr.count("\n") == 1
    assert len(read(tmp_path / "r").records) == 20
