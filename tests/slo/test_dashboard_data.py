"""Prometheus evaluates every panel over the series of two replicas: joins and label sets fit, not just parse."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from boards_as_read import BOARDS, Board, panels, substituted

from slo import catalog
from slo.catalog import Kind, Metric
from slo.rules import latency, recorded

pytestmark = [
    pytest.mark.prometheus,
    pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"),
]

PODS = {"10.0.0.1:9400": "GPU-a", "10.0.0.2:9400": "GPU-b"}
VALUES = {
    "model_name": "llama",
    "engine": "0",
    "gpu": "0",
    "slo": "chat-ttft",
    "source": "engine",
    "endpoint": "x",
    "load": "20/s",
}
VALUES |= {
    "handler": "/v1/chat/completions",
    "method": "POST",
    "status": "2xx",
    "finished_reason": "stop",
    "outcome": "ok",
}
# What dcgm-exporter leaves out by default, or only NVML knows.
SELDOM = (catalog.GPU_SM_ACTIVE, catalog.GPU_POWER_LIMIT, catalog.GPU_THROTTLED)


def _raw(metric: Metric, instance: str, gpu_uuid: str) -> Iterator[tuple[str, dict[str, str], str]]:
    labels = {name: VALUES.get(name, "x") for name in metric.labels} | {"job": "sidecar", "instance": instance}
    if "gpu_uuid" in labels:
        labels["gpu_uuid"] = gpu_uuid
    if metric.kind == Kind.HISTOGRAM:
        for le in (*map(repr, metric.buckets), "+Inf"):
            yield f"{metric.name}_bucket", labels | {"le": le}, "0+60x120"
        yield f"{metric.name}_sum", labels, "0+30x120"
        yield f"{metric.name}_count", labels, "0+60x120"
    else:
        yield metric.name, labels, "0+60x120" if metric.kind == Kind.COUNTER else "1x120"


def _recorded() -> Iterator[tuple[str, dict[str, str], str]]:
    for slo in ("chat-ttft", "chat-goodput"):
        group = {"slo": slo, "model_name": "llama"}
        yield recorded.ERROR_BUDGET, {"slo": slo, "period": "30d", "service": "chat"}, "0.05x120"
        for name in (recorded.TOTAL_5M, recorded.TOTAL_1H, recorded.TOTAL_INCREASE):
            yield name, group, "10x120"
        for name in (recorded.GOOD_5M, recorded.GOOD_1H, recorded.GOOD_INCREASE):
            yield name, group, "9x120"
        for window in ("5m", "30m", "1h", "2h", "6h", "1d", "3d"):
            yield recorded.burn_rate(window), group, "2x120"
        yield recorded.PERIOD_ERROR, group | {"period": "30d"}, "0.04x120"
        yield recorded.BUDGET_LEFT, group | {"period": "30d"}, "0.2x120"
    for metric in (*latency.ENGINE_SIDE, *latency.CLIENT_SIDE):
        for le in (*map(repr, metric.buckets), "+Inf"):
            yield recorded.buckets(metric), {"model_name": "llama", "load": "20/s", "le": le}, "7x120"
    yield recorded.ENERGY_PER_OUTPUT, {"model_name": "llama"}, "1x120"
    yield recorded.COST_PER_OUTPUT, {"model_name": "llama", "currency": "EUR"}, "2x120"
    yield recorded.CAUSE, {"model_name": "llama", "cause": "Requests wait in the queue"}, "12x120"
    yield "ALERTS", group | {"alertname": "Burn", "alertstate": "firing", "severity": "page"}, "1x120"


def _series() -> list[dict[str, str]]:
    metrics = [metric for metric in catalog.families() if metric not in SELDOM]
    raw = [item for pod in PODS.items() for metric in metrics for item in _raw(metric, *pod)]
    return [
        {"series": f"{name}{{{','.join(f'{k}={json.dumps(v)}' for k, v in labels.items())}}}", "values": values}
        for name, labels, values in (*raw, *_recorded())
    ]


def _promtool(
    tmp_path: Path, expectations: list[dict[str, object]], *more: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """promtool's verdict on PromQL expressions two hours into the series, and `more` series."""
    test = {"interval": "1m", "input_series": [*_series(), *more], "promql_expr_test": expectations}
    # JSON is YAML.
    (tmp_path / "boards.yaml").write_text(json.dumps({"tests": [test]}), encoding="utf-8")
    return subprocess.run(["promtool", "test", "rules", "boards.yaml"], cwd=tmp_path, capture_output=True, text=True)


def _expect(expr: str, samples: dict[str, float], **chosen: str) -> dict[str, object]:
    wanted = [{"labels": labels, "value": value} for labels, value in samples.items()]
    return {"expr": substituted(expr, chosen), "eval_time": "2h", "exp_samples": wanted}


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS.keys())
def test_no_panel_is_empty(board: Board, tmp_path: Path) -> None:
    """Every panel has something to show from vLLM's families and dcgm-exporter's default fields."""
    shown = [" or ".join(f"count({target['expr']})" for target in panel["targets"]) for panel in panels(board)]
    verdict = _promtool(tmp_path, [_expect(f"({counts}) > bool 0", {"{}": 1}) for counts in shown])
    assert verdict.returncode == 0, verdict.stderr[:4000]


def _expr(board: str, title: str, column: int = 0) -> str:
    [panel] = [panel for panel in panels(BOARDS[board]) if panel["title"] == title]
    return str(panel["targets"][column]["expr"])


def test_values(tmp_path: Path) -> None:
    """Joins neither lose nor double: two replicas with a GPU each, one token and one joule a second from each."""
    model = '{model_name="llama"}'
    ttft, goodput = '{slo="chat-ttft", model_name="llama"}', '{slo="chat-goodput", model_name="llama"}'
    verdict = _promtool(
        tmp_path,
        [
            _expect(_expr("fleet.json", "Power"), {model: 2}),
            _expect(_expr("fleet.json", "GPUs"), {model: 2}),
            _expect(_expr("fleet.json", "Energy per million output tokens"), {model: 1e6}),
            _expect(_expr("gpu.json", "Output tokens per joule"), {model: 1}),
            _expect(_expr("engine.json", "Server errors"), {"{}": 0}),
            _expect(_expr("engine.json", "Sources down"), {"{}": 0}),
            _expect(_expr("fleet.json", "SLOs", 0), {ttft: 1, goodput: 1}),  # at risk: a fifth of the budget is left
            _expect(_expr("fleet.json", "SLOs", 1), {ttft: 0, goodput: 2}),  # quiet, page
            _expect(_expr("fleet.json", "SLOs", 2), {ttft: 0.95, goodput: 0.95}),
            _expect(_expr("fleet.json", "SLOs", 3), {ttft: 0.9, goodput: 0.9}),
        ],
    )
    assert verdict.returncode == 0, verdict.stderr[:4000]


@pytest.mark.parametrize("title", ["TTFT distribution", "ITL distribution"])
def test_who_chooses_an_instance_sees_that_instance(title: str, tmp_path: Path) -> None:
    """All, and a model, read what is recorded (here 7 a second); an instance, pod, job or engine reads raw buckets."""
    one = f"sum({_expr('engine.json', title)}) / count({_expr('engine.json', title)})"
    choices: list[tuple[float, dict[str, str]]] = [
        (7, {}),
        (7, {"model_name": "llama"}),
        (7, {"namespace": "(|x)"}),
        (1, {"instance": "10[.]0[.]0[.]1:9400"}),
        (2, {"instance": "(10[.]0[.]0[.]1:9400|10[.]0[.]0[.]2:9400)"}),
        (2, {"job": "sidecar"}),
        (2, {"engine": "0"}),
    ]
    verdict = _promtool(tmp_path, [_expect(one, {"{}": value}, **chosen) for value, chosen in choices])
    assert verdict.returncode == 0, verdict.stderr[:4000]


def test_models_that_share_a_gpu_share_its_energy(tmp_path: Path) -> None:
    """A second model on one of two GPUs takes half of it, and of one chosen model still only its part shows."""
    name = (
        f'{catalog.ENGINE_GPU_INFO.name}{{model_name="other",gpu_uuid="GPU-a",job="sidecar",instance="10.0.0.1:9400"}}'
    )
    power, llama = _expr("fleet.json", "Power"), '{model_name="llama"}'
    wanted = [
        _expect(power, {llama: 1.5, '{model_name="other"}': 0.5}),
        _expect(power, {llama: 1.5}, model_name="llama"),
    ]
    verdict = _promtool(tmp_path, wanted, {"series": name, "values": "1x120"})
    assert verdict.returncode == 0, verdict.stderr[:4000]
