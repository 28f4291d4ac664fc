"""The processes of the demo: simulator, sidecar and Prometheus, each started, waited for and stopped."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

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
    with running(arguments, out / "simulator.log"):
        wait_for("the simulator", lambda: answers(f"{url}/health"))
        yield url


@contextmanager
def sidecar(out: Path, listen: str, engine: str, gpu: Sequence[str], spec: Path) -> Iterator[str]:
    """The exporter beside `engine`; yields its URL once it has read the engine."""
    url = f"http://{listen}"
    arguments = [command("slo-exporter"), "--engine", engine, "--listen", listen, "--slo", str(spec), *gpu]
    with running(arguments, out / "exporter.log"):
        wait_for(f"the sidecar (see {out / 'exporter.log'})", lambda: answers(f"{url}/readyz"))
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

    Production intervals would leave a run of seconds without a single evaluation, so here every group has 1 s.
    """
    binary = shutil.which("prometheus")
    if binary is None:
        yield None
        return
    home = out / "prometheus"
    (home / "rules").mkdir(parents=True, exist_ok=True)
    for path in (out / "rules").glob("*.yaml"):
        (home / "rules" / path.name).write_text(path.read_text().replace("interval: 30s", "interval: 1s"))
    config = home / "prometheus.yml"
    config.write_text(_CONFIG.format(rules=(home / "rules").resolve(), target=target.removeprefix("http://")))
    listen = f"127.0.0.1:{free_port()}"
    arguments = [
        binary,
        f"--config.file={config}",
        f"--storage.tsdb.path={home / 'data'}",
        f"--web.listen-address={listen}",
    ]
    with running(arguments, out / "prometheus.log"):
        wait_for(f"Prometheus (see {out / 'prometheus.log'})", lambda: answers(f"http://{listen}/-/ready"))
        yield f"http://{listen}"
