"""Spans over gRPC, between a real client and the real server on a loopback port."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import grpc.aio
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from prometheus_client import CollectorRegistry

from exporters.collector import Collector
from exporters.model import UsageError
from exporters.serving import otlp_grpc
from exporters.serving.access import Access
from exporters.spans import otlp
from exporters.spans.exact import SpanMetrics
from exporters.spans.intake import Intake
from exporters.spans.reader import SpanReader
from slo import catalog

CAPTURE = (Path(__file__).parents[1] / "captures" / "vllm-0.32.0-llm_request.otlp.pb").read_bytes()
PATH = f"/{otlp_grpc.SERVICE}/{otlp_grpc.METHOD}"
Export = Callable[..., Awaitable[bytes]]


class Served:
    """What a server counted."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.spans = SpanMetrics(self.registry)
        self.intake = Intake(Collector([]), self.spans, SpanReader())

    def received(self) -> float | None:
        return self.registry.get_sample_value(catalog.SPANS_RECEIVED.name)

    def rejected(self, reason: str) -> float | None:
        return self.registry.get_sample_value(catalog.SPANS_REJECTED.name, {"reason": reason})


def session(served: Served, client: Callable[[Export], Awaitable[None]], access: Access | None = None) -> None:
    """Run a client against a server of its own."""

    async def run() -> None:
        port, stop = await otlp_grpc.serve(served.intake, access or Access(), "127.0.0.1", 0)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await client(channel.unary_unary(PATH))
        await stop(0)

    asyncio.run(run())


def test_an_export_is_taken_in_plain_and_compressed() -> None:
    """A real export of vLLM, then the same again compressed: received twice, its requests counted once."""
    served = Served()

    async def client(export: Export) -> None:
        assert await export(CAPTURE) == b""
        assert await export(CAPTURE, compression=grpc.Compression.Gzip) == b""

    session(served, client)
    assert served.received() == 4
    assert served.registry.get_sample_value(catalog.SPAN_TTFT.name + "_count", {"model_name": ""}) == 2


@pytest.mark.parametrize(
    ("body", "reason"),
    [(CAPTURE[:-1], "malformed"), (b"\xff", "malformed"), (bytes(otlp.MAX_BODY + 1), "too_large")],
    ids=["truncated", "garbage", "oversized"],
)
def test_what_is_no_export_is_refused(body: bytes, reason: str) -> None:
    """INVALID_ARGUMENT, which no sender tries again, with the reason, and counted."""
    served = Served()

    async def client(export: Export) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await export(body)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.value.details()

    session(served, client)
    assert served.rejected(reason) == 1


def test_a_gzip_bomb_never_unfolds() -> None:
    """64 MiB of zeros in 64 KiB: refused before they are in memory, and the next export is taken."""
    served = Served()

    async def client(export: Export) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await export(bytes(64 * 1024 * 1024), compression=grpc.Compression.Gzip)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await export(CAPTURE) == b""

    session(served, client)
    assert served.received() == 2


def test_unusable_spans_are_a_partial_success() -> None:
    """A request span without ids is named in the answer, the other one counts."""
    served = Served()
    body = otlp.decode(CAPTURE, otlp.PROTOBUF)
    body.resource_spans[0].scope_spans[0].spans[0].span_id = b""

    async def client(export: Export) -> None:
        answer = ExportTraceServiceResponse.FromString(await export(body.SerializeToString()))
        assert answer.partial_success.rejected_spans == 1
        assert "bad_id" in answer.partial_success.error_message

    session(served, client)


def test_a_burst_is_taken_whole() -> None:
    """20 exports at once, more than are handled at a time: whoever is told to come again does, and none is lost."""
    served = Served()

    async def insist(export: Export) -> None:
        while True:
            try:
                await export(CAPTURE)
                return
            except grpc.aio.AioRpcError as busy:
                if busy.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                await asyncio.sleep(0.01)

    async def client(export: Export) -> None:
        await asyncio.gather(*(insist(export) for _ in range(20)))

    session(served, client)
    assert served.received() == 40


def test_the_token_is_asked_for(tmp_path: Path) -> None:
    """With a token file, only a sender that shows the token is heard."""
    served = Served()
    (tmp_path / "token").write_text("s3cret\n")

    async def client(export: Export) -> None:
        for metadata in ((), (("authorization", "Bearer wrong"),), (("authorization", "Basic s3cret"),)):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await export(CAPTURE, metadata=metadata)
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert await export(CAPTURE, metadata=(("authorization", "Bearer s3cret"),)) == b""

    session(served, client, Access(token_file=tmp_path / "token"))
    assert (served.received(), served.rejected("unauthorized")) == (2, 3)


def test_a_port_in_use_is_one_line() -> None:
    """Something else listens there: a UsageError that names the flag."""

    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(UsageError, match=f"127.0.0.1:{port}: Address already in use; see --otlp-grpc"):
                await otlp_grpc.serve(Served().intake, Access(), "127.0.0.1", port)

    asyncio.run(run())
