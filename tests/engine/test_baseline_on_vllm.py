"""`slo-load baseline` on a real vLLM: capacity, run, report and proposed spec, and what they say of it."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import BIN, Stack

from loadgen.results import baseline
from slo.spec.model import load

pytestmark = pytest.mark.engine

SHARE, STATED = 0.5, 6
# What an engine on two cores keeps that it shares with everything else here.
SPEC = """\
apiVersion: llm-slo/v1
service: cpu
slos:
  - {name: ttft, objective: 80%, sli: {latency: {metric: ttft, threshold: 2500ms}}}
  - {name: availability, objective: 80%, sli: {availability: {}}}
"""


@pytest.fixture(scope="module")
def made(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short baseline of the running engine.

    On busy cores the client, which shares them, is too late for the search to be sure of any rate; then the command
    says so, and the run is made at a stated rate.
    """
    home = tmp_path_factory.mktemp("baseline")
    (home / "cpu.yaml").write_text(SPEC)
    done = _baseline(stack.engine, home, "--budget", "45", "--start", "48", "--share", str(SHARE))
    if done.returncode:
        assert "no rate is known to meet" in done.stderr, done.stderr
        done = _baseline(stack.engine, home, "--rate", str(STATED))
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def _baseline(engine: str, home: Path, *load: str) -> "subprocess.CompletedProcess[str]":
    command = [BIN / "slo-load", "baseline", "--engine", engine, "--gpu", "none", "--slo", home / "cpu.yaml", *load,
               "--duration", "15", "--prompt-tokens", "100", "--output-tokens", "16", "--keep-records",
               "--out", home / "baselines"]  # fmt: skip
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)


def summary(made: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((made / "summary.json").read_text())
    return value


def test_it_is_filed_under_hardware_and_model(made: Path) -> None:
    """Without a GPU the folder is `cpu`; the fingerprint names model, engine and its version, and no GPU."""
    assert (made.parent.name, made.name) == ("cpu", "tiny-llama")
    found = summary(made)["fingerprint"]
    assert (found["model"], found["engine"]) == ("tiny-llama", "vllm")
    assert found["engine_version"].startswith("0.32.0")
    assert "gpus" not in found
    assert summary(made)["energy"] is None


def test_the_run_is_at_its_share_of_the_capacity(made: Path) -> None:
    """The rate that surely met the spec, times the share; so much was asked for, and the baseline knows it."""
    capacity, rate = summary(made)["capacity"], summary(made)["run"]["requests_per_second"]
    assert rate == pytest.approx(SHARE * capacity["passed"] if capacity else STATED, rel=0.01)
    (kept,) = baseline.read(made / "baseline.json")
    assert kept.load.rate == rate
    assert kept.summary.outcomes == {"ok": kept.summary.requests}


def test_the_spec_it_supports_can_be_built(made: Path, tmp_path: Path) -> None:
    """`propose` found SLOs in the run, of vLLM's own bucket edges: rules are made of them."""
    assert load(made / "proposed.yaml").slos
    build = [BIN / "slo-gen", "build", made / "proposed.yaml", "--out", tmp_path, "--source", "vllm"]
    assert subprocess.run(list(map(str, build)), check=False).returncode == 0


def test_a_gate_takes_it_as_baseline(made: Path) -> None:
    """The run compares with its own baseline: same model, load and (no) hardware; nothing got worse."""
    gate = [BIN / "slo-load", "gate", made / "records.jsonl", "--slo", made / "spec.yaml", "--baseline",
            made / "baseline.json", "--json"]  # fmt: skip
    done = subprocess.run(list(map(str, gate)), capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)
    assert found["comparison"].get("problems", []) == []
    assert found["outcome"] != "FAIL"
