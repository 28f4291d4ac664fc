"""A run on a local Ray, where it is installed: nothing is lost with a task that is killed."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from load_servers import Got, answer, head, in_thread

from loadgen.results.reading import read
from loadgen.results.record import Recording

pytest.importorskip("ray")
ROOT = Path(__file__).parents[2]
# A token would have to be made and shared; this Ray is for this machine alone.
ENVIRONMENT = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
RAY = """\
import ray
print(ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False).address_info["gcs_address"], flush=True)
input()
"""
COMMAND = [sys.executable, "-c", "import sys; from loadgen.cli import main; sys.exit(main())"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[str, int]]:
    """The address of a Ray of two CPUs, and the process that all of it descends from."""
    environment = ENVIRONMENT | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", RAY], env=environment, text=True, **pipes) as process:  # type: ignore[call-overload]
        yield process.stdout.readline().strip(), process.pid
        process.communicate("\n", timeout=30)


async def engine(got: Got, writer: asyncio.StreamWriter) -> None:
    body = json.dumps({"data": [{"id": "tiny"}]}).encode()
    page = head("200 OK", "application/json", content_length=str(len(body))) + body
    writer.write(page if got.method == "GET" else answer(4))


def started(address: str, port: int, path: Path, seconds: int) -> "subprocess.Popen[str]":
    much = ["--rate", "100", "--duration", str(seconds), "--workers", "2", "--quiet", "--records", str(path)]
    command = [*COMMAND, "run", "--target", f"http://127.0.0.1:{port}", "--ray", address, *much]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, text=True, **pipes)  # type: ignore[call-overload,no-any-return]


def until(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def lines(path: Path) -> int:
    return path.read_text().count("\n") if path.exists() else 0


def tasks(parent: int) -> list[int]:
    """The processes below this one that do a worker's job."""
    found = []
    for child in map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split()):
        if Path(f"/proc/{child}/cmdline").read_bytes().startswith(b"ray::work"):
            found.append(child)
        found += tasks(child)
    return found


def by_worker(run: Recording) -> list[int]:
    return [sum(record.seq % 2 == worker for record in run.records) for worker in (0, 1)]


def test_a_killed_task_keeps_what_it_handed_over(cluster: tuple[str, int], tmp_path: Path) -> None:
    """SIGKILL to one of two: the records it had handed over are there, and all of the other; the run names it."""
    address, ray = cluster
    with in_thread(engine) as port:
        process = started(address, port, tmp_path / "r", 6)
        until(lambda: lines(tmp_path / "r") > 100, process)
        os.kill(tasks(ray)[0], signal.SIGKILL)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 3, err
    run = read(tmp_path / "r")
    assert run.footer is not None
    assert (len(run.footer.lost_workers), run.footer.workers, run.footer.interrupted) == (1, 2, True)
    assert f"lost 1 of 2 workers (number {run.footer.lost_workers[0]})" in err
    kept = by_worker(run)
    assert kept[run.footer.lost_workers[0]] > 20
    assert kept[1 - run.footer.lost_workers[0]] > 250


def test_ctrl_c_reaches_the_tasks(cluster: tuple[str, int], tmp_path: Path) -> None:
    """The run ends in order, with a footer of all that was sent."""
    with in_thread(engine) as port:
        process = started(cluster[0], port, tmp_path / "r", 60)
        until(lambda: lines(tmp_path / "r") > 100, process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, "Traceback" in err) == (130, False), err
    run = read(tmp_path / "r")
    assert run.footer is not None
    assert (run.footer.sent, run.footer.lost_workers) == (len(run.records), ())
    assert min(by_worker(run)) > 20
