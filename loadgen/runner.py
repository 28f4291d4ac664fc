"""Drives one run: sends on schedule (open loop) or as slots get free (closed loop), records, and watches itself."""

import asyncio
import contextlib
import secrets
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from time import perf_counter_ns

from loadgen.arrivals import NS
from loadgen.client import Address, Client, Exchange
from loadgen.http1 import request_bytes
from loadgen.progress import Progress
from loadgen.record import Footer, Header, Lag, Line, RequestRecord
from loadgen.reply import Reply, read_reply
from loadgen.summary import quantile
from loadgen.workload import PATHS

# After the first signal, answers that are nearly done may still end.
_DRAIN_SECONDS = 2.0
# A closed loop must not hammer a port where nothing listens.
_REFUSED_PAUSE = 0.1
_PREPARED = 64
_WATCH_SECONDS = 0.02

Write = Callable[[Line], None]


@dataclass(frozen=True, slots=True)
class Wire:
    """How to reach the target: the address, the path before /v1 and the headers every request carries."""

    address: Address
    base_path: str
    headers: dict[str, str]


async def run(header: Header, wire: Wire, write: Write, progress: Progress | None = None) -> Footer:
    """Do the run that `header` describes and write its lines: header, one record per finished request, footer.

    SIGINT or SIGTERM stops sending and breaks off what is in flight after 2 s, a second one at once.
    Raises OSError when the first connections are refused, and whatever `write` raises.
    """
    driver = _Driver(header, wire, write, progress)
    try:
        await driver.prepare()
        footer = await driver.drive()
    finally:
        await driver.client.close()
    write(footer)
    return footer


def to_record(exchange: Exchange, origin_ns: int) -> Generator[None, None, RequestRecord]:
    """Read an ended exchange, pause by pause, into a record whose stamps count from `origin_ns`."""
    response = exchange.response
    reply = Reply()
    if response.status is not None:
        content_type = response.headers.get("content-type", "")
        reply = yield from read_reply(response.status, content_type, response.pieces, exchange.error is None)
    error, detail = reply.error, reply.detail
    if exchange.error and error in (None, "truncated", "bad_response"):  # how it ended says more than how it looks
        error, detail = exchange.error, exchange.detail
    counts = reply.token_counts
    output_tokens = reply.output_tokens if reply.output_tokens is not None else sum(counts)
    return RequestRecord(
        seq=exchange.seq,
        trace_id=exchange.trace_id,
        scheduled_ns=exchange.scheduled_ns - origin_ns,
        sent_ns=exchange.sent_ns - origin_ns,
        done_ns=exchange.done_ns - origin_ns,
        token_ns=tuple(stamp - origin_ns for stamp in reply.token_ns),
        token_counts=tuple(counts) if any(count != 1 for count in counts) else (),
        prompt_tokens=reply.prompt_tokens,
        output_tokens=output_tokens if response.status == 200 else None,
        status=response.status,
        error=error,
        detail=detail,
        finish_reason=reply.finish_reason,
    )


class _Driver:
    """The state of a run inside its event loop."""

    def __init__(self, header: Header, wire: Wire, write: Write, progress: Progress | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._header, self._load, self._write, self._progress = header, header.load, write, progress
        self.client = Client(wire.address, header.timeout, self._on_done)
        self._exchanges = _exchanges(header, wire)
        self._offsets = header.load.offsets(header.workload.seed) if header.load.rate else iter(())
        self._next_offset = next(self._offsets, None)
        self._prepared: deque[Exchange] = deque()
        self._prepare_ahead = max(_PREPARED, header.load.concurrency or 0)
        self._ended: deque[Exchange] = deque()
        self._reading: Generator[None, None, RequestRecord] | None = None
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._sending, self._working, self._interrupted = True, False, False
        self._origin = self._first_sent = self._last_sent = 0
        self._send_lags: list[float] = []

    async def prepare(self) -> None:
        """Build the first requests; for a closed loop open its connections, so that none is opened under the clock."""
        slots = self._load.concurrency or 0
        await self.client.open(min(slots, self._load.requests or slots))
        self._prepared.extend(islice(self._exchanges, self._prepare_ahead))

    async def drive(self) -> Footer:
        """Write the header, send everything, wait for every answer and tell how the client did."""
        cpu, self._origin, started = time.process_time(), perf_counter_ns(), time.time_ns()
        self._write(replace(self._header, started_unix_ns=started))
        loop_lags: list[float] = []
        helpers = [self._loop.create_task(_watch(loop_lags))]
        if self._progress:
            helpers.append(self._loop.create_task(self._progress.draw_forever()))
        with self._signals():
            self._begin()
            try:
                await self._over
            finally:
                self._sending = False
                for helper in helpers:
                    helper.cancel()
                await asyncio.gather(*helpers, return_exceptions=True)
                if self._progress:
                    self._progress.end()
        seconds = (perf_counter_ns() - self._origin) / NS
        return self._footer(seconds, time.process_time() - cpu, loop_lags)

    def _begin(self) -> None:
        if self._load.concurrency is None:
            self._pump()
            return
        if self._load.duration is not None:
            self._loop.call_later(self._load.duration, self._stop_sending)
        for _ in range(self._load.concurrency):
            self._send(perf_counter_ns())

    def _pump(self) -> None:
        """Open loop: send all that is due and come back for the next."""
        now = perf_counter_ns() - self._origin
        while self._sending and self._next_offset is not None and self._next_offset <= now:
            self._send(self._origin + self._next_offset)
            self._next_offset = next(self._offsets, None)
        if self._next_offset is None:
            self._stop_sending()
        elif self._sending:
            wait = (self._origin + self._next_offset - perf_counter_ns()) / NS
            self._loop.call_later(max(0.0, wait), self._pump)

    def _send(self, scheduled_ns: int) -> None:
        if not self._sending:
            return
        exchange = self._prepared.popleft() if self._prepared else next(self._exchanges, None)
        if exchange is None:
            self._stop_sending()
            return
        self.client.send(exchange, scheduled_ns)
        self._last_sent = exchange.sent_ns
        self._first_sent = self._first_sent or exchange.sent_ns
        self._send_lags.append((exchange.sent_ns - scheduled_ns) / NS)

    def _on_done(self, exchange: Exchange) -> None:
        self._ended.append(exchange)
        if self._load.concurrency and self._sending:
            if exchange.error == "refused":
                self._loop.call_later(_REFUSED_PAUSE, lambda: self._send(perf_counter_ns()))
            else:
                self._send(exchange.done_ns)
        self._wake()

    def _stop_sending(self) -> None:
        self._sending = False
        self._wake()

    def _wake(self) -> None:
        if not self._working:
            self._working = True
            self._loop.call_soon(self._work)

    def _work(self) -> None:
        """One small piece of cold work per turn of the loop, so that reads are stamped in between."""
        try:
            busy = self._read_some() or self._prepare_one()
        except Exception as error:  # in a callback of the loop it would only be logged, and the run never end
            self._over.set_exception(error)
            return
        if busy:
            self._loop.call_soon(self._work)
            return
        self._working = False
        if not (self._sending or self.client.in_flight or self._over.done()):
            self._over.set_result(None)

    def _read_some(self) -> bool:
        if self._reading is None:
            if not self._ended:
                return False
            self._reading = to_record(self._ended.popleft(), self._origin)
        try:
            next(self._reading)
        except StopIteration as end:
            self._reading = None
            self._write(end.value)
            if self._progress:
                self._progress.add(end.value)
        return True

    def _prepare_one(self) -> bool:
        if not self._sending or len(self._prepared) >= self._prepare_ahead:
            return False
        exchange = next(self._exchanges, None)
        if exchange is not None:
            self._prepared.append(exchange)
        return exchange is not None

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        installed = []
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(ValueError, RuntimeError):  # outside the main thread there are no signals
                self._loop.add_signal_handler(number, self._interrupt)
                installed.append(number)
        try:
            yield
        finally:
            for number in installed:
                self._loop.remove_signal_handler(number)

    def _interrupt(self) -> None:
        if self._interrupted:
            self.client.cancel_all()
            return
        self._interrupted = True
        self._stop_sending()
        self._loop.call_later(_DRAIN_SECONDS, self.client.cancel_all)

    def _footer(self, seconds: float, cpu_seconds: float, loop_lags: list[float]) -> Footer:
        sent = len(self._send_lags)
        span = (self._last_sent - self._first_sent) / NS
        return Footer(
            interrupted=self._interrupted,
            seconds=seconds,
            sent=sent,
            achieved_rate=(sent - 1) / span if span else None,
            cpu_share=cpu_seconds / seconds,
            send_lag=_lag(self._send_lags),
            loop_lag=_lag(loop_lags),
        )


def _exchanges(header: Header, wire: Wire) -> Iterator[Exchange]:
    """The run's requests as bytes, each with a trace id of its own."""
    path, run_id = wire.base_path + PATHS[header.workload.endpoint], secrets.token_hex(8)
    for spec in islice(header.workload.requests(header.fingerprint.model), header.load.requests):
        span_id = f"{spec.seq + 1:016x}"
        headers = {**wire.headers, "traceparent": f"00-{run_id}{span_id}-{span_id}-01"}
        yield Exchange(spec.seq, run_id + span_id, request_bytes("POST", path, headers, spec.body))


async def _watch(lags: list[float]) -> None:
    """Sample how late the event loop runs a timer."""
    while True:
        due = perf_counter_ns() + int(_WATCH_SECONDS * NS)
        await asyncio.sleep(_WATCH_SECONDS)
        lags.append(max(0, perf_counter_ns() - due) / NS)


def _lag(values: list[float]) -> Lag | None:
    ordered = sorted(values)
    return Lag(p50=quantile(ordered, 0.5), p99=quantile(ordered, 0.99), max=ordered[-1]) if ordered else None
