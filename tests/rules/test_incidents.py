"""Incidents on real parts: the right page, in the time that was predicted, with the right cause, and its end.

For each incident, and for a control without one, a simulator serves the same load and a sidecar reads it. One real
Prometheus evaluates the rules that `slo-gen build` makes of slo/specs/chat.yaml, one real Alertmanager pages a webhook.

Time runs FAST times as fast for all that measures time in alerting: ranges, offsets, intervals, `for`,
`keep_firing_for` and constants of seconds in the generated rules (acceleration.py), the scrape interval of 20 s,
Prometheus' look-back and resend delay, and Alertmanager's waits. What requests take is not accelerated, so their
latencies are as long in fast motion as a busy machine makes them: BUSY allows for that. Causes compare with an hour
before, so the incidents begin once Prometheus has seen an hour. As it has seen no more, the window of six hours holds
that hour alone: it trips too, some minutes earlier or later, and its half-hour window decides when a page ends.
"""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path

import httpx
import pytest
from rehearsal import Notice, Stage, came, eventually, stage

from slo.rules import recorded
from slo.rules.explain import LATE_HOUR, LATE_LONG, detects
from slo.sli import RequestSli
from slo.spec.model import load
from slo.windows import BURN_ALERTS, HOUR, KEEP_FIRING, MINUTE

pytestmark = [
    pytest.mark.prometheus,
    pytest.mark.incidents,
    pytest.mark.skipif(
        not (shutil.which("prometheus") and shutil.which("prometheus-alertmanager")),
        reason="Prometheus and Alertmanager are not installed (Debian: prometheus, prometheus-alertmanager)",
    ),
]

FAST = 40
SPEC = Path(__file__).parents[2] / "slo" / "specs" / "chat.yaml"
SLOS = {slo.id: slo for slo in load(SPEC).slos}
PAGES = [alert for alert in BURN_ALERTS if alert.severity == "page"]
GROUP_WAIT = 30
INCIDENT = 20 * MINUTE
# Real seconds: requests that take long to end or to be made up for, timers of a machine that others use too.
BUSY = 5.0


@dataclass(frozen=True, kw_only=True)
class Incident:
    """A fault, the SLO that must page and the share of its events that turns bad, and the cause that must be named.

    `further` are the pages that follow from it besides.
    """

    model: str
    fault: str
    slo: str
    bad: float = 1.0
    cause: str
    further: frozenset[str] = frozenset()

    def detection(self) -> float:
        """Seconds until the page, as `slo-gen explain` predicts them."""
        predicted = (detects(alert, SLOS[self.slo], self.bad) for alert in PAGES)
        return min(seconds for seconds in predicted if seconds is not None)

    def reset(self) -> float:
        """Seconds after its end until the last short window is clean."""
        slo = SLOS[self.slo]
        return max(alert.reset_seconds(self.bad, slo.error_budget, slo.period) for alert in PAGES)


INCIDENTS = (
    Incident(
        model="slow-prefill",
        fault="prefill=33",  # 200 tokens in 264 ms
        slo="chat-ttft",
        cause="Prefill takes longer than an hour ago",
        further=frozenset({"chat-goodput"}),
    ),
    Incident(
        model="full-cache",
        fault="kv=0.98",  # 21 blocks are left, and a request takes 15
        slo="chat-kv-cache",
        cause="The KV cache is full",
        further=frozenset({"chat-ttft", "chat-goodput", "chat-throughput"}),
    ),
    Incident(
        model="hung",
        fault="hang",
        slo="chat-stall",
        cause="Engines with requests but without tokens",
        further=frozenset({"LlmEngineStalled", "chat-ttft", "chat-goodput", "chat-throughput"}),
    ),
    Incident(
        model="failing",
        fault="errors=0.8",
        slo="chat-availability",
        bad=0.8,
        cause="Answers with server errors",
    ),
    Incident(
        model="hot",
        fault="throttle=7",  # 58 ms per output token
        slo="chat-tpot",
        cause="GPUs with clocks held down by heat or hardware",
        further=frozenset({"chat-goodput", "chat-ttft", "chat-throughput"}),
    ),
)
# These have one origin each; that prefill, steps or the queue take longer follows from several.
TELLING = {incident.cause for incident in INCIDENTS} - {"Prefill takes longer than an hour ago"}
# Of requests there are as many before as after; a hung or full engine is judged by minutes, of which some do not count.
REQUESTS = [incident for incident in INCIDENTS if isinstance(SLOS[incident.slo].sli, RequestSli)]
CONTROL = "control"


@dataclass(frozen=True)
class Rehearsal:
    """What the receiver was told, and between which times (monotonic clock) the incidents lasted.

    `tripped` is when the hour's burn rate went above its factor, in real seconds after that; inf is never. `causes` are
    those that were seen for the control for more than a moment, `hot` is the sidecar beside the hot GPU.
    """

    notices: list[Notice]
    began: float
    ended: float
    tripped: dict[str, float]
    causes: list[str]
    hot: str

    def of(self, model: str, page: str, *, firing: bool) -> Notice:
        """The first notice that a page of a model fires, or the last that it does not any more."""
        found = [n for n in self.notices if n.labels.get("model_name") == model and n.page == page]
        found = [notice for notice in found if notice.firing is firing]
        assert found, f"{page} of {model} was never told to {'fire' if firing else 'be over'}"
        return found[0 if firing else -1]

    def pages(self, model: str) -> set[str]:
        """What paged for a model."""
        return {n.page for n in self.notices if n.page and n.labels.get("model_name") == model}


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    """All incidents at once, an hour of good service before and whatever the pages need to end after."""
    models = [*(incident.model for incident in INCIDENTS), CONTROL]
    with stage(tmp_path_factory.mktemp("stage"), models, SPEC, FAST) as on:
        usual = f"count_over_time({recorded.PREFILL_5M}[{HOUR // FAST}s] offset {HOUR // FAST}s) > 5"
        eventually("an hour of history", lambda: on.has(usual) == len(models), 2 * HOUR / FAST)
        began, unix = time.monotonic(), time.time()
        for incident in INCIDENTS:
            fault = f"{incident.fault}+{INCIDENT / FAST:g}"
            httpx.post(f"{on.simulators[incident.model]}/faults", content=fault, timeout=10).raise_for_status()
        longest = max(incident.reset() for incident in INCIDENTS) + KEEP_FIRING["page"] + LATE_LONG
        ended = began + INCIDENT / FAST
        eventually("the end of the incidents", lambda: time.monotonic() > ended, 2 * INCIDENT / FAST)
        came(lambda: _all_over(on.notices), (longest + GROUP_WAIT) / FAST + BUSY)  # a test names the page that stays
        tripped = {incident.model: _tripped(incident, on, unix) for incident in INCIDENTS}
        # Each minute of fast motion they are looked for; a busy machine may well stop a simulator for two such minutes.
        lasting = f'count_over_time({recorded.CAUSE}{{model_name="{CONTROL}"}}[1h]) > 4'
        named = [series.labels["cause"] for series in on.prometheus.instant(lasting, time.time())]
        yield Rehearsal(on.notices, began, ended, tripped, named, on.sidecars["hot"])


def _all_over(notices: list[Notice]) -> bool:
    last = {tuple(sorted(notice.labels.items())): notice for notice in notices}
    return not any(notice.firing for notice in last.values() if notice.page)


def _tripped(incident: Incident, on: Stage, began: float) -> float:
    slo, page = SLOS[incident.slo], PAGES[0]
    factor = page.factor(slo.error_budget, slo.period)
    expr = f'{recorded.burn_rate("1h")}{{slo="{incident.slo}",model_name="{incident.model}"}} > {factor}'
    # Looked for every 0.1 s from the beginning on; a value stays visible until the next one.
    first = f"min_over_time(timestamp({expr})[{2 * INCIDENT // FAST}s:100ms])"
    found = on.prometheus.instant(first, began + 2 * INCIDENT / FAST)
    return min((moment - began for series in found for moment in series.samples.values()), default=inf)


each_incident = pytest.mark.parametrize("incident", INCIDENTS, ids=lambda incident: incident.model)


@each_incident
def test_the_right_page_comes_in_time(rehearsal: Rehearsal, incident: Incident) -> None:
    """It fires within the time that the windows predict, the rules' own delay, and what this machine needs."""
    after = rehearsal.of(incident.model, incident.slo, firing=True).at - rehearsal.began
    predicted = incident.detection()
    print(f"{incident.model}: predicted {predicted:.0f} s, seen {after * FAST:.0f} s, which took {after:.1f} s")
    assert 0 < after < (predicted + LATE_HOUR + GROUP_WAIT) / FAST + BUSY


@pytest.mark.parametrize("incident", REQUESTS, ids=lambda incident: incident.model)
def test_the_hours_window_trips_when_predicted(rehearsal: Rehearsal, incident: Incident) -> None:
    """Neither later nor earlier, but for the delays and a history that may be some minutes longer than the window."""
    seen, predicted = rehearsal.tripped[incident.model] * FAST, incident.detection()
    print(f"{incident.model}: the hour trips after {predicted:.0f} s as predicted, {seen:.0f} s as seen")
    assert 0.85 * predicted < seen < predicted + LATE_HOUR + BUSY * FAST


@each_incident
def test_the_page_names_the_cause(rehearsal: Rehearsal, incident: Incident) -> None:
    """Its first notice names what was injected, and nothing that only another incident could have caused."""
    causes = rehearsal.of(incident.model, incident.slo, firing=True).annotations["causes"]
    print(f"{incident.model}: {causes}")
    assert incident.cause in causes
    assert not {cause for cause in TELLING - {incident.cause} if cause in causes}


@each_incident
def test_the_page_ends_in_time(rehearsal: Rehearsal, incident: Incident) -> None:
    """It is resolved once its short window is clean, kept up by keep_firing_for, and not before the incident ends."""
    after = rehearsal.of(incident.model, incident.slo, firing=False).at - rehearsal.ended
    predicted = incident.reset() + KEEP_FIRING["page"]
    print(f"{incident.model}: reset predicted {predicted:.0f} s, seen {after * FAST:.0f} s, which took {after:.1f} s")
    assert 0 < after < (predicted + LATE_LONG + GROUP_WAIT) / FAST + BUSY


@each_incident
def test_nobody_is_paged_for_what_is_fine(rehearsal: Rehearsal, incident: Incident) -> None:
    """The model's other SLOs page only where they are broken too."""
    assert incident.slo in rehearsal.pages(incident.model)
    assert rehearsal.pages(incident.model) <= {incident.slo, *incident.further}


def test_a_hung_engine_is_told_by_its_own_alert_too(rehearsal: Rehearsal) -> None:
    """LlmEngineStalled pages after two minutes without a token and three of waiting."""
    after = rehearsal.of("hung", "LlmEngineStalled", firing=True).at - rehearsal.began
    print(f"LlmEngineStalled: seen {after * FAST:.0f} s")
    assert 5 * MINUTE / FAST < after < (5 * MINUTE + LATE_HOUR + GROUP_WAIT) / FAST + BUSY


def test_a_hot_gpu_is_told_by_its_own_alert_too(rehearsal: Rehearsal) -> None:
    """LlmGpuThrottled fires for the GPU that is hot and for no other: DCGM's mask says so."""
    hot = [notice for notice in rehearsal.notices if notice.labels["alertname"] == "LlmGpuThrottled"]
    assert {notice.labels["instance"] for notice in hot} == {rehearsal.hot}
    assert {notice.labels["reason"] for notice in hot} == {"hw_thermal"}


def test_the_control_is_silent(rehearsal: Rehearsal) -> None:
    """The same load without a fault raises no alert, nor a cause that tells, and no page comes before the incidents."""
    assert [n for n in rehearsal.notices if n.labels.get("model_name") == CONTROL] == []
    assert [n for n in rehearsal.notices if n.page and n.at < rehearsal.began] == []
    assert not {cause for cause in TELLING if cause in "".join(rehearsal.causes)}
