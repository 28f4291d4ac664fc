"""Several processes: one schedule shared without gap or overlap, one start, nothing lost with one that dies."""

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from load_servers import Got, answer, chunk, delta, head, in_thread, job

from loadgen.results.reading import read
from loadgen.results.record import Footer, Lag, RequestRecord, decode
from loadgen.running.cluster import work
from loadgen.running.job import Job
from loadgen.running.runner import run
from loadgen.running.workers import WorkerError, merge, run_workers
from loadgen.traffic.arrivals import NS, Load

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "import sys; from loadgen.cli import main; sys.exit(main())"]


async def engine(got: Got, writer: asyncio.StreamWriter) -> None:
    """Answers four tokens; to the model `slow` one, and then nothing."""
    if got.method == "GET":
        body = json.dumps({"data": [{"id": "tiny"}, {"id": "slow"}]}).encode()
        writer.write(head("200 OK", "application/json", content_length=str(len(body))) + body)
    elif got.path == "/tokenize":
        writer.write(head("404 Not Found", content_length="0"))
    elif b'"slow"' in got.body and b'"stream": true' in got.body:
        writer.write(head() + chunk(delta(content=" a")))
        await asyncio.sleep(60)
    else:
        writer.write(answer(4))


def shares(load: Load, workers: int, **workload: object) -> list[Job]:
    whole = job(1, load, **workload)  # type: ignore[arg-type]
    return [Job(whole.header, whole.wire, whole.files, worker, workers) for worker in range(workers)]


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_shares_make_up_the_whole(workers: int) -> None:
    """Arrival i goes to worker i modulo their number, with the offset and the prompt it has in a run by one."""
    load = Load(rate=50, arrivals="poisson", requests=100)
    offsets: list[int] = [0] * 100
    bodies: dict[int, bytes] = {}
    for share in shares(load, workers):
        offsets[share.worker :: workers] = list(share.offsets())
        bodies |= {(spec := conversation.next()).seq: spec.body for conversation in share.conversations()}
    assert offsets == list(load.offsets(0))
    (whole,) = shares(load, 1)
    assert [bodies[i] for i in range(100)] == [conversation.next().body for conversation in whole.conversations()]


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_slots_make_up_the_concurrency(workers: int) -> None:
    """Exactly as many in flight as asked, as evenly as they divide."""
    slots = [share.slots for share in shares(Load(concurrency=8, requests=8), workers)]
    assert sum(slots) == 8
    assert max(slots) - min(slots) <= 1


@pytest.mark.parametrize("load", [Load(rate=200, arrivals="constant", requests=60), Load(concurrency=5, requests=60)])
def test_a_run_by_workers_is_one_run(load: Load, tmp_path: Path) -> None:
    """Two processes: one file with every request once, on one schedule, and a footer of both."""
    with in_thread(engine) as port:
        target = ["--target", f"http://127.0.0.1:{port}", "--model", "tiny", "--workers", "2", "--quiet"]
        much = ["--rate", "200", "--arrivals", "constant"] if load.rate else ["--concurrency", "5"]
        command = [*COMMAND, "run", *target, *much, "--requests", "60", "--records", str(tmp_path / "r")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    recording = read(tmp_path / "r")
    assert sorted(record.seq for record in recording.records) == list(range(60))
    assert recording.footer is not None
    assert (recording.footer.sent, recording.footer.workers, recording.footer.lost_workers) == (60, 2, ())
    if load.rate:
        assert sorted(record.scheduled_ns for record in recording.records) == list(load.offsets(0))
    assert max(record.send_lag for record in recording.records) < 0.5
    assert list(tmp_path.iterdir()) == [tmp_path / "r"]


def until(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def test_the_terminal_shows_what_all_workers_have_in_flight(tmp_path: Path) -> None:
    """Each tells its own number while it waits for answers that do not end."""
    parent, child = pty.openpty()
    with os.fdopen(parent, "rb", buffering=0) as screen, in_thread(engine) as port:
        target = ["--target", f"http://127.0.0.1:{port}", "--model", "slow", "--workers", "2", "--concurrency", "5"]
        command = [*COMMAND, "run", *target, "--requests", "5", "--records", str(tmp_path / "r")]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=child, text=True)
        os.close(child)
        drawn = b""

        def shown() -> bool:
            nonlocal drawn
            drawn += screen.read(4096)
            return b"0/5 done  5 in flight" in drawn

        until(shown, process)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 130


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers through /proc")
def test_a_killed_worker_is_told_and_its_records_are_kept(tmp_path: Path) -> None:
    """SIGKILL to one of two: what it had recorded is in the file, the other ends in order, the run is inconclusive."""
    path = tmp_path / "r"
    with in_thread(engine) as port:
        much = ["--rate", "100", "--duration", "4", "--workers", "2", "--quiet", "--records", str(path)]
        command = [*COMMAND, "run", "--target", f"http://127.0.0.1:{port}", "--model", "tiny", *much]
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        until(lambda: path.exists() and path.read_text().count("\n") > 40, process)
        os.kill(children(process.pid)[0], signal.SIGKILL)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 3, err
    assert "lost 1 of 2 workers (number 0)" in err
    recording = read(path)
    assert recording.footer is not None
    assert (recording.footer.interrupted, recording.footer.lost_workers) == (True, (0,))
    by_worker = [sum(record.seq % 2 == worker for record in recording.records) for worker in (0, 1)]
    assert min(by_worker) > 10
    assert max(by_worker) > 150


def test_ctrl_c_drains_workers_and_twice_breaks_off(tmp_path: Path) -> None:
    """Signals reach every worker once, through the parent: records of what was in flight are kept as cancelled."""
    path = tmp_path / "r"
    with in_thread(engine) as port:
        much = ["--rate", "50", "--duration", "60", "--workers", "2", "--quiet", "--records", str(path)]
        command = [
            *COMMAND,
            "run",
            "--target",
            f"http://127.0.0.1:{port}",
            "--model",
            "tiny=1",
            "--model",
            "slow=1",
            *much,
        ]
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                   start_new_session=True)  # fmt: skip
        until(lambda: path.exists() and path.read_text().count("\n") > 20, process)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
        time.sleep(0.3)
        os.killpg(process.pid, signal.SIGINT)
        began = time.monotonic()
        _, err = process.communicate(timeout=20)
    assert (process.returncode, "Traceback" in err) == (130, False)
    assert time.monotonic() - began < 1.5  # the drain after the first would take 2 s
    recording = read(path)
    assert {record.error for record in recording.records} == {None, "cancelled"}
    assert recording.footer is not None
    assert recording.footer.sent == len(recording.records)


def test_a_worker_that_cannot_start_says_why(tmp_path: Path) -> None:
    """Nothing listens: the closed loop's first connections are refused, which is one clear error."""
    whole = job(1, Load(concurrency=2, requests=4))
    both = Job(whole.header, whole.wire, whole.files, 0, 2)
    with pytest.raises(WorkerError, match=r"refused|Connect call failed"):
        run_workers(both, tmp_path / "r", lambda line: None, asyncio.new_event_loop)


def late(folder: Path) -> asyncio.AbstractEventLoop:
    """The loop of a worker; the second one to ask has Ctrl-C pressed before it is ready."""
    try:
        (folder / "first").mkdir()
    except FileExistsError:
        time.sleep(0.3)
        os.kill(os.getppid(), signal.SIGINT)
        time.sleep(0.3)
    return asyncio.new_event_loop()


def test_ctrl_c_before_the_start_sends_nothing(tmp_path: Path) -> None:
    """One worker is ready and the other is not: all end at once, without a request, a line or a file."""
    whole = job(1, Load(rate=50, arrivals="constant", requests=500))
    both = Job(whole.header, whole.wire, whole.files, 0, 2)
    lines: list[object] = []
    with pytest.raises(KeyboardInterrupt):
        run_workers(both, tmp_path / "r", lines.append, partial(late, tmp_path))
    assert (lines, [path.name for path in tmp_path.iterdir()]) == ([], ["first"])


def test_workers_end_when_their_parent_dies(tmp_path: Path) -> None:
    """SIGKILL to the parent: no worker goes on sending, and its part file has what it had recorded."""
    path = tmp_path / "r"
    with in_thread(engine) as port:
        much = ["--rate", "100", "--duration", "60", "--workers", "2", "--quiet", "--records", str(path)]
        command = [*COMMAND, "run", "--target", f"http://127.0.0.1:{port}", "--model", "tiny", *much]
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        until(lambda: path.exists() and path.read_text().count("\n") > 20, process)
        workers = children(process.pid)
        process.kill()
        process.communicate(timeout=10)
        deadline = time.monotonic() + 10
        while any(Path(f"/proc/{pid}").exists() for pid in workers):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    parts = [(tmp_path / f"r.part{i}").read_text().splitlines() for i in (0, 1)]
    assert all(isinstance(decode(line), RequestRecord) for part in parts for line in part)
    assert min(map(len, parts)) > 5


def test_footers_are_merged_to_their_worst() -> None:
    """Sums of what was sent, the worst lag and CPU, and a worker that died makes the run interrupted."""
    lag = [Lag(p50=0.1 * i, p99=0.2 * i, max=0.3 * i) for i in (1, 2)]
    footers = [
        Footer(
            interrupted=False, seconds=5.0 + i, sent=10 * i, cpu_share=0.1 * i, achieved_rate=2.0, loop_lag=lag[i - 1]
        )
        for i in (1, 2)
    ]
    whole = merge(footers, 9.0)
    assert (whole.sent, whole.seconds, whole.cpu_share, whole.achieved_rate, whole.loop_lag) == (30, 7, 0.2, 4, lag[1])
    assert not whole.interrupted
    assert (merge([*footers, None], 9.0).interrupted, merge([*footers, None], 9.0).lost_workers) == (True, (2,))
    assert merge([None], 9.0).seconds == 9.0


class Desk:
    """Says to begin so much later; every look at the signals finds one more, where there are any."""

    def __init__(self, wait_ns: int, signals: bool = False) -> None:
        self.wait_ns, self.step, self.number = wait_ns, int(signals), 0

    def meet(self) -> int:
        return time.time_ns() + self.wait_ns

    def signals(self) -> int:
        self.number += self.step
        return self.number


def task(share: Job, desk: Desk) -> tuple[list[RequestRecord], Footer, int]:
    """What a cluster's task yields: its records, its footer, and in how many batches they came."""
    *batches, footer = work(share, desk, asyncio.new_event_loop)
    assert isinstance(footer, Footer)
    records = [decode(line) for batch in batches if isinstance(batch, list) for line in batch]
    return [record for record in records if isinstance(record, RequestRecord)], footer, len(batches)


def test_a_cluster_task_does_its_share_from_an_instant_of_wall_time() -> None:
    """The function that Ray runs: its records count from the common start, come as they end, and a late one refuses."""
    with in_thread(engine) as port:
        whole = job(port, Load(rate=20, arrivals="constant", requests=30))
        share = Job(whole.header, whole.wire, whole.files, 1, 2)
        records, footer, batches = task(share, Desk(NS // 5))
        with pytest.raises(WorkerError, match="after the start"):
            task(share, Desk(-NS))
    assert [record.seq for record in records] == list(range(1, 30, 2))
    assert [record.scheduled_ns for record in records] == list(share.offsets())
    assert (footer.sent, footer.interrupted) == (15, False)
    assert batches > 1


def test_a_cluster_task_hears_of_signals() -> None:
    """The first ends the sending, the second what is in flight: two cancelled requests, and all records come."""
    with in_thread(engine) as port:
        whole = job(port, Load(rate=20, arrivals="constant", duration=60), models={"tiny": 1.0, "slow": 1.0})
        began = time.monotonic()
        records, footer, _ = task(whole, Desk(NS // 5, signals=True))
    assert time.monotonic() - began < 5
    assert {record.error for record in records} == {None, "cancelled"}
    assert (footer.sent, footer.interrupted) == (len(records), True)


def test_a_start_in_the_future_is_waited_for() -> None:
    """All workers begin at one reading of the clock, however long each took to get ready."""
    with in_thread(engine) as port:
        origin = time.perf_counter_ns() + NS // 4

        async def start(_: object) -> int:
            return origin

        lines: list[object] = []
        asyncio.run(run(job(port, Load(rate=100, arrivals="constant", requests=3)), lines.append, start=start))
    assert time.perf_counter_ns() > origin
    assert [line.scheduled_ns for line in lines if isinstance(line, RequestRecord)] == [0, NS // 100, NS // 50]
