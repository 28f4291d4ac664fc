"""One live vLLM, one sidecar, one Prometheus and one Alertmanager for all engine tests."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from collector import Collector, collecting
from serve import free_port, vllm

from slo import catalog

BIN = Path(sys.executable).parent
SPEC = Path(__file__).parent / "agreement.yaml"

PROMETHEUS = """\
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}/*.yaml"]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ["127.0.0.1:{alertmanager}"]}}]}}]}}
scrape_configs:
  - job_name: llm-slo
    static_configs: [{{targets: ["{sidecar}"]}}]
"""
ALERTMANAGER = "route: {receiver: nobody, group_wait: 1s}\nreceivers: [{name: nobody}]\n"


@dataclass(frozen=True)
class Stack:
    """Where everything listens; Prometheus and Alertmanager are None where they are not installed.

    `collector` gets every span from the sidecar.
    """

    engine: str
    sidecar: str
    collector: Collector
    prometheus: str | None
    alertmanager: str | None


def eventually(what: str, ready: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for a condition; fail with its name when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:g} s"
        time.sleep(0.1)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def process(stack: ExitStack, *arguments: object) -> None:
    """A process that ends with the stack; its output is shown when a test fails."""
    child = subprocess.Popen([str(a) for a in arguments])
    stack.callback(child.wait, 20)
    stack.callback(child.terminate)


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole path from a real engine to real alerts."""
    venv = Path(request.config.getoption("--vllm-venv"))
    if not (venv / "bin" / "python").exists():
        pytest.skip(f"no vLLM in {venv}; make test-engine installs it")
    tmp_path = tmp_path_factory.mktemp("stack")
    sidecar_port, grpc_port, collector_port = free_port(), free_port(), free_port()
    with ExitStack() as cleanup:
        # Spans over gRPC, vLLM's own choice; `make demo-vllm` sends them over HTTP.
        engine = cleanup.enter_context(vllm(venv, grpc_port, grpc=True))
        sidecar = f"http://127.0.0.1:{sidecar_port}"
        collector = cleanup.enter_context(collecting(collector_port))
        process(cleanup, BIN / "slo-exporter", "--engine", engine, "--gpu", "none", "--slo", SPEC,
                "--forward", f"http://127.0.0.1:{collector_port}", "--forward-keep", "1",
                "--listen", f"127.0.0.1:{sidecar_port}", "--otlp-grpc", f"127.0.0.1:{grpc_port}")  # fmt: skip
        eventually("the sidecar reading vLLM", lambda: answers(f"{sidecar}/readyz"))
        yield Stack(engine, sidecar, collector, *_monitoring(cleanup, tmp_path, f"127.0.0.1:{sidecar_port}"))


def _monitoring(cleanup: ExitStack, home: Path, sidecar: str) -> tuple[str | None, str | None]:
    if not shutil.which("prometheus") or not shutil.which("prometheus-alertmanager"):
        return None, None
    rules, port, alert_port = _rules(home), free_port(), free_port()
    (home / "prometheus.yml").write_text(PROMETHEUS.format(rules=rules, sidecar=sidecar, alertmanager=alert_port))
    (home / "alertmanager.yml").write_text(ALERTMANAGER)
    prometheus = {"config.file": home / "prometheus.yml", "storage.tsdb.path": home / "data"}
    alertmanager = {"config.file": home / "alertmanager.yml", "storage.path": home / "am", "cluster.listen-address": ""}
    process(cleanup, "prometheus", *_flags(port, prometheus))
    process(cleanup, "prometheus-alertmanager", *_flags(alert_port, alertmanager))
    urls = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{alert_port}"
    for url in urls:
        eventually(f"{url} getting ready", lambda url=url: answers(f"{url}/-/ready"))  # type: ignore[misc]
    # What comes before the first scrape is in no rate, and under load it may be long in coming.
    eventually("a scrape before any load", lambda: scraped(urls[0], catalog.RUNNING.name))
    return urls


def scraped(prometheus: str, series: str) -> bool:
    """Whether Prometheus has a series."""
    answer = httpx.get(f"{prometheus}/api/v1/query", params={"query": series}, timeout=5)
    return bool(answer.raise_for_status().json()["data"]["result"])


def _flags(port: int, flags: dict[str, object]) -> list[str]:
    common = {"web.listen-address": f"127.0.0.1:{port}", "log.level": "warn"}
    return [f"--{name}={value}" for name, value in (flags | common).items()]


def _rules(home: Path) -> Path:
    """The generated rules, evaluated every second: production's 30 s and more would outlast the tests."""
    subprocess.run([BIN / "slo-gen", "build", SPEC, "--out", home], check=True)
    for path in (home / "rules").glob("*.yaml"):
        path.write_text(re.sub(r"interval: (30s|1m)$", "interval: 1s", path.read_text(), flags=re.MULTILINE))
    return home / "rules"
