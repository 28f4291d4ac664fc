"""The steady part of a run: cut by schedule and by MSER-5, never by what suits."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from load_records import RATE, recording, request

from loadgen.results.record import RequestRecord
from loadgen.results.steady import Rule, settles, steady


def warming(cold: int, number: int = 400) -> list[RequestRecord]:
    """A run whose first `cold` requests wait ten times as long."""
    rng = random.Random(1)
    return [request(i, ttft=(1.0 if i < cold else 0.1) * rng.uniform(0.8, 1.2)) for i in range(number)]


def test_a_slow_start_is_cut() -> None:
    """The first 40 requests wait for a cold engine: they go, and of the steady rest nothing but one answer's time."""
    kept, cut = steady(recording(warming(40)))
    assert 40 <= cut.before <= 60
    assert max(record.ttft or 0 for record in kept.records) < 0.2
    assert cut.after == pytest.approx(0.4 * RATE, abs=1)  # an answer takes 0.1 + 15 x 0.02 s


def test_a_service_that_degrades_is_not_cut_to_look_well() -> None:
    """What gets slow towards the end is no cool-down: only the last answer's time goes."""
    records = [request(i, ttft=0.1 if i < 300 else 1.0) for i in range(400)]
    kept, cut = steady(recording(records))
    assert sum((record.ttft or 0) > 0.5 for record in kept.records) > 80
    assert cut.before <= 0.4 * RATE + 1


@pytest.mark.parametrize("rule", ["none", "auto", 0.5, 100.0])
def test_what_is_cut_is_told(rule: Rule) -> None:
    """Kept and cut requests add up, also when nothing is left; failures among the cut are counted."""
    run = recording([request(i, error="timeout" if i < 3 else None) for i in range(200)])
    kept, cut = steady(run, rule)
    assert len(kept.records) + cut.before + cut.after == 200
    assert cut.failed == (0 if rule == "none" else 3)
    assert ("3 of them failed" in str(cut)) == (rule != "none")


def test_a_short_run_is_left_alone() -> None:
    """Ten requests of answers longer than the run: nothing to cut, and no run at all neither."""
    for number in (0, 1, 10):
        kept, cut = steady(recording([request(i, ttft=5.0) for i in range(number)]))
        assert (len(kept.records), cut.before, cut.after) == (number, 0, 0)
        assert "nothing cut" in str(cut)


@given(st.lists(st.floats(0, 1e3), max_size=300))
def test_at_most_a_quarter_is_warm_up(values: list[float]) -> None:
    """Whatever the values."""
    assert 0 <= settles(values) <= len(values) / 4


def test_a_level_series_keeps_most() -> None:
    """Of independent values MSER-5 drops few on average: 100 runs, less than a tenth."""
    rng = random.Random(2)
    cuts = [settles([rng.lognormvariate(0, 0.3) for _ in range(400)]) for _ in range(100)]
    assert sum(cuts) / len(cuts) < 40
