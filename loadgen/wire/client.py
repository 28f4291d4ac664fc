"""The hot path: an HTTP/1.1 client that writes ready bytes, stamps every read and parses nothing but the framing.

A request is an `Exchange`; `Client.send` puts it on an idle connection or a new one and never waits. When it has
ended, well or not, the client hands it to `on_done`; what the answer says is read later, in `reply`.
"""

import asyncio
import errno
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter_ns
from typing import cast

from loadgen.results.record import ErrorCategory
from loadgen.traffic.arrivals import NS
from loadgen.traffic.conversation import Conversation, RequestSpec
from loadgen.wire.http1 import HttpError, Response
from loadgen.wire.tunnel import open_tunnel

# A connection idle for longer is not used again: servers close idle ones (gunicorn after 2 s, uvicorn after 5 s), and
# a request that crosses the close would look like a failure of the service.
_IDLE_NS = NS
# Connections opened at a time before a run, well below the listen backlog of any server.
_OPEN_AT_ONCE = 32
# Out of descriptors, ports or memory: this machine's limits, not the service's.
_OUR_FAULT = (errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM)


@dataclass(frozen=True, slots=True)
class Tls:
    """The name that the certificate must carry, and a file of authorities to trust instead of the system's."""

    server_name: str
    cafile: str | None = None

    def context(self) -> ssl.SSLContext:
        """A context that checks the certificate. Raises OSError for a file that holds no certificates."""
        return ssl.create_default_context(cafile=self.cafile)


@dataclass(frozen=True, slots=True)
class Address:
    """Where to connect: a resolved IP address, its port, and what TLS needs.

    With `tunnel` (a CONNECT request) it is a proxy's, and TLS is with the target behind it.
    """

    ip: str
    port: int
    tls: Tls | None = None
    tunnel: bytes = b""


class Exchange:
    """One request on the wire. Stamps are of `perf_counter_ns`; `error` is None when the reply came to its end.

    `read` is for whoever reads the answer to tell that it is done.
    """

    __slots__ = ("connection", "conversation", "detail", "done_ns", "error", "payload", "read", "response",
                 "scheduled_ns", "sent_ns", "spec", "timer", "trace_id")  # fmt: skip

    def __init__(self, spec: RequestSpec, conversation: Conversation, trace_id: str, payload: bytes) -> None:
        self.spec, self.conversation, self.trace_id, self.payload = spec, conversation, trace_id, payload
        self.response = Response()
        self.scheduled_ns = self.sent_ns = self.done_ns = 0
        self.error: ErrorCategory | None = None
        self.detail: str | None = None
        self.connection: Connection | None = None
        self.read = False
        self.timer: asyncio.TimerHandle | None = None


class Connection(asyncio.Protocol):
    """One socket with at most one exchange on it."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._transport: asyncio.Transport | None = None
        self.exchange: Exchange | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._client.connections.add(self)

    @property
    def closing(self) -> bool:
        """Whether the connection is closed or about to be."""
        return self._transport is None or self._transport.is_closing()

    def start(self, exchange: Exchange) -> None:
        """Write the request; the connection must be idle."""
        self.exchange, exchange.connection = exchange, self
        if self._transport is None or self._transport.is_closing():
            self._client.finished(exchange, perf_counter_ns(), "reset", "closed before the request was sent")
        else:
            self._transport.write(exchange.payload)
            exchange.payload = b""  # the prompts of a thousand streams are not small

    def data_received(self, data: bytes) -> None:
        now = perf_counter_ns()
        exchange = self.exchange
        if exchange is None:  # bytes that answer nothing
            self.abort()
            return
        try:
            if exchange.response.feed(now, data):
                self._client.finished(exchange, now)
        except HttpError as error:
            self._client.finished(exchange, now, "bad_response", str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.lost(self)
        exchange = self.exchange
        if exchange is None:
            return
        if exc is None and exchange.response.at_eof():
            self._client.finished(exchange, perf_counter_ns())
        elif exc is None and exchange.response.status is not None:
            self._client.finished(exchange, perf_counter_ns(), "truncated", "the connection was closed in mid-reply")
        else:
            self._client.finished(exchange, perf_counter_ns(), "reset", str(exc or "closed without a reply"))

    def abort(self) -> None:
        """Drop the connection at once."""
        if self._transport is not None:
            self._transport.abort()


class Client:
    """Sends exchanges over a pool of keep-alive connections. Use it inside a running event loop."""

    def __init__(self, address: Address, timeout: float, on_done: Callable[[Exchange], None]) -> None:
        self._address, self._timeout, self._on_done = address, timeout, on_done
        self._tls = address.tls.context() if address.tls else None
        self._loop = asyncio.get_running_loop()
        self._idle: dict[Connection, int] = {}  # since when, the latest last
        self._connecting: set[asyncio.Task[None]] = set()
        self.connections: set[Connection] = set()
        self.in_flight: set[Exchange] = set()

    async def open(self, count: int) -> None:
        """Open connections ahead of the first requests. Raises OSError when the server refuses or keeps silent."""
        for begin in range(0, count, _OPEN_AT_ONCE):
            batch = range(begin, min(begin + _OPEN_AT_ONCE, count))
            try:
                async with asyncio.timeout(self._timeout):
                    await asyncio.gather(*(self._connect() for _ in batch))
            except TimeoutError:
                raise TimeoutError(f"no connection within {self._timeout:g} s") from None
        self._idle = dict.fromkeys(self.connections, perf_counter_ns())

    def send(self, exchange: Exchange, scheduled_ns: int) -> None:
        """Put a request that was due at `scheduled_ns` on the wire; `on_done` gets it back within `timeout` seconds."""
        exchange.scheduled_ns, exchange.sent_ns = scheduled_ns, (now := perf_counter_ns())
        exchange.timer = self._loop.call_later(self._timeout, self._expire, exchange)
        self.in_flight.add(exchange)
        if connection := self._take_idle(now):
            connection.start(exchange)
        else:
            task = self._loop.create_task(self._connect_and_start(exchange))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    def cancel_all(self) -> None:
        """Break off everything in flight; each exchange ends as "cancelled"."""
        for exchange in list(self.in_flight):
            self.finished(exchange, perf_counter_ns(), "cancelled", "broken off by the client")

    async def close(self) -> None:
        """Close all connections; what is in flight ends as "cancelled"."""
        self.cancel_all()
        for task in self._connecting:
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        for connection in self.connections:
            connection.abort()
        while self.connections:
            await asyncio.sleep(0)

    def finished(self, exchange: Exchange, now: int, error: ErrorCategory | None = None, detail: str = "") -> None:
        """End an exchange: free or drop its connection and hand it over. The second end of one is ignored."""
        if exchange not in self.in_flight:
            return
        self.in_flight.discard(exchange)
        exchange.done_ns, exchange.error, exchange.detail = now, error, detail or None
        exchange.response.body.whole = error is None
        if exchange.timer is not None:
            exchange.timer.cancel()
        if connection := exchange.connection:
            connection.exchange = exchange.connection = None
            if error is None and exchange.response.keep_alive:
                self._idle[connection] = now
            else:
                connection.abort()
        self._on_done(exchange)

    def lost(self, connection: Connection) -> None:
        """Forget a connection that is gone."""
        self.connections.discard(connection)
        self._idle.pop(connection, None)

    def _take_idle(self, now: int) -> Connection | None:
        """The connection used last, unless it is closing or has been idle for too long."""
        while self._idle:
            connection, since = self._idle.popitem()
            if now - since > _IDLE_NS:
                connection.abort()
            elif not connection.closing:
                return connection
        return None

    def _expire(self, exchange: Exchange) -> None:
        self.finished(exchange, perf_counter_ns(), "timeout", f"no complete reply within {self._timeout:g} s")

    async def _connect(self) -> Connection:
        to = self._address
        name = to.tls.server_name if to.tls else ""
        if to.tunnel and self._tls:
            return await open_tunnel((to.ip, to.port), to.tunnel, Connection(self), self._tls, name)
        _, connection = await self._loop.create_connection(
            lambda: Connection(self), to.ip, to.port, ssl=self._tls, server_hostname=name or None
        )
        return connection

    async def _connect_and_start(self, exchange: Exchange) -> None:
        try:
            connection = await self._connect()
        except OSError as error:
            ours = error.errno in _OUR_FAULT
            self.finished(exchange, perf_counter_ns(), "client_error" if ours else "refused", str(error))
            return
        if exchange in self.in_flight:
            connection.start(exchange)
        else:  # timed out or cancelled meanwhile
            connection.abort()
