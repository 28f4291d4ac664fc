"""The gate: honest client first, exact bounds, three outcomes, and never green by default."""

import random
import re
from collections.abc import Sequence

import pytest
from load_records import QUIET, footer, recording, request

from loadgen.judging.verdict import Check, Outcome, Verdict, judge
from loadgen.results.baseline import from_recording
from loadgen.results.record import Fingerprint, Lag, Recording, RequestRecord
from slo import catalog
from slo.sli import AvailabilitySli, Count, GoodputSli, ItlSli, LatencySli, SaturationSli, Sli, ThroughputSli
from slo.spec.model import Slo, Spec

PASS, FAIL, INCONCLUSIVE = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE
TTFT = LatencySli(catalog.TTFT, 0.25)
SLOW = 0.5


def spec(*slis: Sli, objective: float = 0.95) -> Spec:
    return Spec(
        service="t", slos=tuple(Slo(service="t", name=f"s{i}", objective=objective, sli=s) for i, s in enumerate(slis))
    )


def mixed(good: int, bad: int) -> list[RequestRecord]:
    """So many of each, the bad ones as far apart as can be."""
    total = good + bad
    return [request(i, ttft=SLOW if (i + 1) * bad // total > i * bad // total else 0.1) for i in range(total)]


def burst(good: int, bad: int) -> list[RequestRecord]:
    """The bad ones in a row."""
    return [request(i, ttft=0.1 if i < good else SLOW) for i in range(good + bad)]


def only(verdict: Verdict) -> Check:
    (check,) = verdict.checks
    return check


@pytest.mark.parametrize(
    ("good", "bad", "outcome"),
    [
        (59, 0, PASS),  # ln(0.05) / ln(0.95) = 58.4
        (58, 0, INCONCLUSIVE),
        (1, 0, INCONCLUSIVE),
        (92, 1, PASS),  # the tables for 95/95: 93 with one bad
        (91, 1, INCONCLUSIVE),
        (95, 5, INCONCLUSIVE),
        (80, 20, FAIL),
        (0, 1, INCONCLUSIVE),  # 1 - 0.05 = 0.95 is not below the objective
        (0, 2, FAIL),
    ],
)
def test_requests_are_judged_by_their_exact_bounds(good: int, bad: int, outcome: Outcome) -> None:
    """Objective 95 %: sample sizes as in the published tables of 95 % confidence for 95 % reliability."""
    verdict = judge(spec(TTFT), recording(mixed(good, bad)))
    assert verdict.outcome is outcome
    assert only(verdict).outcome is outcome


def test_bad_requests_in_a_row_say_less() -> None:
    """Twenty bad ones that one long queue explains decide nothing; as many spread over the run do."""
    assert judge(spec(TTFT), recording(mixed(180, 20))).outcome is FAIL
    check = only(judge(spec(TTFT), recording(burst(180, 20))))
    assert check.outcome is INCONCLUSIVE
    assert re.search(r"so these say as much as \d+ independent ones; about \d+ requests needed", check.text)


def queue(seed: object, number: int) -> list[float]:
    """TTFTs of a server that is busy 80 % of the time, in units of its own (Lindley's recursion)."""
    rng, wait, found = random.Random(f"queue {seed}"), 0.0, []
    for _ in range(number):
        service = 0.8 * rng.lognormvariate(-0.02, 0.2)
        found.append(wait + service)
        wait = max(0.0, wait + service - rng.expovariate(1))
    return found


def test_a_queue_at_its_objective_seldom_fails() -> None:
    """Exactly 95 % are good in the long run: of 200 runs at most as many fail as 95 % sure allows, by three errors."""
    edge = sorted(queue("long", 100_000))[95_000]
    runs = [recording([request(j, ttft=ttft) for j, ttft in enumerate(queue(i, 300)[100:])]) for i in range(200)]
    failed = sum(judge(spec(LatencySli(catalog.TTFT, edge)), run).outcome is FAIL for run in runs)
    assert failed <= 200 * 0.05 + 3 * (200 * 0.05 * 0.95) ** 0.5


@pytest.mark.parametrize(("good", "bad", "needed"), [(30, 0, "59"), (29, 1, ""), (96, 4, "")])
def test_an_inconclusive_check_says_how_many_requests_it_takes(good: int, bad: int, needed: str) -> None:
    """And with that many, at the same share, it is conclusive."""
    text = only(judge(spec(TTFT), recording(mixed(good, bad)))).text
    number = int(text.split("about ")[1].split()[0])
    assert needed in str(number)
    more = round(number * good / (good + bad))
    assert judge(spec(TTFT), recording(mixed(more, number - more))).outcome is not INCONCLUSIVE


def test_a_share_at_the_objective_is_never_decided() -> None:
    """95 % seen for 95 % promised: no number of requests tells, and the check says that."""
    assert "too close" in only(judge(spec(TTFT), recording(mixed(95, 5)))).text


@pytest.mark.parametrize(("floor", "seconds", "outcome"), [(150, 20, PASS), (500, 20, FAIL), (150, 6, INCONCLUSIVE)])
def test_seconds_are_judged_as_observed_and_need_ten(floor: float, seconds: int, outcome: Outcome) -> None:
    """Seconds of one run depend on each other: no bound is claimed, and a handful say nothing."""
    records = [request(i, ttft=0.1, tpot=0.25) for i in range(20 * seconds)]
    verdict = judge(spec(ThroughputSli(floor, 1), objective=0.5), recording(records))
    assert verdict.outcome is outcome
    assert only(verdict).low is None


def test_a_steady_second_has_the_tokens_of_all_that_were_in_flight() -> None:
    """20 answers of 5 s begin each second: 2 000 tokens/s of 100 streams, also where the first of them were cut."""
    busy = recording([request(i, ttft=0.05, tpot=0.05, tokens=100) for i in range(800)])
    for rule, seconds in (("auto", 29), (6.0, 27)):
        check = only(judge(spec(ThroughputSli(1_900, 8), objective=0.9), busy, rule=rule))  # type: ignore[arg-type]
        assert (check.outcome, check.count) == (PASS, Count(seconds, seconds))
    ramps = only(judge(spec(ThroughputSli(1_900, 8), objective=0.9), busy))
    assert ramps.count
    assert ramps.count.good < ramps.count.total


def test_what_requests_cannot_see_is_skipped_and_never_green() -> None:
    """KV cache and queue time: alone they leave the gate inconclusive, beside an SLO that passes they do no harm."""
    queue = LatencySli(catalog.QUEUE_TIME, 0.3)
    for unseen in (SaturationSli(0.9), queue, GoodputSli((TTFT, queue))):
        alone = judge(spec(unseen), recording(mixed(100, 0)))
        assert (alone.outcome, [name for name, _ in alone.skipped]) == (INCONCLUSIVE, ["t-s0"])
        assert judge(spec(unseen, TTFT), recording(mixed(100, 0))).outcome is PASS


def test_one_failed_slo_fails_the_run() -> None:
    """Also beside one that is inconclusive."""
    verdict = judge(spec(TTFT, AvailabilitySli(), objective=0.99), recording(mixed(50, 50)))
    assert [check.outcome for check in verdict.checks] == [FAIL, INCONCLUSIVE]
    assert verdict.outcome is FAIL


LATE = Lag(p50=0.0, p99=0.030, max=0.1)


@pytest.mark.parametrize(
    ("run", "doubt"),
    [
        pytest.param(Recording(recording([]).header, tuple(mixed(100, 0)), None), "no footer", id="killed"),
        pytest.param(Recording(recording([]).header, tuple(mixed(100, 0)), None, True), "torn", id="torn"),
        pytest.param(recording(mixed(100, 0), footer(interrupted=True)), "interrupted", id="interrupted"),
        pytest.param(
            recording(mixed(100, 0), footer(interrupted=True, workers=3, lost_workers=(1,))),
            "lost 1 of 3 workers (number 1)",
            id="a worker was lost",
        ),
        pytest.param(
            recording(mixed(100, 0), footer(loop_lag=LATE)), "read answers late: p99 30 ms, allowed 25", id="loop"
        ),
        pytest.param(recording([request(i, lag=0.03) for i in range(100)]), "sent requests late", id="send"),
        pytest.param(
            recording([*mixed(100, 0), request(100, error="client_error")]), "could not send", id="descriptors"
        ),
    ],
)
@pytest.mark.parametrize("threshold", [0.25, 0.01])
def test_a_client_in_doubt_decides_nothing(run: Recording, doubt: str, threshold: float) -> None:
    """Neither PASS nor FAIL, whatever the SLOs say (at 10 ms all would fail)."""
    verdict = judge(spec(LatencySli(catalog.TTFT, threshold)), run)
    assert verdict.outcome is INCONCLUSIVE
    assert any(doubt.split(",")[0] in found for found in verdict.doubts)


@pytest.mark.parametrize(
    ("threshold", "lag", "outcome"), [(0.25, 0.024, PASS), (0.25, 0.026, INCONCLUSIVE), (0.5, 0.026, PASS)]
)
def test_how_late_a_client_may_be_follows_the_tightest_threshold(
    threshold: float, lag: float, outcome: Outcome
) -> None:
    """A tenth of it, as documented."""
    end = footer(loop_lag=Lag(p50=0, p99=lag, max=lag))
    assert judge(spec(LatencySli(catalog.TTFT, threshold)), recording(mixed(100, 0), end)).outcome is outcome


def test_gaps_allow_a_reader_less_lag() -> None:
    """30 ms late is little for a TTFT of 500 ms and all for a gap of 50 ms; requests may be sent that late."""
    late, gaps = footer(loop_lag=Lag(p50=0, p99=0.030, max=0.03)), ItlSli(0.05)
    slow = LatencySli(catalog.TTFT, 0.5)
    assert judge(spec(slow), recording(mixed(100, 0), late)).outcome is PASS
    assert "read answers late: p99 30 ms, allowed 10 ms" in judge(spec(slow, gaps), recording([], late)).doubts[0]
    assert judge(spec(slow, gaps), recording([request(i, lag=0.03) for i in range(100)])).doubts == ()


@pytest.mark.parametrize(
    ("error", "slis", "outcome"),
    [
        ("timeout", (TTFT,), INCONCLUSIVE),
        ("timeout", (TTFT, AvailabilitySli()), FAIL),
        ("http_429", (TTFT, AvailabilitySli()), INCONCLUSIVE),
        ("cancelled", (TTFT, AvailabilitySli()), PASS),
    ],
)
def test_failures_that_no_slo_counts_do_not_vanish(error: str, slis: Sequence[Sli], outcome: Outcome) -> None:
    """A third of the requests fails and the rest is fast: not green unless an SLO has looked at the failures."""
    records = [request(i, error=error if i % 3 == 0 else None) for i in range(300)]  # type: ignore[arg-type]
    verdict = judge(spec(*slis), recording(records))
    assert verdict.outcome is outcome
    assert ("coverage" in [check.name for check in verdict.checks]) == (outcome is INCONCLUSIVE)


def test_an_empty_run_is_inconclusive() -> None:
    """Nothing was measured, nothing is promised."""
    assert judge(spec(TTFT, AvailabilitySli()), recording([])).outcome is INCONCLUSIVE


BEFORE = from_recording(recording([request(i, ttft=0.1 + i % 7 / 1000) for i in range(200)]), "none")


@pytest.mark.parametrize(
    ("ttft", "tpot", "outcome"),
    [(0.1, 0.02, PASS), (0.08, 0.01, PASS), (0.15, 0.02, FAIL), (0.1, 0.03, FAIL), (0.103, 0.02, PASS)],
)
def test_worse_than_the_baseline_fails(ttft: float, tpot: float, outcome: Outcome) -> None:
    """Medians more than 5 % worse fail a run that meets its SLO; better or a little worse does not."""
    now = recording([request(i, ttft=ttft + i % 7 / 1000, tpot=tpot) for i in range(200)])
    assert judge(spec(TTFT), now, baselines=[BEFORE]).outcome is outcome


def test_lost_throughput_fails() -> None:
    """Half of the answers missing halves the tokens per second."""
    now = recording([request(i, error="timeout" if i % 2 else None) for i in range(200)])
    checks = judge(spec(TTFT), now, baselines=[BEFORE]).checks
    assert {check.name: check.outcome for check in checks}["baseline output tokens/s"] is FAIL


def test_noise_is_inconclusive_not_red() -> None:
    """Thirty requests whose median drifts could be chance: the bound decides, not the point."""
    before, now = (recording([request(i, ttft=low + i * 0.02) for i in range(30)]) for low in (0.06, 0.074))
    verdict = judge(spec(AvailabilitySli(), objective=0.6), now, baselines=[from_recording(before, "none")])
    assert {check.name: check.outcome for check in verdict.checks}["baseline TTFT p50"] is INCONCLUSIVE
    assert verdict.outcome is INCONCLUSIVE


def test_another_machine_is_not_compared() -> None:
    """Other GPU, simulated against real: inconclusive with both values, while a failed SLO still fails."""
    now = recording(mixed(100, 0))
    other = Fingerprint(model="tiny", gpus=("H100",), simulated=True)
    moved = type(BEFORE)(**{**{name: getattr(BEFORE, name) for name in BEFORE.__slots__}, "fingerprint": other})
    verdict = judge(spec(TTFT), now, baselines=[moved])
    assert verdict.outcome is INCONCLUSIVE
    assert "other GPUs: H100 then, none now" in verdict.checks[-1].text
    assert "other simulated: True then, False now" in verdict.checks[-1].text
    assert judge(spec(TTFT), recording(mixed(50, 50)), baselines=[moved]).outcome is FAIL


def test_a_quiet_client_gives_no_doubt() -> None:
    """The default of these tests is honest, so every doubt above has its own cause."""
    assert QUIET.p99 < 0.01
    assert judge(spec(TTFT), recording(mixed(100, 0))).doubts == ()
