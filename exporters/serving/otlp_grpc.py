"""OTLP over gRPC: what vLLM speaks unless told otherwise."""

import socket
from collections.abc import Awaitable, Callable

import grpc
import grpc.aio

from exporters.model import UsageError
from exporters.serving.access import Access
from exporters.spans import otlp
from exporters.spans.intake import Intake

SERVICE, METHOD = "opentelemetry.proto.collector.trace.v1.TraceService", "Export"
# A body over MAX_BODY we refuse and count; one this large the library refuses before it is in memory.
_MAX_MESSAGE = 2 * otlp.MAX_BODY
# Exports in memory at a time; the library answers further ones RESOURCE_EXHAUSTED, which senders try again.
_MAX_EXPORTS = 8
_STATUS = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    413: grpc.StatusCode.INVALID_ARGUMENT,  # RESOURCE_EXHAUSTED would bring it back again and again
}

Stop = Callable[[float], Awaitable[None]]


async def serve(intake: Intake, access: Access, host: str, port: int) -> tuple[int, Stop]:
    """Take exports in at an address, in plain text; returns the port and what ends it within so many seconds.

    Raises UsageError when something else listens there.
    """

    async def export(body: bytes, context: grpc.aio.ServicerContext) -> bytes:
        try:
            if not await access.allows(_authorization(context), spans=True):
                raise otlp.RefusedError(401, "unauthorized", "the authorization is missing or wrong")
            if len(body) > otlp.MAX_BODY:
                raise otlp.too_large(otlp.MAX_BODY)
            return await intake.take(body, otlp.PROTOBUF)
        except otlp.RefusedError as refused:
            intake.reject(refused)
            await context.abort(_STATUS[refused.status], str(refused))
            raise AssertionError("abort raises") from None

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = grpc.aio.server(
        options=[("grpc.max_receive_message_length", _MAX_MESSAGE), ("grpc.so_reuseport", 0)],
        maximum_concurrent_rpcs=_MAX_EXPORTS,
    )
    handler = grpc.unary_unary_rpc_method_handler(export)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
    try:
        socket.create_server((host, port), family=family).close()  # says why not, where the library only logs it
        bound = server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except (OSError, RuntimeError) as error:
        reason = str(getattr(error, "strerror", error)).partition(" (")[0]
        raise UsageError(f"cannot take spans over gRPC on {host}:{port}: {reason}; see --otlp-grpc") from None
    await server.start()
    return bound, server.stop


def _authorization(context: grpc.aio.ServicerContext) -> str:
    return next((str(value) for key, value in context.invocation_metadata() or () if key == "authorization"), "")
