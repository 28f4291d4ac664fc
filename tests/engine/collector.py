"""A tracing backend for the engine tests: takes spans over OTLP/HTTP and tells of each request what its span says."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from slo.sli import Request


class Collector:
    """Requests by trace id, on the engine's clock. The attributes are read here by name, not by the sidecar's code."""

    def __init__(self) -> None:
        self.requests: dict[str, Request] = {}

    def take(self, body: bytes) -> None:
        """Keep an export's request spans."""
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                if span.name == "llm_request":
                    self.requests[span.trace_id.hex()] = _request(span)


def _request(span: Span) -> Request:
    said = {a.key: a.value.double_value or a.value.int_value for a in span.attributes}
    tokens = int(said["gen_ai.usage.completion_tokens"])
    decode = said["gen_ai.latency.time_in_model_decode"]
    return Request(
        start=span.start_time_unix_nano / 1e9,
        ttft=said["gen_ai.latency.time_to_first_token"],
        tpot=decode / (tokens - 1) if tokens > 1 else None,
        e2e=said["gen_ai.latency.e2e"],
        queue=said["gen_ai.latency.time_in_queue"],
        output_tokens=tokens,
    )


@contextmanager
def collecting(port: int) -> Iterator[Collector]:
    """A collector that listens on a loopback port."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.take(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads, server.block_on_close = True, False
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
