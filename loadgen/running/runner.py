"""Drives one worker's share of a run: sends on schedule (open loop) or as slots get free (closed loop), records all of
it, and watches itself."""

import asyncio
import contextlib
import signal
import time
from array import array
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from operator import eq
from time import perf_counter_ns

from loadgen.results.record import Footer, Lag, Line, RequestRecord
from loadgen.results.summary import quantile
from loadgen.running.job import Envelopes, Job
from loadgen.running.progress import IN_PLACE_SECONDS, Progress
from loadgen.traffic.arrivals import NS
from loadgen.wire.client import Client, Exchange
from loadgen.wire.http1 import Response
from loadgen.wire.outcome import read_exchange
from loadgen.wire.reply import Steps, is_stream

# After the first signal, answers that are nearly done may still end.
_DRAIN_SECONDS = 2.0
# A closed loop must not hammer a port where nothing listens.
_REFUSED_PAUSE = 0.1
_PREPARED = 64
# Answers of one batch end together; to send as many requests at once would take 20 ms of a thousand streams.
_SENT_AT_ONCE = 16
_WATCH_SECONDS = 0.02
# An answer of which so many pieces wait to be read need not have ended for that.
_GROWTH_SECONDS, _MOST_PIECES = 0.1, 16

Write = Callable[[Line], None]
# Called when all is ready; tells at which reading of `perf_counter_ns` to begin.
Start = Callable[["Driver"], Awaitable[int]]


async def run(job: Job, write: Write, progress: Progress | None = None, start: Start | None = None) -> Footer:
    """Do a job and write its lines: header, one record per finished request, footer.

    SIGINT or SIGTERM stops sending and breaks off what is in flight after 2 s, a second one at once; with `start`
    whoever gave it calls `Driver.interrupt` instead. Raises OSError when the first connections are refused, and
    whatever `write` raises.
    """
    driver = Driver(job, write, progress)
    try:
        await driver.prepare()
        with contextlib.nullcontext() if start else _signals(driver.interrupt):
            footer = await driver.drive(await start(driver) if start else perf_counter_ns())
            write(footer)  # here, or one signal too many would leave records that look cut short
    finally:
        await driver.client.close()
    return footer


class Driver:
    """The state of a run inside its event loop."""

    def __init__(self, job: Job, write: Write, progress: Progress | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._job, self._header, self._load = job, job.header, job.header.load
        self._write, self._progress = write, progress
        self.client = Client(job.wire.address, job.header.timeout, self._on_done)
        self._envelopes = Envelopes(job)
        self._arrivals = map(self._envelopes.exchange, job.conversations())
        self._offsets = job.offsets()
        self._next_offset = next(self._offsets, None)
        self._prepared: deque[Exchange] = deque()
        self._prepare_ahead = max(_PREPARED, job.slots)
        self._due: deque[int] = deque()
        self._ended: deque[Exchange] = deque()
        self._growing: deque[Exchange] = deque()
        self._reading: tuple[Exchange, Steps[tuple[RequestRecord, str]]] | None = None
        # Of the exchanges that were read in part.
        self._readers: dict[Exchange, Steps[tuple[RequestRecord, str]]] = {}
        self._thinking: set[asyncio.TimerHandle] = set()
        self._over: asyncio.Future[None] = self._loop.create_future()
        # More conversations may begin; those that began may go on; a piece of cold work is due.
        self._arriving, self._sending, self._working = True, True, False
        self._interrupted = False
        self._origin = self._first_sent = self._last_sent = 0
        self._send_lags = array("d")
        self._chunks = self._coalesced = 0

    async def prepare(self) -> None:
        """Build the first requests; for a closed loop open its connections, so that none is opened under the clock."""
        await self.client.open(min(self._job.slots, self._load.requests or self._job.slots))
        self._prepared.extend(islice(self._arrivals, self._prepare_ahead))

    async def drive(self, origin_ns: int) -> Footer:
        """Write the header, send everything from `origin_ns` on, wait for every answer and tell how the client did."""
        self._origin = origin_ns
        self._write(replace(self._header, started_unix_ns=time.time_ns() + origin_ns - perf_counter_ns()))
        await asyncio.sleep((origin_ns - perf_counter_ns()) / NS)
        cpu, loop_lags = time.process_time(), array("d")
        helpers = [self._loop.create_task(_watch(loop_lags)), self._loop.create_task(self._find_growing())]
        if self._progress:
            self._progress.begin(origin_ns)
            helpers.append(self._loop.create_task(self._draw(self._progress)))
        self._begin()
        try:
            await self._over
        finally:
            self._stop_sending()
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            if self._progress:
                self._progress.end()
        return self._footer((perf_counter_ns() - origin_ns) / NS, time.process_time() - cpu, loop_lags)

    async def _draw(self, progress: Progress) -> None:
        while True:
            await asyncio.sleep(IN_PLACE_SECONDS)
            progress.tick(len(self.client.in_flight))

    def interrupt(self) -> None:
        """Stop sending, and break off what is in flight after a while; the second time at once."""
        if self._interrupted:
            self.client.cancel_all()
            return
        self._interrupted = True
        self._stop_sending()
        self._loop.call_later(_DRAIN_SECONDS, self.client.cancel_all)

    # --- sending ------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._load.concurrency is None:
            self._pump()
            return
        if self._load.duration is not None:
            self._loop.call_later(self._load.duration, self._stop_sending)
        for _ in range(self._job.slots):
            self._arrive(perf_counter_ns())

    def _pump(self) -> None:
        """Open loop: send all that is due and come back for the next."""
        now = perf_counter_ns() - self._origin
        while self._arriving and self._next_offset is not None and self._next_offset <= now:
            self._arrive(self._origin + self._next_offset)
            self._next_offset = next(self._offsets, None)
        if self._next_offset is None:
            self._stop_arrivals()
        elif self._arriving:
            wait = (self._origin + self._next_offset - perf_counter_ns()) / NS
            self._loop.call_later(max(0.0, wait), self._pump)

    def _arrive(self, scheduled_ns: int) -> None:
        """Begin a conversation."""
        if not self._arriving:
            return
        exchange = self._prepared.popleft() if self._prepared else next(self._arrivals, None)
        if exchange is None:
            self._stop_arrivals()
            return
        self._send(exchange, scheduled_ns)

    def _send(self, exchange: Exchange, scheduled_ns: int) -> None:
        self.client.send(exchange, scheduled_ns)
        self._last_sent = exchange.sent_ns
        self._first_sent = self._first_sent or exchange.sent_ns
        self._send_lags.append((exchange.sent_ns - scheduled_ns) / NS)

    def _on_done(self, exchange: Exchange) -> None:
        self._ended.append(exchange)
        if exchange.conversation.ended:
            self._free_slot(exchange)
        self._wake()

    def _free_slot(self, exchange: Exchange) -> None:
        if self._load.concurrency is None:
            return
        if exchange.error == "refused":
            self._loop.call_later(_REFUSED_PAUSE, lambda: self._arrive(perf_counter_ns()))
            return
        self._due.append(exchange.done_ns)
        if len(self._due) == 1:
            self._loop.call_soon(self._fill_slots)

    def _fill_slots(self) -> None:
        """Closed loop: begin what is due, a few at a time, so that tokens are stamped in between."""
        for _ in range(min(_SENT_AT_ONCE, len(self._due))):
            self._arrive(self._due.popleft())
        if self._due:
            self._loop.call_soon(self._fill_slots)

    def _go_on(self, exchange: Exchange, record: RequestRecord, answer: str) -> None:
        """After an answer: the conversation's next turn, when its user has thought, or the next user."""
        if exchange.conversation.ended:
            return
        if record.error or not self._sending:
            self._free_slot(exchange)
            return
        due = exchange.done_ns + int((self._header.workload.think_time or 0) * NS)
        turn = self._envelopes.exchange(exchange.conversation, answer)

        def say() -> None:
            self._thinking.discard(handle)
            self._send(turn, due)

        handle = self._loop.call_later(max(0.0, (due - perf_counter_ns()) / NS), say)
        self._thinking.add(handle)

    def _stop_arrivals(self) -> None:
        self._arriving = False
        self._wake()

    def _stop_sending(self) -> None:
        self._sending = False
        for handle in self._thinking:
            handle.cancel()
        self._thinking.clear()
        self._stop_arrivals()

    # --- cold work ----------------------------------------------------------------------------------------------------

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
        if not (self._arriving or self.client.in_flight or self._thinking or self._over.done()):
            self._over.set_result(None)

    def _read_some(self) -> bool:
        if self._reading is None:
            if not (self._ended or self._growing):
                return False
            exchange = (self._ended or self._growing).popleft()
            if exchange.read:  # to its end, while it was taken for growing
                return True
            self._reading = exchange, self._readers.pop(exchange, None) or self._reader(exchange)
        exchange, steps = self._reading
        try:
            if next(steps):  # it still grows
                self._reading, self._readers[exchange] = None, steps
        except StopIteration as end:
            self._reading = None
            record, answer = end.value
            self._keep(exchange, record, answer)
        return True

    def _reader(self, exchange: Exchange) -> Steps[tuple[RequestRecord, str]]:
        return read_exchange(exchange, self._origin, self._header.workload, self._job.keep_text)

    async def _find_growing(self) -> None:
        """Have long answers read while they come: kept whole, a thousand of them would fill a gigabyte."""
        while True:
            await asyncio.sleep(_GROWTH_SECONDS)
            if not self._growing:
                self._growing.extend(exchange for exchange in self.client.in_flight if _is_long(exchange.response))
                self._wake()

    def _keep(self, exchange: Exchange, record: RequestRecord, answer: str) -> None:
        exchange.read = True
        self._write(record)
        self._chunks += len(record.token_ns)
        self._coalesced += sum(map(eq, record.token_ns, record.token_ns[1:]))
        if self._progress:
            self._progress.add(record)
        self._go_on(exchange, record, answer)

    def _prepare_one(self) -> bool:
        if not self._arriving or len(self._prepared) >= self._prepare_ahead:
            return False
        exchange = next(self._arrivals, None)
        if exchange is not None:
            self._prepared.append(exchange)
        return exchange is not None

    def _footer(self, seconds: float, cpu_seconds: float, loop_lags: Sequence[float]) -> Footer:
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
            coalesced=self._coalesced / self._chunks if self._chunks else None,
        )


@contextlib.contextmanager
def _signals(interrupt: Callable[[], None]) -> Iterator[None]:
    loop, installed = asyncio.get_running_loop(), []
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(ValueError, RuntimeError):  # outside the main thread there are no signals
            loop.add_signal_handler(number, interrupt)
            installed.append(number)
    try:
        yield
    finally:
        for number in installed:
            loop.remove_signal_handler(number)


def _is_long(response: Response) -> bool:
    stream = response.status == 200 and is_stream(response.headers.get("content-type", ""))
    return stream and len(response.body.pieces) >= _MOST_PIECES


async def _watch(lags: "array[float]") -> None:
    """Sample how late the event loop runs a timer."""
    while True:
        due = perf_counter_ns() + int(_WATCH_SECONDS * NS)
        await asyncio.sleep(_WATCH_SECONDS)
        lags.append(max(0, perf_counter_ns() - due) / NS)


def _lag(values: Sequence[float]) -> Lag | None:
    ordered = sorted(values)
    return Lag(p50=quantile(ordered, 0.5), p99=quantile(ordered, 0.99), max=ordered[-1]) if ordered else None
