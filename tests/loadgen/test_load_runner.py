"""Runs against servers whose truth is known: schedules kept, stalls seen, concurrency exact, lateness told."""

import asyncio
import fcntl
import io
import os
import pty
import struct
import termios
import time
from statistics import median

import pytest
from load_servers import (
    END,
    ONE,
    Got,
    Lines,
    answer,
    chunk,
    delta,
    drive,
    event,
    head,
    job,
    listening,
    measured,
    says,
)

from loadgen.results.record import Header, Line, Recording, RequestRecord
from loadgen.results.summary import summarize
from loadgen.running.progress import Progress
from loadgen.running.runner import Driver, run
from loadgen.traffic.arrivals import NS, Load


class Paced:
    """Sends tokens on an absolute schedule, and keeps when it did (ns since it had read the request)."""

    def __init__(self, ttft: float, itl: float, tokens: int) -> None:
        self.ttft, self.itl, self.tokens = ttft, itl, tokens
        self.truth: dict[str, list[float]] = {}

    async def __call__(self, got: Got, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        began, sent = loop.time(), []
        writer.write(head())
        for token in range(self.tokens):
            await asyncio.sleep(began + self.ttft + token * self.itl - loop.time())
            writer.write(chunk(delta(content=" x")))
            sent.append(loop.time() - began)
        writer.write(chunk(event("[DONE]")) + END)
        self.truth[got.headers["traceparent"].split("-")[1]] = sent


def test_long_answers_are_read_while_they_come() -> None:
    """Nothing is lost by it, and what waits to be read stays small: of 600 pieces never more than a third is kept."""
    lines, most = Lines(), 0

    async def start(driver: Driver) -> int:
        watching.append(asyncio.get_running_loop().create_task(watch(driver)))
        return time.perf_counter_ns()

    async def watch(driver: Driver) -> None:
        nonlocal most
        while True:
            waiting = [len(exchange.response.body.pieces) for exchange in driver.client.in_flight]
            most = max([most, *waiting])
            await asyncio.sleep(0.01)

    async def both() -> None:
        async with listening(Paced(ttft=0.01, itl=0.002, tokens=600)) as port:
            await run(job(port, Load(concurrency=3, requests=6)), lines.all.append, start=start)
        watching[0].cancel()

    watching: list[asyncio.Task[None]] = []
    asyncio.run(both())
    assert [len(record.token_ns) for record in lines.records] == [600] * 6
    assert {record.error for record in lines.records} == {None}
    assert sorted(record.seq for record in lines.records) == list(range(6))
    assert 0 < most < 200


def test_figures_are_the_servers_own() -> None:
    """TTFT, TPOT and every gap agree with what the server did, request by request, to 10 ms in the median."""
    server = Paced(ttft=0.05, itl=0.02, tokens=10)
    records = measured(server, Load(concurrency=8, requests=32)).records
    ttft, tpot, itl = [], [], []
    for record in records:
        truth = server.truth[record.trace_id]
        ttft.append(abs((record.ttft_from_sent or 0) - truth[0]))
        tpot.append(abs((record.tpot or 0) - (truth[-1] - truth[0]) / 9))
        itl += [abs(gap - (b - a)) for gap, a, b in zip(record.itl, truth, truth[1:], strict=False)]
    assert (len(records), len(itl)) == (32, 32 * 9)
    assert max(median(ttft), median(tpot), median(itl)) < 0.010
    assert all((record.ttft or 0) >= 0.05 for record in records)


def test_a_stall_shows_in_every_request_that_was_due_while_it_lasted() -> None:
    """Coordinated omission: the server stands still for 1 s; requests due meanwhile waited, and their TTFT says so."""

    class Stalls:
        """Handles one request at a time; the fifth takes a second."""

        def __init__(self) -> None:
            self.lock, self.number = asyncio.Lock(), 0

        async def __call__(self, _got: Got, writer: asyncio.StreamWriter) -> None:
            async with self.lock:
                self.number += 1
                if self.number == 5:
                    await asyncio.sleep(1)
            writer.write(answer(2))

    async def both() -> Lines:
        async with listening(Stalls()) as port:
            return await drive(port, Load(rate=20, arrivals="constant", requests=30))

    records = sorted(asyncio.run(both()).records, key=lambda record: record.seq)
    stall = records[4].scheduled_ns + NS
    for record in records[4:23]:  # due 0 to 0.9 s after the stall began
        assert (record.ttft or 0) * NS == pytest.approx(stall - record.scheduled_ns, abs=0.05 * NS)
    assert sum((record.ttft or 0) > 0.5 for record in records) == pytest.approx(11, abs=1)
    assert max(record.send_lag for record in records) < 0.2


def test_an_open_loop_sends_on_schedule_whatever_is_in_flight() -> None:
    """A server that answers after 0.3 s gets all 30 requests within those 0.3 s, at their offsets."""
    load = Load(rate=100, arrivals="poisson", requests=30)
    lines = measured(Paced(0.3, 0, 1), load)
    records = sorted(lines.records, key=lambda record: record.seq)
    assert [record.scheduled_ns for record in records] == list(load.offsets(seed=0))
    assert median(record.send_lag for record in records) < 0.01
    assert lines.footer.achieved_rate == pytest.approx(
        29 * NS / (records[-1].scheduled_ns - records[0].scheduled_ns), rel=0.2
    )


def test_a_closed_loop_keeps_its_concurrency_exactly() -> None:
    """Never more in flight at the server than slots, all of them used, and each request due when its slot got free."""
    now = most = 0

    async def handle(_got: Got, writer: asyncio.StreamWriter) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.005)
        now -= 1
        writer.write(answer(1))

    records = measured(handle, Load(concurrency=7, requests=70)).records
    assert (len(records), most) == (70, 7)
    ends = {record.done_ns for record in records}
    assert sum(record.scheduled_ns in ends for record in records) == 63


@pytest.mark.parametrize("load", [Load(rate=100, arrivals="constant", duration=0.3), Load(concurrency=3, duration=0.3)])
def test_a_duration_stops_sending_and_waits_for_the_answers(load: Load) -> None:
    """Requests start before the end only, and those in flight at the end are still answered."""
    lines = measured(Paced(0.05, 0, 1), load)
    assert all(record.error is None and record.scheduled_ns < 0.31 * NS for record in lines.records)
    assert 15 <= len(lines.records) <= 30
    assert 0.3 <= lines.footer.seconds < 1
    assert not lines.footer.interrupted


def test_a_file_is_a_header_records_and_a_footer() -> None:
    """The header says when the run began in wall time, the footer how the client did."""
    lines = measured(says(answer(2)))
    first, *records, _ = lines.all
    assert isinstance(first, Header)
    assert first.started_unix_ns > 1_700_000_000 * NS
    assert [type(record) for record in records] == [RequestRecord]
    assert lines.footer.sent == 1
    assert lines.footer.send_lag is not None


def test_a_busy_client_sees_that_it_is_late() -> None:
    """Work of 0.1 s in the client's own event loop shows in its loop lag: the run can be told to be in doubt."""

    async def both() -> Lines:
        async def busy(_got: Got, writer: asyncio.StreamWriter) -> None:
            end = asyncio.get_running_loop().time() + 0.1
            while asyncio.get_running_loop().time() < end:
                pass
            await asyncio.sleep(0.05)
            writer.write(answer(1))

        async with listening(busy) as port:
            return await drive(port, Load(concurrency=1, requests=5))

    lag = asyncio.run(both()).footer.loop_lag
    assert lag is not None
    assert lag.max > 0.05


def test_a_run_ends_when_its_records_cannot_be_written() -> None:
    """A full disk stops the run at once, with the reason, and not silently at the end."""
    lines: list[Line] = []
    asked = 0

    async def handle(_got: Got, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        writer.write(answer(1))

    def write(line: Line) -> None:
        if len(lines) == 3:
            raise OSError(28, "No space left on device")
        lines.append(line)

    async def both() -> None:
        async with listening(handle) as port:
            await run(job(port, Load(concurrency=2, duration=60)), write)

    with pytest.raises(OSError, match="No space left"):
        asyncio.run(asyncio.wait_for(both(), 10))
    assert asked < 10


def test_a_closed_loop_does_not_start_without_a_server() -> None:
    """Its connections are opened first: one error at the start and no record, not a thousand refused ones."""
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        asyncio.run(drive(1, ONE))


def test_a_server_that_dies_is_not_hammered() -> None:
    """After the server is gone, the slots of a closed loop try again ten times a second each, not in a tight loop."""

    async def both() -> Lines:
        async with listening(says(answer(1))) as port:
            running = asyncio.create_task(drive(port, Load(concurrency=4, duration=0.6)))
            await asyncio.sleep(0.1)
        return await running

    records = asyncio.run(both()).records
    assert 4 < sum(record.error == "refused" for record in records) <= 4 * 7


def test_progress_tells_how_far_the_run_is() -> None:
    """Done of total, in flight, failures, and latencies and rates of what ended in the last ten seconds."""
    progress = Progress(Load(rate=1, requests=40), io.StringIO())
    for i in range(20):
        begin, slow = i * NS, 1 + (i < 10)
        stamps = tuple(begin + slow * NS // 4 + token * NS // 40 for token in range(21))
        progress.add(RequestRecord(seq=i, trace_id="t", scheduled_ns=begin, sent_ns=begin, done_ns=begin + NS,
                                   token_ns=stamps, output_tokens=21, error="timeout" if i == 0 else None))  # fmt: skip
    assert list(progress.parts(20.0, 3)) == [
        "20 s", "20/40 done", "3 in flight", "1 failed", "p50: TTFT 250 ms TPOT 25.0 ms", "1.1/s", "23 tokens/s"
    ]  # fmt: skip
    assert list(progress.parts(60.0, 1)) == ["60 s", "20/40 done", "1 in flight", "1 failed", "0.0/s", "0 tokens/s"]


def test_progress_fits_the_terminal() -> None:
    """What wraps could not be drawn over: on a narrow terminal the last parts are left out, each as a whole."""
    parent, child = pty.openpty()
    with os.fdopen(parent, "rb") as screen, os.fdopen(child, "w") as stream:
        fcntl.ioctl(stream, termios.TIOCSWINSZ, struct.pack("4H", 24, 40, 0, 0))
        progress = Progress(Load(rate=1, requests=40), stream)
        progress.add(RequestRecord(seq=0, trace_id="t", scheduled_ns=0, sent_ns=0, done_ns=1, token_ns=(1,)))
        progress.end()
        drawn = os.read(screen.fileno(), 1000).decode()
    assert drawn.strip("\r\n").removeprefix("\x1b[K").split("  ")[:2] == ["0 s", "1/40 done"]
    assert len(drawn.strip().removeprefix("\x1b[K")) < 40
    assert not drawn.strip().endswith("tokens/s")


def test_progress_ends_with_the_last_state() -> None:
    """A log of a CI job shows where the run ended, however short it was."""
    stream = io.StringIO()
    load = Load(concurrency=2, requests=9)

    async def both() -> None:
        async with listening(says(answer(1))) as port:
            await run(job(port, load), lambda line: None, Progress(load, stream))

    asyncio.run(both())
    assert "  9/9 done  p50: TTFT " in stream.getvalue()
    assert stream.getvalue().endswith("\n")


def test_the_summary_of_a_run_counts_what_happened() -> None:
    """Every third request fails: outcomes, rates and quantiles agree with that."""
    number = 0

    async def handle(_got: Got, writer: asyncio.StreamWriter) -> None:
        nonlocal number
        number += 1
        writer.write(answer(4) if number % 3 else head("500 Internal Server Error", content_length="0"))

    lines = measured(handle, Load(concurrency=3, requests=30))
    first = lines.all[0]
    assert isinstance(first, Header)
    summary = summarize(Recording(first, tuple(lines.records), lines.footer))
    assert summary.outcomes == {"ok": 20, "http_5xx": 10}
    assert (summary.prompt_tokens, summary.output_tokens) == (7, 4)
    assert summary.ttft is not None
    assert summary.ttft.count == 20
    assert summary.requests_per_second == pytest.approx(20 / (summary.seconds or 0))
