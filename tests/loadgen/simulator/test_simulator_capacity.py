"""`slo-load capacity` against a simulator on a real socket."""

import json
from pathlib import Path

import pytest
from simulating import Running

from loadgen.cli import main
from loadgen.results.reading import read

SPEC = """\
apiVersion: llm-slo/v1
service: t
slos:
  - name: ttft
    objective: 90%
    sli:
      latency: {metric: ttft, threshold: 250ms}
"""


def test_the_command_measures_a_real_server(
    simulator: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One quick look in a budget for no more: its records kept, nothing claimed, exit 3."""
    promise = tmp_path / "slo.yaml"
    promise.write_text(SPEC)
    code = main(["capacity", "--target", simulator.url, "--slo", str(promise), "--budget", "6", "--start", "20",
                 "--output-tokens", "4", "--records", str(tmp_path / "runs"), "--json"])  # fmt: skip
    out, err = capsys.readouterr()
    printed = json.loads(out)
    assert (code, printed["outcome"], printed["ended"]) == (3, "INCONCLUSIVE", "the budget is used up")
    assert "20/s:" in err
    (kept,) = (tmp_path / "runs").iterdir()
    assert len(read(kept).records) > 50


def test_a_spec_that_requests_cannot_judge_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is sent: exit 2 and one line."""
    promise = tmp_path / "slo.yaml"
    promise.write_text(SPEC.replace("latency: {metric: ttft, threshold: 250ms}", "kv_cache: {limit: 0.9}"))
    assert main(["capacity", "--target", "http://127.0.0.1:1", "--slo", str(promise)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
