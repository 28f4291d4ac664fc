"""What is checked in is what the generators give, and says nothing that the catalogue does not know."""

import re
from pathlib import Path

import promql_parser
import pytest
import yaml

from slo import catalog
from slo.cli import main
from slo.rules import latency, recorded

ROOT = Path(__file__).parents[1]
SPECS = [str(path) for path in sorted((ROOT / "slo" / "specs").glob("*.yaml"), reverse=True)]
RULES = sorted(path for path in (ROOT / "rules").glob("*.yaml") if not path.name.endswith(".test.yaml"))


def test_rules_and_dashboards_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    """`slo-gen check` finds nothing stale in rules/ and dashboards/."""
    assert main(["check", *SPECS, "--out", str(ROOT)]) == 0, capsys.readouterr().out


def test_a_stale_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An edited rule and a missing board make the check fail by name, and which of the two it is."""
    assert main(["build", *SPECS, "--out", str(tmp_path)]) == 0
    (tmp_path / "rules" / "health.yaml").write_text("groups: []\n")
    (tmp_path / "dashboards" / "slo.json").unlink()
    assert main(["check", *SPECS, "--out", str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert "rules/health.yaml is not what the specs give" in told
    assert "dashboards/slo.json is missing" in told
    assert main(["build", *SPECS, "--out", str(tmp_path)]) == 0
    assert main(["check", *SPECS, "--out", str(tmp_path)]) == 0


def test_building_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    """The same specs give the same files, byte for byte, and no half-written ones stay behind."""
    for name in ("a", "b"):
        assert main(["build", *SPECS, "--out", str(tmp_path / name)]) == 0
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert {f.parts[0] for f in files} == {"rules", "dashboards"}
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)


def known_names() -> set[str]:
    """Every series that exists: the catalogue's, the recorded ones, and Prometheus' own ALERTS."""
    names = {"ALERTS"}
    for metric in catalog.families():
        suffixes = ("_bucket", "_sum", "_count") if metric.kind is catalog.Kind.HISTOGRAM else ("",)
        names |= {metric.name + suffix for suffix in suffixes}
    constants = {value for name, value in vars(recorded).items() if name.isupper() and isinstance(value, str)}
    burn_rates = {recorded.burn_rate(w) for w in ("5m", "30m", "1h", "2h", "6h", "1d", "3d")}
    names |= {recorded.buckets(metric) for metric in (*latency.ENGINE_SIDE, *latency.CLIENT_SIDE)}
    return names | constants | burn_rates | {recorded.events(w) for w in ("2h", "6h", "1d", "3d")}


@pytest.mark.parametrize("path", RULES, ids=lambda p: p.name)
def test_rules_read_only_series_that_exist(path: Path) -> None:
    """Every name in every expression is a catalogue family or a recorded series; a typo would be an empty rule."""
    rules = [rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]
    assert rules
    for rule in rules:
        promql_parser.parse(rule["expr"])
        without_labels = re.sub(r'"(\\.|[^"\\])*"|\{[^}]*\}', "", rule["expr"])
        names = set(re.findall(r"\b(?:llm|slo)[_:][a-zA-Z0-9_:]+", without_labels))
        assert names <= known_names(), names - known_names()
        assert rule.get("record", "slo:error_budget:ratio") in known_names()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["build", "gone.yaml"], "slo-gen: gone.yaml: cannot be read: No such file"),
        (["build", SPECS[0], SPECS[0]], "two specs for the service 'chat'"),
        (["build", SPECS[0], "--source", "vllm"], "only the sidecar counts events from spans"),
        (["build", SPECS[0], "--out", "/proc/nowhere"], "cannot write"),
        (["push", SPECS[0], "--grafana", "http://127.0.0.1:1"], "no token"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Bad usage is one line on stderr, exit code 2, and nothing on stdout."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert said in err
    assert err.count("\n") == 1
    assert out == ""
