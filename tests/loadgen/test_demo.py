"""The demo: the whole path on a simulated engine, played once and short, and its table."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from loadgen.cli import main
from loadgen.demo import table
from loadgen.demo.views import View
from slo.sli import Count
from slo.spec.model import load

SPEC = Path(__file__).parents[2] / "slo" / "specs" / "chat.yaml"
TTFT = load(SPEC).slos[0]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Where a short demo wrote, and what it printed."""
    out = tmp_path_factory.mktemp("demo")
    command = [Path(sys.executable).with_name("slo-load"), "demo", "--out", out, "--duration", "6", "--rate", "12"]
    done = subprocess.run([*command, "--output-tokens", "32"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_every_promise_has_a_row_with_three_views(played: tuple[Path, str]) -> None:
    """Client, engine metrics and spans all measured TTFT and TPOT of the same requests."""
    rows = {line.split()[0]: line for line in played[1].splitlines() if line}
    for name in ("ttft", "tpot"):
        assert rows[name].count("mean") == 3
    assert rows["throughput"].count("tok/s") == 4  # the promise and three measurements
    assert "peak" in rows["kv-cache"]
    assert rows["goodput"].count("good/s") == 3


def test_the_three_views_agree(played: tuple[Path, str]) -> None:
    """On the simulator the means of metrics and spans are equal, and the client's tokens per second are theirs."""
    rows = {line.split()[0]: line for line in played[1].splitlines() if line}
    _, metrics, spans = (part.split()[0] for part in rows["ttft"].split("mean ")[1:])
    assert metrics == spans
    rates = [word for word, unit in zip(rows["throughput"].split(), rows["throughput"].split()[1:], strict=False)
             if unit == "tok/s"][1:]  # fmt: skip
    assert len(set(rates)) == 1


def test_everything_named_is_there(played: tuple[Path, str]) -> None:
    """The files that the demo lists exist and are what they are called."""
    out, _ = played
    assert len((out / "records.jsonl").read_text().splitlines()) > 40
    assert json.loads((out / "records-baseline.json").read_text())["fingerprint"]["simulated"] is True
    assert "<svg" in (out / "report.html").read_text()
    assert {p.name for p in (out / "rules").iterdir()} >= {"slo-chat.yaml", "recording.yaml", "health.yaml"}
    assert len(list((out / "dashboards").iterdir())) == 5


def test_an_engine_that_is_not_there_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The line says which address does not answer; exit code 2, at once."""
    assert main(["demo", "--engine", "http://127.0.0.1:9", "--out", str(tmp_path)]) == 2
    assert "slo-load demo: http://127.0.0.1:9/metrics: no connection" in capfd.readouterr().err


def test_a_sidecar_that_ends_says_why(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its last word is the demo's, at once and not after the time that starting may take."""
    assert main(["demo", "--listen", "nowhere", "--out", str(tmp_path)]) == 2
    told = capfd.readouterr().err.splitlines()[-1]
    assert "the sidecar ended with exit code 2" in told
    assert "'nowhere' is no address" in told


@pytest.mark.prometheus
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")
def test_its_prometheus_evaluates_every_rule_each_second(played: tuple[Path, str]) -> None:
    """No group keeps an interval of production: it would not be evaluated in a run of seconds."""
    groups = [group for path in (played[0] / "prometheus" / "rules").glob("*.yaml")
              for group in yaml.safe_load(path.read_text())["groups"]]  # fmt: skip
    assert {group["interval"] for group in groups} == {"1s"}


@pytest.mark.parametrize(
    ("count", "left"),
    [(Count(100, 100), 1.0), (Count(95, 100), 0.0), (Count(90, 100), -1.0), (Count(0, 0), None), (None, None)],
)
def test_budget_left(count: Count | None, left: float | None) -> None:
    """All good leaves the whole budget, the objective exactly none, and overspending is negative, not clamped."""
    said = table.budget_left(TTFT, count)
    assert said is left or said == pytest.approx(left, abs=1e-9)


def test_what_nobody_measured_is_a_dash() -> None:
    """Absent is absent: no view, no number."""
    row = table.Row(TTFT, View(), View(Count(1, 2), "mean 1.0 ms"), View(), None, "PASS")
    assert row.cells() == ("ttft", "95% ttft ≤ 250 ms", "-", "50.0% · mean 1.0 ms", "-", "-", "PASS")
