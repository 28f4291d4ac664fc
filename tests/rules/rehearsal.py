"""Simulators under load, a sidecar beside each, and one real Prometheus and Alertmanager for all, in fast motion."""

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import acceleration

from loadgen.demo.stack import answers, command, free_port, running
from slo.live.prometheus import Prometheus

# Of each simulator: light enough for many on two cores, and so even that the share of bad events is the fault's own.
LOAD = ("--rate", "2", "--arrivals", "constant", "--prompt-tokens", "200", "--output-tokens", "30", "--duration", "900")
SCRAPE = "20s"
SIMULATOR = ("--seed", "1", "--max-model-len", "4096", "--kv-blocks", "1024")
PROMETHEUS_YML = """\
global: {{scrape_interval: {scrape}, scrape_timeout: {scrape}, evaluation_interval: {scrape}}}
rule_files: ["{home}/fast/*.yaml"]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ["127.0.0.1:{alertmanager}"]}}]}}]}}
scrape_configs: [{{job_name: llm-slo, static_configs: [{{targets: {targets}}}]}}]
"""
ALERTMANAGER_YML = """\
route: {{receiver: test, group_by: ["..."], group_wait: {wait}, group_interval: {wait}}}
receivers: [{{name: test, webhook_configs: [{{url: "{url}"}}]}}]
"""


@dataclass(frozen=True)
class Notice:
    """What the receiver was told of one alert, and when (monotonic clock)."""

    at: float
    firing: bool
    labels: dict[str, str]
    annotations: dict[str, str]

    @property
    def page(self) -> str:
        """What pages: the SLO of a burn-rate alert, else the alert; nothing when it is a ticket."""
        return self.labels.get("slo", self.labels["alertname"]) if self.labels["severity"] == "page" else ""


@dataclass(frozen=True)
class Stage:
    """Everything that runs: simulators' URLs and sidecars' addresses by model, Prometheus, what the receiver heard."""

    simulators: dict[str, str]
    sidecars: dict[str, str]
    prometheus: Prometheus
    notices: list[Notice]

    def has(self, expr: str) -> int:
        """How many series an expression gives now."""
        return len(self.prometheus.instant(expr, time.time()))


def came(ready: Callable[[], bool], seconds: float) -> bool:
    """Wait for a condition; whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not (done := ready()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return done


def eventually(what: str, ready: Callable[[], bool], seconds: float) -> None:
    """Wait for a condition; fail with its name when it does not come true in time."""
    assert came(ready, seconds), f"{what}: not within {seconds:g} s"


@contextmanager
def stage(home: Path, models: Sequence[str], spec: Path, factor: int) -> Iterator[Stage]:
    """Start everything, wait until it runs, and stop it at the end."""
    simulators = {model: f"http://127.0.0.1:{free_port()}" for model in models}
    sidecars = {model: f"127.0.0.1:{free_port()}" for model in models}
    subprocess.run([command("slo-gen"), "build", spec, "--out", home], check=True, capture_output=True)
    acceleration.rewrite(home / "rules", home / "fast", factor)
    with ExitStack() as cleanup:
        commands = {model: _commands(simulators[model], sidecars[model], model, spec, home) for model in models}
        for name, urls in (
            ("simulator", [f"{url}/health" for url in simulators.values()]),
            ("sidecar", [f"http://{address}/readyz" for address in sidecars.values()]),
            ("load", []),
        ):
            for model in models:
                cleanup.enter_context(running(commands[model][name], home / f"{model}-{name}.log"))
            eventually(f"every {name}", lambda urls=urls: all(map(answers, urls)), 60)  # type: ignore[misc]
        notices = cleanup.enter_context(_receiver())
        prometheus = _monitoring(cleanup, home, list(sidecars.values()), notices.url, factor)
        with Prometheus(prometheus) as client:
            yield Stage(simulators, sidecars, client, notices.notices)


def _commands(simulator: str, sidecar: str, model: str, spec: Path, home: Path) -> dict[str, list[str]]:
    return {
        "simulator": [command("slo-load"), "simulate", "--listen", simulator.removeprefix("http://"), "--model", model,
                      "--otlp", f"http://{sidecar}/v1/traces", *SIMULATOR],
        "sidecar": [command("slo-exporter"), "--engine", simulator, "--gpu", "dcgm", "--dcgm-url",
                    f"{simulator}/dcgm/metrics", "--slo", str(spec), "--listen", sidecar, "--otlp-grpc", "none"],
        "load": [command("slo-load"), "run", "--target", simulator, "--model", model, "--quiet", "--records",
                 str(home / f"{model}.jsonl"), *LOAD],
    }  # fmt: skip


@dataclass(frozen=True)
class _Receiver:
    url: str
    notices: list[Notice]


@contextmanager
def _receiver() -> Iterator[_Receiver]:
    """A webhook that keeps what Alertmanager tells it."""
    notices: list[Notice] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body, now = json.loads(self.rfile.read(int(self.headers["Content-Length"]))), time.monotonic()
            for alert in body["alerts"]:
                notices.append(Notice(now, alert["status"] == "firing", alert["labels"], alert["annotations"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield _Receiver(f"http://127.0.0.1:{server.server_port}/", notices)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _monitoring(cleanup: ExitStack, home: Path, sidecars: list[str], receiver: str, factor: int) -> str:
    """Prometheus and Alertmanager, their own time constants in fast motion too."""
    wait, scrape = (acceleration.duration(text, factor) for text in ("30s", SCRAPE))
    port, alert_port = free_port(), free_port()
    config = PROMETHEUS_YML.format(home=home, scrape=scrape, alertmanager=alert_port, targets=json.dumps(sidecars))
    (home / "prometheus.yml").write_text(config)
    (home / "alertmanager.yml").write_text(ALERTMANAGER_YML.format(wait=wait, url=receiver))
    prometheus = {
        "config.file": home / "prometheus.yml",
        "storage.tsdb.path": home / "data",
        "query.lookback-delta": acceleration.duration("5m", factor),
        "rules.alert.resend-delay": acceleration.duration("1m", factor),
    }
    alertmanager = {"config.file": home / "alertmanager.yml", "storage.path": home / "am", "cluster.listen-address": ""}
    for binary, listen, flags in (
        ("prometheus-alertmanager", alert_port, alertmanager),
        ("prometheus", port, prometheus),
    ):
        arguments = [binary, f"--web.listen-address=127.0.0.1:{listen}", *(f"--{k}={v}" for k, v in flags.items())]
        cleanup.enter_context(running(arguments, home / f"{binary}.log"))
        eventually(binary, lambda listen=listen: answers(f"http://127.0.0.1:{listen}/-/ready"), 30)  # type: ignore[misc]
    return f"http://127.0.0.1:{port}"
