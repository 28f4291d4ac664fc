"""The replay of the alerts: against the detection formula, and against the real rules in promtool."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from small_servers import needs_prometheus

from slo import catalog
from slo.cli import main
from slo.evidence.replay import Firing, History, Policy, Replay
from slo.promql import duration
from slo.sli import LatencySli
from slo.spec.model import Slo
from slo.windows import BURN_ALERTS, DAY, HOUR, KEEP_FIRING, MINUTE

PERIOD = 30 * DAY


def _slo(objective: float) -> Slo:
    return Slo(service="s", name="ttft", objective=objective, sli=LatencySli(catalog.TTFT, 0.25), period=PERIOD)


def _history(bad_share: Sequence[float], per_minute: float, objective: float) -> History:
    """One error ratio a minute, at flat traffic; rates over five minutes are means of five."""
    total = [per_minute / 60] * len(bad_share)
    sums = [0.0, *accumulate(bad_share)]
    bad = [(sums[i + 1] - sums[max(0, i - 4)]) / 5 * per_minute / 60 for i in range(len(bad_share))]
    good = [t - b for t, b in zip(total, bad, strict=True)]
    return History(slo=_slo(objective), group={}, start=0, step=MINUTE, good=good, total=total)


def _pages(history: History) -> list[Firing]:
    return [firing for firing in Replay(history).firings(Policy()) if firing.severity == "page"]


@given(
    st.sampled_from([0.9, 0.95, 0.99, 0.995, 0.999]),
    st.floats(0.001, 1),
    st.sampled_from([60.0, 6000.0]),
)
@settings(deadline=None)
def test_pages_come_when_the_formula_says(objective: float, error_ratio: float, per_minute: float) -> None:
    """A step of the error ratio pages at the earliest detection time of the page alerts, within two minutes."""
    slo = _slo(objective)
    pages = [alert for alert in BURN_ALERTS if alert.severity == "page"]
    times = [alert.detection_seconds(error_ratio, slo.error_budget, PERIOD) for alert in pages]
    predicted = min((time for time in times if time is not None), default=None)
    limits = [alert.factor(slo.error_budget, PERIOD) * slo.error_budget for alert in pages]
    assume(all(abs(error_ratio - limit) > 0.02 * limit for limit in limits))
    enough = 5 / (error_ratio * per_minute) * MINUTE  # seconds until there are the five bad events that a page needs
    found = _pages(_history([0.0] * 480 + [error_ratio] * 480, per_minute, objective))
    if predicted is None or predicted > 7 * HOUR:
        assert not found
    else:
        # The five-minute rates trail by up to five minutes where the short window is what decides.
        assert (
            max(predicted, enough) - MINUTE <= found[0].start - 480 * MINUTE <= max(predicted, enough, 300) + 2 * MINUTE
        )


@given(st.sampled_from([0.05, 0.2, 1.0]), st.sampled_from([0.9, 0.95, 0.99]))
def test_factors_are_those_of_the_rules(scale: float, objective: float) -> None:
    """With the share in force, a policy's factors are the alerts' own."""
    slo = _slo(objective)
    alerts = [alert for alert in BURN_ALERTS if alert.budget_share * scale >= 0]
    assert [Policy().factor(a, slo) for a in alerts] == [a.factor(slo.error_budget, PERIOD) for a in alerts]


def test_an_idle_service_does_not_page() -> None:
    """After an outage without any request since, nothing burns: what rounding leaves is no traffic."""
    busy = _history([0.1] * 3000 + [1.0] * 10, 1e5, 0.95)
    idle = [0.0] * 300
    history = History(slo=busy.slo, group={}, start=0, step=60, good=[*busy.good, *idle], total=[*busy.total, *idle])
    [*_, last] = _pages(history)
    assert last.end == (3009 + 5) * 60  # the last minute with traffic, and five minutes of keep_firing_for


@pytest.mark.parametrize("bad", range(7))
def test_a_few_bad_requests_are_no_page(bad: int) -> None:
    """A request every ten minutes, the first ones bad: the burn rate is extreme, and yet it takes five to page."""
    total = [1 / 300 if minute % 10 < 5 else 0.0 for minute in range(240)]
    good = [t if minute >= 10 * bad else 0.0 for minute, t in enumerate(total)]
    history = History(slo=_slo(0.999), group={}, start=0, step=60, good=good, total=total)
    assert bool(_pages(history)) == (bad >= 5)


# --- the same events through the real rules --------------------------------------------------------------------------


@dataclass(frozen=True)
class Scenario:
    """Minutes and error ratios, one after the other, at so many requests a minute."""

    name: str
    objective: float
    per_minute: int
    phases: tuple[tuple[int, float], ...]
    severity: str = "page"
    bound: int = 2  # minutes, of the start

    @property
    def shares(self) -> list[float]:
        return [share for minutes, share in self.phases for _ in range(minutes)]


SCENARIOS = [
    Scenario("outage", 0.95, 120, ((120, 0.0), (40, 1.0), (60, 0.0))),
    Scenario("degraded", 0.95, 120, ((120, 0.01), (60, 0.6), (60, 0.01))),
    Scenario("outage of a strict SLO", 0.999, 6000, ((120, 0.0), (10, 0.5), (90, 0.0))),
    Scenario("leak that six hours see", 0.999, 6000, ((60, 0.0), (150, 0.01), (60, 0.0)), bound=6),
    Scenario("ticket", 0.999, 6000, ((200, 0.0), (60, 0.0055), (150, 0.0)), severity="ticket", bound=6),
    Scenario("two bursts", 0.95, 120, ((120, 0.0), (20, 0.9), (60, 0.0), (20, 0.9), (60, 0.0))),
]


def _promtool_case(scenario: Scenario, checks: Sequence[tuple[int, bool]], order: Sequence[str]) -> dict[str, object]:
    """A promtool test of the counters, and whether the alert fires at each minute."""
    total = [scenario.per_minute * minute for minute in range(len(scenario.shares) + 1)]
    good = [0.0, *accumulate(scenario.per_minute * (1 - share) for share in scenario.shares)]
    series = {"llm_time_to_first_token_seconds_count": total, 'llm_time_to_first_token_seconds_bucket{le="0.25"}': good}
    alert = f'count(ALERTS{{alertstate="firing",severity="{scenario.severity}",slo="s-ttft"}}) or vector(0)'
    return {
        "rule_files": ["rules/slo-s.yaml", "rules/recording.yaml"],
        "evaluation_interval": "1m",
        "group_eval_order": list(order),
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": name, "values": " ".join(f"{v:.6f}" for v in values)} for name, values in series.items()
                ],
                "promql_expr_test": [
                    {"expr": alert, "eval_time": f"{at}m", "exp_samples": [{"labels": "{}", "value": int(fires)}]}
                    for at, fires in checks
                ],
            }
        ],
    }


def test_what_the_rules_guard_with(tmp_path: Path) -> None:
    """The built alerts keep firing for as long as a replay says, and ask for as many bad events in every window."""
    specs = Path(__file__).parents[2] / "slo" / "specs"
    assert main(["build", str(specs / "chat.yaml"), "--out", str(tmp_path)]) == 0
    content = yaml.safe_load((tmp_path / "rules" / "recording.yaml").read_text())
    rules = [rule for group in content["groups"] for rule in group["rules"] if "Burn" in rule.get("alert", "")]
    assert {rule["labels"]["severity"]: rule["keep_firing_for"] for rule in rules} == {
        severity: duration(keep) for severity, keep in KEEP_FIRING.items()
    }
    assert all(rule["expr"].count(f">= {Policy().min_bad_events}") == 2 for rule in rules)


@needs_prometheus
@pytest.mark.prometheus
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name.replace(" ", "-"))
def test_the_real_rules_fire_in_the_same_minutes(scenario: Scenario, tmp_path: Path) -> None:
    """promtool runs the built rules over the same counters: alerts start within the bound, end within eight minutes."""
    spec = {
        "apiVersion": "llm-slo/v1",
        "service": "s",
        "group_by": [],
        "slos": [
            {
                "name": "ttft",
                "objective": scenario.objective,
                "sli": {"latency": {"metric": "ttft", "threshold": "250ms"}},
            }
        ],
    }
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(spec))
    assert main(["build", str(tmp_path / "s.yaml"), "--out", str(tmp_path)]) == 0
    # A history's sample i says what was counted up to minute i + 1.
    history = _history(scenario.shares, scenario.per_minute, scenario.objective)
    firings = [f for f in Replay(history).firings(Policy()) if f.severity == scenario.severity]
    assert firings
    checks = [(scenario.phases[0][0], False)]
    for firing in firings:
        start, end = (round(at / 60) + 1 for at in (firing.start, firing.end))
        near = [(start - scenario.bound, False), (start + scenario.bound, True)]
        checks += [*near, (end - 8, True), (end + 8, False)]
    groups = [group for name in ("slo-s", "recording") for group in _groups(tmp_path / "rules" / f"{name}.yaml")]
    assert checks[-1][0] < len(scenario.shares)
    case = _promtool_case(scenario, checks, groups)
    (tmp_path / "case.yaml").write_text(json.dumps(case))  # JSON is YAML
    done = subprocess.run(["promtool", "test", "rules", "case.yaml"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:2000]


def _groups(path: Path) -> list[str]:
    return [group["name"] for group in yaml.safe_load(path.read_text())["groups"]]
