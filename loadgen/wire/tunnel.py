"""TLS through an HTTP proxy: the proxy is asked for a tunnel, and TLS begins with the target at its end."""

import asyncio
import ssl
from typing import TypeVar, cast

from loadgen.wire.http1 import HttpError, Response

P = TypeVar("P", bound=asyncio.Protocol)


class TunnelError(OSError):
    """A proxy that opens no tunnel; the text says what it answered."""


def connect_request(netloc: str, headers: dict[str, str]) -> bytes:
    """The request for a tunnel to a host and its port."""
    lines = [f"CONNECT {netloc} HTTP/1.1", f"Host: {netloc}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "\r\n"]).encode("latin-1")


async def open_tunnel(
    proxy: tuple[str, int], request: bytes, protocol: P, context: ssl.SSLContext, server_name: str
) -> P:
    """Connect the protocol to the target by TLS through a proxy. Raises OSError."""
    loop = asyncio.get_running_loop()
    transport, opening = await loop.create_connection(lambda: _Opening(request), *proxy)
    try:
        await opening.opened
        inner = await loop.start_tls(transport, protocol, context, server_hostname=server_name)
    except BaseException:
        transport.abort()
        raise
    protocol.connection_made(cast(asyncio.BaseTransport, inner))
    return protocol


class _Opening(asyncio.Protocol):
    """Asks for the tunnel and waits for the proxy's word."""

    def __init__(self, request: bytes) -> None:
        self._request, self._response = request, Response()
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        try:
            self._response.feed(0, data)
        except HttpError as error:
            self._fail(str(error))
        status = self._response.status
        if status is not None and not 200 <= status < 300:
            self._fail(f"answered {status} to CONNECT")
        elif status is not None and not self.opened.done():
            self.opened.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(str(exc or "closed the connection"))

    def _fail(self, why: str) -> None:
        if not self.opened.done():
            self.opened.set_exception(TunnelError(f"the proxy {why}"))
