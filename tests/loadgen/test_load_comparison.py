"""Runs against runs: alarms as rare as stated, changes found as small as printed, and noise that is known as noise.

The ground truth is a queue with one server: waits follow each other (Lindley's recursion), as TTFT does under load.
"""

import random
from collections import Counter
from dataclasses import replace

import pytest
from load_header import header

from loadgen.judging.comparison import FALSE_ALARMS, Comparison, compare
from loadgen.judging.regression import Outcome, mean_spread, quantile_spread
from loadgen.results.baseline import Baseline
from loadgen.results.record import Fingerprint
from loadgen.results.summary import Summary
from loadgen.traffic.arrivals import Load

LOAD = Load(rate=10.0, arrivals="poisson", requests=600)


def run(noise: int, *, schedule: int = 0, slow: float = 1.0, utilization: float = 0.5, number: int = 600) -> Baseline:
    """A run of a queue: `schedule` seeds its arrivals, `noise` its service times, `slow` stretches them."""
    gaps, services = random.Random(f"gaps {schedule}"), random.Random(f"services {noise}")
    wait, ttft = 0.0, []
    for _ in range(number):
        service = slow * utilization / LOAD.rate * services.lognormvariate(-0.02, 0.2)
        ttft.append(wait + service)
        wait = max(0.0, wait + service - gaps.expovariate(LOAD.rate))
    top = header(LOAD, seed=schedule)
    return Baseline(
        started_unix_ns=0,
        fingerprint=top.fingerprint,
        workload=top.workload,
        load=top.load,
        client=top.client,
        summary=Summary(requests=number),
        ttft=tuple(ttft),
        steady="none",
    )


def failed(comparison: Comparison) -> bool:
    return any(change.outcome is Outcome.FAIL for change in comparison.changes)


@pytest.mark.parametrize("paired", [True, False])
def test_an_unchanged_service_seldom_fails(paired: bool) -> None:
    """300 pairs at the smallest minimum effect there is: alarms at the stated rate at most, and by three errors."""
    alarms = sum(
        failed(compare([run(2 * i, schedule=2 * i)], [run(2 * i + 1, schedule=2 * i + 1 - paired)], 1e-9))
        for i in range(300)
    )
    assert alarms <= 300 * FALSE_ALARMS + 3 * (300 * FALSE_ALARMS * 0.95) ** 0.5
    assert FALSE_ALARMS == 0.05


def test_ten_percent_slower_is_found() -> None:
    """100 pairs on one schedule, 600 requests at half load: TTFT p50 fails in at least the stated 80 of 100."""
    found = [compare([run(2 * i, schedule=i)], [run(2 * i + 1, schedule=i, slow=1.1)]).changes[0] for i in range(100)]
    assert {change.name for change in found} == {"TTFT p50"}
    assert sum(change.outcome is Outcome.FAIL for change in found) >= 80


@pytest.mark.parametrize("paired", [True, False])
def test_the_printed_change_is_found_four_times_of_five(paired: bool) -> None:
    """Values stretched by exactly what the comparison says it would find: found in 80 of 100, give or take."""
    hits = 0
    for i in range(100):
        old, new = run(2 * i, schedule=2 * i), run(2 * i + 1, schedule=2 * i + 1 - paired)
        stretch = 1 + compare([old], [new]).changes[0].detectable
        worse = replace(new, ttft=tuple(value * stretch for value in new.ttft))
        hits += compare([old], [worse]).changes[0].outcome is Outcome.FAIL
    assert hits >= 72


def test_a_schedule_that_is_the_same_finds_smaller_changes() -> None:
    """What the schedule does to both runs cancels."""
    alone, together = (compare([run(0)], [run(1, schedule=seed)]) for seed in (1, 0))
    assert (alone.paired, together.paired) == (False, True)
    assert together.changes[0].detectable < 0.7 * alone.changes[0].detectable


def test_noise_from_run_to_run_needs_several_runs_to_be_seen() -> None:
    """Each run is slower or faster by 8 % as a whole: one run each cries wolf, four runs each do not."""
    rng = random.Random(3)

    def side(runs: int, first: int) -> list[Baseline]:
        return [run(first + i, slow=rng.lognormvariate(0, 0.08), utilization=0.3) for i in range(runs)]

    alarms = Counter(
        runs for i in range(60) for runs in (1, 4) if failed(compare(side(runs, 100 * i), side(runs, 100 * i + 50)))
    )
    assert alarms[4] <= 6
    assert alarms[1] > 12


def test_one_odd_baseline_of_three_does_not_decide() -> None:
    """The median of the runs counts: an odd one widens the bounds, and moves nothing."""
    odd = run(2, slow=3.0)
    change = compare([run(0), run(1), odd], [run(3)]).changes[0]
    assert change.value == pytest.approx(1, abs=0.1)
    assert change.outcome is not Outcome.FAIL


def test_too_few_requests_give_no_figure() -> None:
    """Thirty values have a median and no p99; none have nothing."""
    few = compare([run(0, number=30)], [run(1, number=30)])
    assert "TTFT p99" in few.too_few
    assert "TTFT p50" in {change.name for change in few.changes}
    assert compare([run(0)], [replace(run(1), ttft=())]).changes == ()
    assert quantile_spread([], 0.5) is None
    assert quantile_spread([0.0] * 99, 0.5) is None
    assert mean_spread([0.0] * 20) is None


def test_one_answer_in_one_read_hides_no_figure() -> None:
    """Its TPOT is 0, which has no logarithm; the median of a thousand others has one."""
    others = [0.02 + i % 7 / 1000 for i in range(999)]
    assert quantile_spread([*others, 0.0], 0.5) == quantile_spread([*others, 0.001], 0.5)


def test_what_differs_is_said_once() -> None:
    """Model, GPUs, lengths, load: each with both values, whichever of the runs differs."""
    other = replace(run(1), fingerprint=Fingerprint(model="huge", gpus=("H100",)), load=Load(rate=3.0))
    problems = compare([run(0), other], [run(2)]).problems
    assert "other model: tiny then, huge now" in problems
    assert "other GPUs: none then, H100 now" in problems
    assert len(problems) == len(set(problems)) == 3


def test_a_baseline_without_its_order_is_not_compared() -> None:
    """Older files hold sorted values, which look like a service that gets ever slower."""
    assert "older release" in compare([replace(run(0), steady=None)], [run(1)]).problems[-1]


def test_a_comparison_repeats_itself() -> None:
    """A gate must not flicker."""
    assert compare([run(0)], [run(1)]) == compare([run(0)], [run(1)])
