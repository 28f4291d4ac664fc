"""The capacity search against engines whose capacity is known, in virtual time."""

import asyncio
import os
import random
import signal
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from load_header import header
from load_records import footer
from load_servers import Got, in_thread

from loadgen.capacity.highest_rate import Capacity, Probe, ProbeError, Search
from loadgen.capacity.search import Point, Promise, Share, add, falling, next_rate, share
from loadgen.capacity.sizing import scale_out_at, text
from loadgen.cli import main
from loadgen.judging.regression import Outcome
from loadgen.results.record import Footer, Lag, Recording, RequestRecord
from loadgen.simulator.model import Engine, EngineConfig, Request
from loadgen.simulator.virtual import drive, poisson
from loadgen.traffic.arrivals import NS, Load
from slo import catalog
from slo.sli import AvailabilitySli, LatencySli, ThroughputSli
from slo.spec.model import Slo, Spec

# Prefill alone takes 40 ms a request: above 25 requests a second nothing helps, and well below all is good.
PROMPT, OUTPUT = 1000, 32
CONFIG = EngineConfig()
TTFT = LatencySli(catalog.TTFT, 0.25)


def spec(*slis: AvailabilitySli | LatencySli | ThroughputSli, objective: float = 0.95) -> Spec:
    slos = (Slo(service="t", name=f"s{i}", objective=objective, sli=sli) for i, sli in enumerate(slis))
    return Spec(service="t", slos=tuple(slos))


def to_record(seq: int, request: Request) -> RequestRecord:
    """What a client would have seen of a request, tokens in between left out."""
    due, first, last = (int(time * NS) for time in (request.arrival, request.first_token, request.last_token))
    return RequestRecord(
        seq=seq,
        trace_id="",
        scheduled_ns=due,
        sent_ns=due,
        done_ns=last,
        token_ns=(first, last),
        output_tokens=request.generated,
        status=200,
    )


@dataclass
class Service:
    """A simulated engine under a clock of its own: each run gets a fresh one and other arrivals."""

    config: EngineConfig = CONFIG
    seed: int = 0
    end: Footer = field(default_factory=footer)
    now: float = 0.0
    runs: list[tuple[float, float]] = field(default_factory=list)

    def probe(self, rate: float, seconds: float) -> Recording:
        self.seed += 1
        self.runs.append((rate, seconds))
        arrivals = poisson(rate, max(1, int(rate * seconds)), prompt_tokens=PROMPT, max_tokens=OUTPUT, seed=self.seed)
        served = drive(Engine(self.config, self.seed), arrivals)
        self.now += max(request.last_token for request in served)
        records = tuple(to_record(seq, request) for seq, request in enumerate(served))
        return Recording(header(Load(rate=rate, duration=seconds)), records, self.end)

    def search(self, what: Spec, budget: float = 900.0, start: float = 2.0, probe: Probe | None = None) -> Capacity:
        told = Search(what, probe or self.probe, budget=budget, clock=lambda: self.now, tell=lambda _: None)
        return told.run(start)


def good_share(rate: float, threshold: float, config: EngineConfig = CONFIG) -> float:
    """The truth: the share of TTFTs within a threshold over a long run."""
    served = drive(Engine(config, 99), poisson(rate, 6000, prompt_tokens=PROMPT, max_tokens=OUTPUT, seed=99))[500:]
    return sum(r.first_token - r.arrival <= threshold for r in served) / len(served)


def test_the_interval_holds_the_true_capacity() -> None:
    """Three searches: long runs at both ends of the interval agree with it, but for the 5 % that sureness leaves."""
    for seed in (0, 1000, 2000):
        found = Service(seed=seed).search(spec(TTFT))
        assert found.outcome is Outcome.PASS
        assert found.passed
        assert found.failed
        assert found.estimated
        assert found.failed / found.passed < 1.5
        assert good_share(found.passed * 0.95, 0.25) >= 0.95
        assert good_share(found.failed * 1.05, 0.25) < 0.95
        assert found.passed <= found.estimated <= found.failed
        assert found.limit == "t-s0"


def test_a_lucky_run_does_not_decide() -> None:
    """Every rate that passes or fails has two runs at least."""
    found = Service().search(spec(TTFT))
    assert {level.runs >= 2 for level in found.levels if level.outcome is not Outcome.INCONCLUSIVE} == {True}


def test_the_promise_that_decides_is_named() -> None:
    """All good is not all sure: of requests that are much alike few count. One surely broken goes before any doubt."""
    promises = [Promise("alike", 0.95), Promise("sure", 0.99), Promise("broken", 0.95)]
    alike, sure, broken = Share(1000, 1000, alike=50), Share(1000, 1000), Share(800, 1000)
    assert Point(1.0, ((alike, sure), (alike, sure))).worst(promises[:2]) == 0
    assert Point(1.0, ((alike, sure, broken), (alike, sure, broken))).worst(promises) == 2


def test_the_budget_holds() -> None:
    """A short budget ends in time, says so and claims no more than it saw."""
    service = Service()
    found = service.search(spec(TTFT), budget=60)
    assert found.ended == "the budget is used up"
    assert sum(seconds for _, seconds in service.runs) <= 60
    assert service.now < 120  # answers to an overload come after its end


def test_a_service_that_never_meets_its_spec_fails() -> None:
    """A first token within 5 ms, from an engine whose step takes 8: no rate at all."""
    found = Service().search(spec(LatencySli(catalog.TTFT, 0.005)), budget=300)
    assert (found.outcome, found.passed, found.replicas(10)) == (Outcome.FAIL, None, None)


def test_refusals_are_no_capacity() -> None:
    """A service that answers 429 to what is too much is fast at any rate, and has its limit all the same."""
    service = Service()

    def shed(rate: float, seconds: float) -> Recording:
        run = service.probe(rate, seconds)
        rng = random.Random(service.seed)
        kept = tuple(r if rng.random() * rate < 10 else refused(r) for r in run.records)
        return Recording(run.header, kept, run.footer)

    found = service.search(spec(LatencySli(catalog.TTFT, 60.0), AvailabilitySli()), probe=shed)
    assert found.passed
    assert found.failed
    assert found.passed <= 10 / 0.95 * 1.05
    assert found.failed > 10
    assert any(level.failed for level in found.levels)


def refused(record: RequestRecord) -> RequestRecord:
    return RequestRecord(
        seq=record.seq,
        trace_id="",
        scheduled_ns=record.scheduled_ns,
        sent_ns=record.sent_ns,
        done_ns=record.sent_ns,
        status=429,
        error="http_429",
    )


def test_a_client_that_is_too_slow_is_a_ceiling_not_a_limit() -> None:
    """Above 12 requests a second the client lags: what is above is unknown, what is below is found."""
    service, late = Service(), footer(loop_lag=Lag(p50=0.0, p99=0.5, max=0.5))

    def lagging(rate: float, seconds: float) -> Recording:
        run = service.probe(rate, seconds)
        return Recording(run.header, run.records, late if rate > 12 else run.footer)

    found = service.search(spec(TTFT), probe=lagging)
    assert found.failed is None
    assert found.ended == "the client is too slow for more"
    assert found.passed
    assert 9 < found.passed <= 12


def test_what_was_found_is_kept_when_no_more_runs_can_be_had() -> None:
    """The target breaks, or somebody has seen enough, in the middle: what is sure by then is the answer."""
    service = Service()

    def breaks(rate: float, seconds: float) -> Recording:
        if len(service.runs) == 9:
            raise ProbeError("gone")
        return service.probe(rate, seconds)

    found = service.search(spec(TTFT), probe=breaks)
    assert found.ended == "gone"
    assert sum(level.runs for level in found.levels) > 2


def test_ctrl_c_between_requests_gives_the_answer_so_far(capsys: pytest.CaptureFixture[str]) -> None:
    """Here while the target is asked for its models: there is no answer yet, and that is told."""

    async def pressed(_got: Got, _writer: asyncio.StreamWriter) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(30)

    chat = Path(__file__).parents[2] / "slo" / "specs" / "chat.yaml"
    with in_thread(pressed) as port:
        assert main(["capacity", "--target", f"http://127.0.0.1:{port}", "--slo", str(chat), "--quiet"]) == 130
    assert "nothing is sure (interrupted)" in capsys.readouterr().out


def test_what_follows_from_a_capacity() -> None:
    """Replicas for a rate, and requests in flight by Little's law."""
    found = Service().search(spec(TTFT), budget=600)
    assert found.passed
    assert found.replicas(found.passed * 2.5) == 3
    assert found.replicas(found.passed, behind=4) == 4
    level = next(level for level in found.levels if level.rate == found.passed)
    assert level.ttft
    assert found.in_flight == pytest.approx(found.passed * (level.ttft.p50 + 31 * level.tpot.p50), rel=0.3)  # type: ignore[union-attr]


def test_the_text_gives_the_answer_and_what_follows() -> None:
    """A row per rate, the interval, replicas, and the threshold to scale out at."""
    found = Service().search(spec(TTFT), budget=600)
    shown = text(found, 2, 100.0, ["t-kv"])
    assert shown.count("t-s0") == len(found.levels) + 1
    assert f"{found.passed:.3g} requests/s meet the spec, surely not at {found.failed:.3g}" in shown
    assert f"replicas for 100 requests/s: {found.replicas(100.0, 2)}" in shown
    assert f"threshold: {scale_out_at(found.in_flight or 0, 2)} for the query sum(llm_requests_running)" in shown
    assert shown.endswith("t-kv")
    assert (scale_out_at(50.0, 2), scale_out_at(0.1, 1)) == (20, 1)


ONE = [Promise("a", 0.95)]


@settings(deadline=None, max_examples=20)
@given(st.floats(0.5, 500), st.floats(0.02, 0.3))
def test_a_search_without_noise_ends_around_the_truth(truth: float, precision: float) -> None:
    """Rates up to the truth are all good, above it all bad: the search ends, with the truth in its interval."""
    points, guess = [], (1.0, 2.0)
    for _ in range(200):
        rate = next_rate(points, ONE, guess, precision)
        if rate is None:
            break
        points = add(points, rate, [Share(1000 if rate <= truth else 0, 1000)])
    else:
        pytest.fail("does not end")
    passed = max(p.rate for p in points if p.outcome(ONE) is Outcome.PASS)
    failed = min(p.rate for p in points if p.outcome(ONE) is Outcome.FAIL)
    assert passed <= truth < failed <= passed * (1 + precision) * (1 + 1e-9)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.1, 100)), max_size=30))
def test_the_fitted_curve_only_falls_and_keeps_the_mean(values: list[tuple[float, float]]) -> None:
    """The laws of isotonic regression; a curve that falls already stays as it is."""
    ratios, weights = [v for v, _ in values], [w for _, w in values]
    fitted = falling(ratios, weights)
    assert all(a >= b - 1e-12 for a, b in pairwise(fitted))
    assert sum(f * w for f, w in zip(fitted, weights, strict=True)) == pytest.approx(sum(v * w for v, w in values))
    assert falling(sorted(ratios, reverse=True), weights) == pytest.approx(sorted(ratios, reverse=True))


def test_requests_that_follow_each_other_are_worth_less() -> None:
    """The same share of bad ones says less when they come in one lump."""
    spread = share([i % 10 > 0 for i in range(1000)])
    lump = share([i < 900 for i in range(1000)])
    assert spread.ratio == lump.ratio == pytest.approx(0.9)
    assert lump.alike > 20 * spread.alike
    assert lump.bounds[0] < spread.bounds[0] < 0.9 < spread.bounds[1] < lump.bounds[1]
