"""`slo-gen explain` and `slo-gen test`: words match the arithmetic, and generated tests fail when rules are wrong."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from slo.cli import main
from slo.rules import explain
from slo.spec.model import load
from slo.windows import DAY, HOUR, MINUTE

ROOT = Path(__file__).parents[2]
CHAT, BATCH = (str(ROOT / "slo" / "specs" / name) for name in ("chat.yaml", "batch.yaml"))
TTFT = load(CHAT).slos[0]


def test_minutes_to_a_page_are_those_of_the_fastest_window() -> None:
    """95 %: a total outage in 10 minutes, half of it in 20, a tenth never pages but is a ticket."""
    assert explain.minutes_to("page", TTFT) == {0.1: None, 0.5: pytest.approx(20), 1.0: pytest.approx(10)}
    assert explain.minutes_to("ticket", TTFT)[0.1] == pytest.approx(36 * 60)


def test_the_words_name_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    """One paragraph an SLO: the promise, what is counted, when somebody is woken, how few events are too few."""
    assert main(["explain", CHAT]) == 0
    paragraphs = capsys.readouterr().out.split("\n\n")
    assert len(paragraphs) == len(load(CHAT).slos)
    ttft, goodput = paragraphs[0], paragraphs[-1]
    assert "95 % of requests shall be good over 30d. Good: ttft ≤ 250 ms." in ttft
    assert "more than 16.67 % of the last 1h was bad" in ttft
    assert "takes 30 in 1h" in ttft
    assert "Counted from request spans, one by one" in goodput


def test_json_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """Machines get seconds and shares; never is null."""
    assert main(["explain", CHAT, BATCH, "--json"]) == 0
    slos = json.loads(capsys.readouterr().out)["slos"]
    assert [slo["slo"] for slo in slos][:2] == ["chat-ttft", "chat-tpot"]
    assert slos[0]["minutes_to_page"] == {"10%": None, "50%": pytest.approx(20), "100%": pytest.approx(10)}
    assert slos[0]["alerts"][0]["seconds_to_detect"]["100%"] == pytest.approx(600)


def test_minutes_are_bad_once_they_are_seen_to_be_and_there_are_enough_of_them() -> None:
    """A hung engine is known after two minutes, and five bad minutes page; its burn rate alone would say four."""
    stall = next(slo for slo in load(CHAT).slos if slo.name == "stall")
    assert explain.minutes_to("page", stall)[1.0] == pytest.approx(2 + 5)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, "never"), (0.4, "0s"), (52, "52s"), (59.7, "1m"), (600, "10m"), (HOUR, "1h"), (36 * HOUR, "1d 12h"),
     (30 * DAY, "30d"), (26 * HOUR + 59.9 * MINUTE, "1d 3h")],
)  # fmt: skip
def test_times_are_told_in_two_units(seconds: float | None, said: str) -> None:
    """Rounded once, to what matters."""
    assert explain.time(seconds) == said


# --- slo-gen test ----------------------------------------------------------------------------------------------------


@pytest.fixture
def built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["build", BATCH, "--out", str(tmp_path)]) == 0
    capsys.readouterr()
    return tmp_path


def test_rules_that_are_not_built_are_not_tested(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A test of other rules than those of the spec would say nothing."""
    assert main(["test", BATCH, "--out", str(tmp_path)]) == 2
    assert "is not what the specs give; run slo-gen build" in capsys.readouterr().err


def test_every_slo_has_its_scenarios(
    built: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From an outage to missing series; without promtool they are written and not run."""
    monkeypatch.setenv("PATH", "")
    assert main(["test", BATCH, "--out", str(built), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"written": [str(built / "rules/slo-batch.test.yaml")], "passed": None, "without": {}}
    tests = yaml.safe_load(Path(said["written"][0]).read_text())["tests"]
    names = [test["name"] for test in tests if test["name"].startswith("batch-e2e")]
    assert len(names) == 7
    told = " ".join(names)
    for case in (
        "outage pages",
        "slow burn",
        "half the budget",
        "no traffic",
        "replaces another",
        "restarts",
        "missing",
    ):
        assert case in told


def test_a_stale_test_file_is_told(
    built: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once written, the tests are held against the spec as the rules are."""
    monkeypatch.setenv("PATH", "")
    assert main(["test", BATCH, "--out", str(built)]) == 0
    assert main(["check", BATCH, "--out", str(built)]) == 0
    (built / "rules/slo-batch.test.yaml").write_text("tests: []\n")
    assert main(["check", BATCH, "--out", str(built)]) == 1
    assert "run slo-gen build and test" in capsys.readouterr().out


@pytest.mark.prometheus
@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ('_bucket{le="60.0"}', "_count"),  # nothing is ever bad
        ("sum by (model_name) (rate(llm_request_duration_seconds_count[5m]))", "vector(1)"),
        ("1h > on", "1h < on"),
    ],
)
def test_the_scenarios_catch_wrong_rules(built: Path, monkeypatch: pytest.MonkeyPatch, right: str, wrong: str) -> None:
    """A rule broken by hand fails its own generated test."""
    with monkeypatch.context() as without_promtool:
        without_promtool.setenv("PATH", "")
        assert main(["test", BATCH, "--out", str(built)]) == 0
    for path in (built / "rules").glob("*.yaml"):
        if not path.name.endswith(".test.yaml"):
            path.write_text(path.read_text().replace(right, wrong))
    test = yaml.safe_load((built / "rules/slo-batch.test.yaml").read_text())
    test["tests"] = [one for one in test["tests"] if one["name"].startswith("batch-e2e")]
    (built / "rules/slo-batch.test.yaml").write_text(yaml.safe_dump(test))
    done = subprocess.run(
        ["promtool", "test", "rules", "rules/slo-batch.test.yaml"], cwd=built, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "FAILED" in done.stdout + done.stderr
