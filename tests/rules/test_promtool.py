"""The checked-in rules under Prometheus' own tools: valid, and every alert fires when it should and only then."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from slo.cli import main

HERE = Path(__file__).parent
GENERATED = HERE.parents[1] / "rules"
RULES = sorted(path for path in GENERATED.glob("*.yaml") if not path.name.endswith(".test.yaml"))
CASES = sorted(HERE.glob("*.test.yaml"))

pytestmark = [
    pytest.mark.prometheus,
    pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"),
]


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)


def test_rules_are_valid() -> None:
    """promtool accepts every rule file and finds no duplicate."""
    assert len(RULES) >= 4
    done = promtool("check", "rules", *RULES)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", [*CASES, *sorted(GENERATED.glob("*.test.yaml"))], ids=lambda p: p.name)
def test_alerts_behave(case: Path) -> None:
    """The scenarios of the file hold."""
    done = promtool("test", "rules", case)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_scenario() -> None:
    """No alert is shipped that no scenario names."""
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    alerts = {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
    told = "".join(case.read_text() for case in CASES)
    assert {a for a in alerts if a not in told} <= {"SloErrorBudgetBurnTicket"}  # named by its severity there
    assert 'severity="ticket"' in told


def test_what_health_alerts_say_can_be_rendered(tmp_path: Path) -> None:
    """In the scenarios' own moments no annotation of a firing alert is an error of its template or lacks a value."""
    [group] = yaml.safe_load((GENERATED / "health.yaml").read_text())["groups"]
    case = yaml.load((HERE / "health.test.yaml").read_text(), Loader=yaml.BaseLoader)  # 0x30 is no number here
    case["rule_files"] = [str(HERE / path) for path in case["rule_files"]]
    for test in case["tests"]:
        moments = {one["eval_time"] for one in test.pop("promql_expr_test")}
        # Wrong on purpose: promtool prints what it got.
        wrong = [{"eval_time": at, "alertname": r["alert"], "exp_alerts": []} for at in moments for r in group["rules"]]
        test["alert_rule_test"] = wrong
    (tmp_path / "all.test.yaml").write_text(yaml.safe_dump(case))
    done = promtool("test", "rules", tmp_path / "all.test.yaml")
    said = done.stdout + done.stderr
    assert {rule["alert"] for rule in group["rules"] if f'alertname="{rule["alert"]}"' not in said} == set()
    assert "error expanding template" not in said
    assert "<no value>" not in said


SPEC = """\
apiVersion: llm-slo/v1
service: chat
group_by: [namespace, model_name, tenant]
slos: [{name: ttft, objective: 95%, sli: {latency: {metric: ttft, threshold: 250ms}}}]
"""
COUNT = "llm_time_to_first_token_seconds_count"


def test_causes_in_another_namespace_are_none(tmp_path: Path) -> None:
    """Of two namespaces with the same model a page names the causes in its own; engines need not know the tenants."""
    (tmp_path / "spec.yaml").write_text(SPEC)
    assert main(["build", str(tmp_path / "spec.yaml"), "--out", str(tmp_path)]) == 0
    bad = [{"series": f'{COUNT}{{namespace="{n}",model_name="m",tenant="t"}}', "values": "0+60x60"} for n in "ab"]
    never = [{"series": one["series"].replace("_count{", '_bucket{le="0.25",'), "values": "0x60"} for one in bad]
    queue = {"series": 'llm_requests_waiting{namespace="b",model_name="m"}', "values": "37x60"}
    expected = [{"eval_time": "30m", "alertname": "SloErrorBudgetBurnPage", "exp_alerts": []}]
    test = {"interval": "1m", "input_series": [*bad, *never, queue], "alert_rule_test": expected}
    rules = [f"rules/{name}.yaml" for name in ("slo-chat", "recording")]
    groups = [group["name"] for path in rules for group in yaml.safe_load((tmp_path / path).read_text())["groups"]]
    case = {"rule_files": rules, "evaluation_interval": "1m", "group_eval_order": groups, "tests": [test]}
    (tmp_path / "case.yaml").write_text(yaml.safe_dump(case))
    done = promtool("test", "rules", tmp_path / "case.yaml")  # wrong on purpose: it prints what it got
    causes = dict(re.findall(r'causes="([^"]*)".*?summary="chat-ttft namespace=(.)', done.stdout + done.stderr))
    assert causes == {"None of the joined signals stands out.": "a", "Requests wait in the queue: 37. ": "b"}
