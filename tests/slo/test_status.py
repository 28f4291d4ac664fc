"""`slo-gen status`: the arithmetic, a real Prometheus, and servers that are none."""

import json
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_servers import needs_prometheus, prometheus, serving

from slo.cli import main
from slo.live.status import seconds_to_exhaustion

SPEC = """
apiVersion: llm-slo/v1
service: chat
period: 7d
slos:
  - {name: ttft, objective: 95%, sli: {latency: {metric: ttft, threshold: 250ms}}}
  - {name: tpot, objective: 95%, sli: {latency: {metric: tpot, threshold: 50ms}}}
  - {name: up, objective: 99%, sli: {availability: {}}}
"""


@pytest.fixture
def spec(tmp_path: Path) -> str:
    path = tmp_path / "chat.yaml"
    path.write_text(SPEC)
    return str(path)


# --- when the budget will be gone ------------------------------------------------------------------------------------


def test_a_full_outage_after_a_clean_week() -> None:
    """168 clean hours of 100 requests and 1 % budget; a bad hour spends 100 of 168, so 68 left last 41.2 minutes.

    While each hour to come brings 100 bad events, the budget stays at 1 % of 16 800: good hours leave.
    """
    good = [100.0] * 167 + [0.0]
    assert seconds_to_exhaustion(good, [100.0] * 168, 0.01) == pytest.approx(0.68 * 3600)


def test_old_errors_leave_the_period() -> None:
    """Bad hours at the start of the period leave before the present trickle of errors could fill it."""
    good = [50.0] * 2 + [100.0] * 165 + [99.0]
    total = [100.0] * 168
    assert sum(total) - sum(good) < 0.01 * sum(total)
    assert seconds_to_exhaustion(good, total, 0.01) is None
    assert seconds_to_exhaustion(list(reversed(good)), total, 0.01) == pytest.approx((1 + (67 - 49) / 50) * 3600)


def test_what_was_good_may_not_be_known() -> None:
    """Events of which nobody knows yet whether they were good give no forecast, and no traceback."""
    assert seconds_to_exhaustion([], [100.0] * 168, 0.01) is None


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=2, max_size=40),
    st.sampled_from([0.001, 0.01, 0.05, 0.3]),
)
@settings(deadline=None)
def test_the_forecast_is_what_rolling_on_shows(hours: list[tuple[int, int]], budget: float) -> None:
    """Rolling the period on hour by hour, the budget is spent in the forecast hour and not before."""
    good, total = [float(g) for g, _ in hours], [float(g + b) for g, b in hours]
    forecast = seconds_to_exhaustion(good, total, budget)

    def spent(after: int) -> float:
        rolled_good = good[after:] + good[-1:] * after
        rolled = total[after:] + total[-1:] * after
        return sum(rolled) - sum(rolled_good) - budget * sum(rolled)

    if forecast is None:
        assert all(spent(hour) <= 1e-9 for hour in range(len(hours) + 1))
    else:
        hour = int(forecast // 3600)
        assert all(spent(before) <= 1e-9 for before in range(1, hour + 1))
        assert spent(hour) > -1e-9 or spent(hour + 1) > -1e-9


# --- against a real Prometheus ---------------------------------------------------------------------------------------


def _series(now: float) -> Mapping[str, list[tuple[float, float]]]:
    """A week: ttft of `fast` well, ttft of `slow` overspent and paging, tpot recorded but never used."""
    days = [(now - 60 - k * 300, 100.0) for k in range(7 * 288)][::-1]
    bad = [(at, 100.0 if at < now - 40 * 3600 else 0.0) for at, _ in days]
    latest = [now - 30]
    series: dict[str, list[tuple[float, float]]] = {}
    for slo, budget in (("chat-ttft", 0.05), ("chat-tpot", 0.05), ("chat-up", 0.01)):
        series[f'slo:error_budget:ratio{{slo="{slo}",period="7d"}}'] = [(at, budget) for at in latest]
    for model, good, left, burn in (("fast", days, 1.0, 0.0), ("slow", bad, -0.1, 20.0)):
        labels = f'slo="chat-ttft",model_name="{model}"'
        series[f'slo:budget_remaining:ratio{{{labels},period="7d"}}'] = [(at, left) for at in latest]
        series[f"slo:good:increase5m{{{labels}}}"] = good
        series[f"slo:total:increase5m{{{labels}}}"] = days
        for window in ("1h", "6h", "1d", "3d"):
            series[f"slo:burn_rate:{window}{{{labels}}}"] = [(at, burn) for at in latest]
    alert = 'alertname="SloErrorBudgetBurnPage",alertstate="firing",severity="page",slo="chat-ttft",service="chat"'
    series[f'ALERTS{{{alert},model_name="slow"}}'] = [(at, 1.0) for at in latest]
    return series


@needs_prometheus
@pytest.mark.prometheus
def test_every_slo_is_told_worst_first(spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What pages comes first, then what has no data; groups stay apart, in the table and as JSON."""
    with prometheus(tmp_path, _series(time.time())) as url:
        assert main(["status", spec, "--prometheus", url, "--json"]) == 1
        found = json.loads(capsys.readouterr().out)["slos"]
        assert main(["status", spec, "--prometheus", url]) == 1
        table = capsys.readouterr().out.splitlines()
        assert main(["status", spec, "--prometheus", url, "--markdown"]) == 1
        assert capsys.readouterr().out.startswith("| SLO | group | budget left | burn 1h |")
        assert main(["status", spec, "--prometheus", url, "--html", str(tmp_path / "status.html")]) == 1
        assert main(["status", spec, "--prometheus", url, "--html", str(tmp_path / "none" / "status.html")]) == 2
    page = (tmp_path / "status.html").read_text()
    assert [page.count(f"{word}</span>") for word in ("broken", "page", "no data", "met")] == [2, 1, 3, 2]
    told = [(item["slo"], item["group"].get("model_name"), item["firing"]) for item in found]
    assert told == [
        ("chat-ttft", "slow", "page"),
        ("chat-tpot", None, None),
        ("chat-up", None, None),
        ("chat-ttft", "fast", None),
    ]
    slow, tpot, _, fast = found
    assert (slow["budget_left"], slow["exhausted_in_seconds"], slow["burn_rates"]["1h"]) == (-0.1, 0, 20)
    assert (tpot["budget_left"], tpot["burn_rates"], tpot["fine"]) == (None, {}, False)
    assert (fast["budget_left"], fast["exhausted_in_seconds"], fast["fine"]) == (1, None, True)
    assert table[1].split() == ["chat-ttft", "slow", "-10.0%", "20", "20", "20", "20", "spent", "page"]
    assert table[-1].split() == ["chat-ttft", "fast", "100.0%", "0", "0", "0", "0", "-", "-"]


@needs_prometheus
@pytest.mark.prometheus
def test_without_rules_it_says_so(spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A Prometheus that has never seen the rules is one line that says what to load."""
    with prometheus(tmp_path, {"up": [(time.time() - 10, 1.0)]}) as url:
        assert main(["status", spec, "--prometheus", url]) == 2
    err = capsys.readouterr().err
    assert "has no slo:error_budget:ratio of chat-ttft, chat-tpot, chat-up: load the rules" in err
    assert err.count("\n") == 1


# --- against what is none --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, "<html>Grafana</html>", "not as Prometheus does; give its root URL"),
        (404, "page not found", "answered 404, but not as Prometheus does"),
        (200, "[1, 2]", "not as Prometheus does"),
        (200, '{"status": "success", "data": {"result": [7]}}', "not as Prometheus does"),
        (401, "who are you", "PROMETHEUS_TOKEN"),
        (422, '{"status": "error", "errorType": "execution", "error": "too many samples"}', "query: too many samples"),
    ],
)
def test_answers_that_are_no_answer(
    status: int, body: str, said: str, spec: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever else listens there becomes one line and exit code 2."""
    with serving(lambda *_: (status, body)) as url:
        assert main(["status", spec, "--prometheus", url]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:9", "cannot be reached"),
        ("localhost:9090", "is no URL"),
        ("http://[::1", "is no URL"),
        ("http://me:secret@127.0.0.1:9", "slo-gen: http://127.0.0.1:9 cannot be reached"),
    ],
)
def test_nobody_there(url: str, said: str, spec: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No listener and no URL are one line each."""
    assert main(["status", spec, "--prometheus", url]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_token_and_tenant_are_sent_and_warnings_shown(
    spec: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Requests carry the bearer token of the environment and the tenant; a server's warnings reach stderr once."""
    monkeypatch.setenv("PROMETHEUS_TOKEN", "secret")
    sample = {"metric": {"slo": "chat-ttft"}, "value": [0, "1"]}
    answer = json.dumps({"status": "success", "data": {"result": [sample]}, "warnings": ["one store is down"]})

    def checked(_method: str, _path: str, headers: Mapping[str, str], _body: bytes) -> tuple[int, str]:
        known = (headers.get("authorization"), headers.get("x-scope-orgid")) == ("Bearer secret", "team-a")
        return (200, answer) if known else (401, "")

    with serving(checked) as url:
        assert main(["status", spec, "--prometheus", url, "--tenant", "team-a"]) == 1
    out, err = capsys.readouterr()
    assert err == f"slo-gen: {url} warns: one store is down\n"
    assert "secret" not in out
