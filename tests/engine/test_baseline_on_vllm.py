"""`slo-load baseline` on a real vLLM: capacity, run, report and proposed spec, and what they say of it."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import BIN, Stack

from loadgen import baseline
from slo.spec import load

pytestmark = pytest.mark.engine

SHARE = 0.5
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
    """The folder of a short baseline of the running engine."""
    home = tmp_path_factory.mktemp("baseline")
    (home / "cpu.yaml").write_text(SPEC)
    command = [BIN / "slo-load", "baseline", "--engine", stack.engine, "--gpu", "none", "--slo", home / "cpu.yaml",
               "--budget", "45", "--start", "48", "--share", str(SHARE), "--duration", "15", "--keep-records",
               "--prompt-tokens", "100", "--output-tokens", "16", "--out", home / "baselines"]  # fmt: skip
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    print(done.stderr)
    return Path(done.stdout.strip())


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
    """The rate that surely met the spec, times the share; about so much was sent, and the baseline knows it."""
    passed = summary(made)["capacity"]["passed"]
    rate = summary(made)["run"]["requests_per_second"]
    assert rate == pytest.approx(SHARE * passed, rel=0.01)
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
