"""No panel is empty on a real vLLM, but for those that a CPU cannot fill."""

import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack

import live_boards
import pytest
from conftest import SPEC, Stack
from live_boards import Asked, healthy, value

from loadgen.demo import stack as processes
from slo.cli import main

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="Prometheus is not installed (Debian: prometheus)"),
]

BOARDS = live_boards.of_spec(SPEC)
SLO = "agreement-ttft-80ms"

NO_GPU = "a CPU engine has no GPU: nothing to read, to price or to join"
EMPTY = {
    **{f"gpu.json/{panel['title']}": NO_GPU for panel in live_boards.panels(BOARDS["gpu.json"])},
    "fleet.json/Models": f"its columns GPUs, energy and cost: {NO_GPU}",
    "fleet.json/GPUs": NO_GPU,
    "fleet.json/Power": NO_GPU,
    "fleet.json/Energy per million output tokens": NO_GPU,
    "fleet.json/Cost per million output tokens": NO_GPU,
}


@pytest.fixture(scope="module")
def asked(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """A Prometheus of its own over sidecar and load generator, in the midst of a load that CPUs can take."""
    home = tmp_path_factory.mktemp("boards")
    assert main(["build", str(SPEC), "--out", str(home)]) == 0
    (home / "prometheus").mkdir()
    client, sidecar = f"127.0.0.1:{processes.free_port()}", stack.sidecar.removeprefix("http://")
    load = ["--rate", "6", "--duration", "300", "--prompt-tokens", "100", "--output-tokens", "32"]
    command = [processes.command("slo-load"), "run", "--target", stack.engine, *load, "--listen-metrics", client,
               "--records", str(home / "records.jsonl"), "--quiet"]  # fmt: skip
    with ExitStack() as started:
        url = started.enter_context(live_boards.prometheus(home / "prometheus", home / "rules", sidecar, client))
        started.enter_context(processes.running(command, home / "load.log"))
        answered = 'llm_load_requests_total{outcome="ok"}'
        processes.wait_for("load on vLLM", lambda: value(url, answered) > 120 and healthy(url), 120)
        yield Asked(url, time.time())


@pytest.mark.parametrize("name", BOARDS)
def test_no_panel_is_empty(asked: Asked, name: str) -> None:
    """Every query returns data with the labels that its panel needs, but for those listed."""
    wrong = asked.wrong(name, BOARDS[name], slo=SLO)
    assert {where: what for where, what in wrong.items() if where not in EMPTY} == {}
    assert [where for where in EMPTY if where.startswith(name) and where not in wrong] == []


@pytest.mark.parametrize("name", BOARDS)
def test_exemplars_lead_to_traces(asked: Asked, name: str) -> None:
    """vLLM's spans put their trace ids on its buckets, and the client's requests theirs."""
    assert asked.without_exemplars(name, BOARDS[name]) == []
