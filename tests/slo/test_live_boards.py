"""No panel is empty: every query of every board on simulator, sidecar, load generator and a real Prometheus."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import live_boards
import pytest
from boards_as_read import SPECS
from live_boards import Asked, healthy, value
from small_servers import needs_prometheus

from loadgen.demo import stack

pytestmark = [pytest.mark.prometheus, needs_prometheus]

BOARDS = live_boards.of_spec(SPECS / "chat.yaml")


def load_command(engine: str, home: Path, client: str, rate: int, seconds: int) -> list[str]:
    """`slo-load run` that serves its figures at `client`."""
    load = ["--rate", str(rate), "--duration", str(seconds), "--prompt-tokens", "256", "--output-tokens", "32"]
    return [stack.command("slo-load"), "run", "--target", engine, *load, "--listen-metrics", client,
            "--records", str(home / f"{rate}.jsonl"), "--quiet"]  # fmt: skip


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """Prometheus in the midst of the second of two loads."""
    home = tmp_path_factory.mktemp("live")
    subprocess.run([stack.command("slo-gen"), "build", SPECS / "chat.yaml", "--out", home], check=True)
    listen, client = (f"127.0.0.1:{stack.free_port()}" for _ in range(2))
    with ExitStack() as started:
        engine = started.enter_context(stack.simulator(home, f"http://{listen}/v1/traces"))
        gpu = ["--gpu", "dcgm", "--dcgm-url", f"{engine}/dcgm/metrics", "--price", "2.50EUR"]
        started.enter_context(stack.sidecar(home, listen, engine, gpu, SPECS / "chat.yaml"))
        (home / "prometheus").mkdir()
        url = started.enter_context(live_boards.prometheus(home / "prometheus", home / "rules", listen, client))
        subprocess.run(load_command(engine, home, client, 10, 6), check=True, stdout=subprocess.DEVNULL)
        started.enter_context(stack.running(load_command(engine, home, client, 20, 300), home / "load.log"))
        answered = 'llm_load_requests_total{load="20/s",outcome="ok"}'
        stack.wait_for("the second load", lambda: value(url, answered) > 200 and healthy(url), 60)
        yield Asked(url, time.time())


@pytest.mark.parametrize("name", BOARDS)
def test_no_panel_is_empty(asked: Asked, name: str) -> None:
    """Every query returns data with the labels that its legend, columns or axis need."""
    assert asked.wrong(name, BOARDS[name]) == {}


def test_no_panel_is_empty_for_one_engine(asked: Asked) -> None:
    """Who chooses an engine reads raw buckets in place of recorded ones, and still sees every panel."""
    assert asked.wrong("engine.json", BOARDS["engine.json"], engine="0") == {}


@pytest.mark.parametrize("slo", ["chat-tpot", "chat-availability", "chat-goodput", "chat-kv-cache"])
def test_every_kind_of_slo_fills_its_board(asked: Asked, slo: str) -> None:
    """Latency, availability, goodput from spans and good minutes: the board of one SLO shows each."""
    assert asked.wrong("slo.json", BOARDS["slo.json"], slo=slo) == {}


@pytest.mark.parametrize("name", BOARDS)
def test_exemplars_lead_to_traces(asked: Asked, name: str) -> None:
    """Every query that asks for exemplars gets one with a trace id."""
    assert asked.without_exemplars(name, BOARDS[name]) == []


def test_starts_and_load_tests_are_marked(asked: Asked) -> None:
    """The time axis shows that the engine started and that a load ran."""
    assert {"Restarts", "Load tests"}.isdisjoint(asked.unmarked(BOARDS["engine.json"]))
