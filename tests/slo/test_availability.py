"""Availability where an engine counts no HTTP statuses: finished and failed requests, by the engine's own reasons."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from slo.cli import main

pytestmark = [
    pytest.mark.prometheus,
    pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed"),
]
SPEC = """\
apiVersion: llm-slo/v1
service: chat
{engine}
slos:
  - name: up
    objective: 99%
    sli:
      availability: {{}}
"""
# Ten requests a minute are answered, one is refused for want of room; nine were wrong, and of nine the client had gone.
TGI = {
    'tgi_request_success{instance="a"}': "0+10x60",
    'tgi_request_failure{instance="a",err="overloaded"}': "0+1x60",
    'tgi_request_failure{instance="a",err="validation"}': "0+9x60",
    'tgi_request_failure{instance="a",err="dropped"}': "0+9x60",
}
EXPORTER = {
    series.replace("tgi_request_success", "llm_requests_finished_total")
    .replace("tgi_request_failure", "llm_requests_failed_total")
    .replace("err=", "reason=")
    .replace("{", '{model_name="m",'): values
    for series, values in TGI.items()
}
TRTLLM = {
    'trtllm_request_success_total{instance="a",finished_reason="stop",model_name="m"}': "0+9x60",
    'trtllm_request_success_total{instance="a",finished_reason="length",model_name="m"}': "0+1x60",
    'trtllm_request_success_total{instance="a",finished_reason="cancelled",model_name="m"}': "0+9x60",
    'trtllm_request_error_total{instance="a",http_code="500",model_name="m"}': "0+1x60",
    'trtllm_request_error_total{instance="a",http_code="400",model_name="m"}': "0+9x60",
}
# Neither counter has a label that tells them apart once the name is gone.
NIM = {
    'request_success_total{instance="a",model_name="m"}': "0+10x60",
    'request_failure_total{instance="a",model_name="m"}': "0+1x60",
}
CASES = {
    "tgi through the sidecar": ("engine: tgi", [], EXPORTER),
    "tgi": ("", ["--source", "tgi"], TGI),
    "trtllm": ("", ["--source", "trtllm"], TRTLLM),
    "nim": ("engine: nim", ["--source", "nim"], NIM),
}


def scenario(name: str, series: dict[str, str], expected: dict[str, float]) -> dict[str, object]:
    """A promtool test: the SLO's rates per minute after half an hour of `series`."""
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": one, "values": values} for one, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f"round(sum(60 * {record}), 0.001)",
                "eval_time": "30m",
                "exp_samples": [{"labels": "{}", "value": value}],
            }
            for record, value in expected.items()
        ],
    }


@pytest.mark.parametrize("case", CASES)
def test_answers_refusals_and_the_clients_own_mistakes(case: str, tmp_path: Path) -> None:
    """Answers are good, the engine's failures bad, the client's count for nothing; either counter may be missing."""
    engine, flags, series = CASES[case]
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC.format(engine=engine))
    assert main(["build", str(spec), "--out", str(tmp_path), *flags]) == 0
    good, total = "slo:good:rate5m", "slo:total:rate5m"
    finished, failed = ({s: v for s, v in series.items() if ("succ" in s or "fini" in s) == ok} for ok in (True, False))
    tests = [
        scenario("all", series, {good: 10, total: 11}),
        scenario("nothing has failed yet", finished, {good: 10, total: 10}),
        scenario("nothing was ever answered", failed, {good: 0, total: 1}),
    ]
    document = {"rule_files": ["rules/slo-chat.yaml"], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "case.yaml").write_text(yaml.safe_dump(document))
    done = subprocess.run(["promtool", "test", "rules", tmp_path / "case.yaml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert main(["test", str(spec), "--out", str(tmp_path), *flags]) == 0
