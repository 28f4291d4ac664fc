"""The processes of the demo: simulator, sidecar and Prometheus, each started, waited for and stopped."""

import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

START_SECONDS = 20.0


class DemoError(Exception):
    """The demo cannot go on; the text is the one line the user sees."""


def command(name: str) -> str:
    """A console script of this installation, beside the interpreter that runs."""
    return str(Path(sys.executable).with_name(name))


def free_port() -> int:
    """A loopback port nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(arguments: Sequence[str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that ends with the block; what it prints goes to `log`."""
    with log.open("wb") as out:
        process = subprocess.Popen(arguments, stdout=out, stderr=subprocess.STDOUT)  # noqa: S603
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def serving(what: str, arguments: Sequence[str], log: Path, url: str) -> Iterator[None]:
    """`running`, once `url` answers; DemoError when it does not in time, or ends before that with a last word."""
    with running(arguments, log) as process:

        def ready() -> bool:
            if process.poll() is None:
                return answers(url)
            last = log.read_text(errors="replace").strip().rpartition("\n")[2]
            raise DemoError(f"{what} ended with exit code {process.returncode}: {last}")

        wait_for(f"{what} (see {log})", ready)
        yield


def wait_for(what: str, ready: Callable[[], bool], seconds: float = START_SECONDS) -> None:
    """Return when `ready` does; DemoError when it does not in time."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise DemoError(f"{what} did not get ready within {seconds:g} s")
        time.sleep(0.1)


def answers(url: str) -> bool:
    """Whether a GET of `url` is answered with 200."""
    try:
        return httpx.get(url, timeout=2).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


@contextmanager
def simulator(out: Path, otlp: str) -> Iterator[str]:
    """A simulated engine that sends its spans to `otlp`; yields its URL."""
    url = f"http://127.0.0.1:{free_port()}"
    arguments = [
        command("slo-load"),
        "simulate",
        "--listen",
        url.removeprefix("http://"),
        "--seed",
        "1",
        "--otlp",
        otlp,
    ]
    with serving("the simulator", arguments, out / "simulator.log", f"{url}/health"):
        yield url


@contextmanager
def sidecar(out: Path, listen: str, engine: str, gpu: Sequence[str], spec: Path) -> Iterator[str]:
    """The exporter beside `engine`; yields its URL once it has read the engine."""
    url = f"http://{listen}"
    arguments = [command("slo-exporter"), "--engine", engine, "--listen", listen, "--slo", str(spec), *gpu]
    with serving("the sidecar", arguments, out / "exporter.log", f"{url}/readyz"):
        yield url


_CONFIG = """\
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}/*.yaml"]
scrape_configs:
  - job_name: llm-slo
    static_configs: [{{targets: ["{target}"]}}]
"""


@contextmanager
def prometheus(out: Path, target: str) -> Iterator[str | None]:
    """A Prometheus that scrapes the sidecar each second with the generated rules; None when none is installed.

    Production intervals would leave a run of seconds without a single evaluation, so here every group has 1 s. Its data
    are its own: burn rates are of five minutes, and an earlier demo would be in them.
    """
    binary = shutil.which("prometheus")
    if binary is None:
        yield None
        return
    home = out / "prometheus"
    (home / "rules").mkdir(parents=True, exist_ok=True)
    for path in (out / "rules").glob("*.yaml"):
        (home / "rules" / path.name).write_text(re.sub(r"(?m)^( *interval:) .*", r"\1 1s", path.read_text()))
    config = home / "prometheus.yml"
    config.write_text(_CONFIG.format(rules=(home / "rules").resolve(), target=target.removeprefix("http://")))
    listen = f"127.0.0.1:{free_port()}"
    arguments = [binary, f"--config.file={config}", f"--web.listen-address={listen}"]
    with TemporaryDirectory() as data:
        storage = f"--storage.tsdb.path={data}"
        with serving("Prometheus", [*arguments, storage], out / "prometheus.log", f"http://{listen}/-/ready"):
            yield f"http://{listen}"
