"""The schedules of open loops: rates and gaps as claimed, ramps without seams, traces at their speed."""

import itertools
import math
from statistics import fmean, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.traffic.arrivals import NS, Load, even, paced, parse_stages, uneven, until

N = 20_000


def gaps(offsets: "itertools.islice[int]") -> list[float]:
    return [(after - before) / NS for before, after in itertools.pairwise(offsets)]


@pytest.mark.parametrize(
    ("schedule", "cv"),
    [
        pytest.param(paced(uneven(1.0, seed=1), 50), 1.0, id="poisson"),
        pytest.param(paced(uneven(0.25, seed=1), 50), 2.0, id="bursty"),
        pytest.param(paced(uneven(4.0, seed=1), 50), 0.5, id="smooth"),
        pytest.param(paced(even(), 50), 0.0, id="constant"),
    ],
)
def test_schedules_have_the_rate_and_the_variation_they_claim(schedule: "itertools.count[int]", cv: float) -> None:
    """20 000 gaps: mean within four standard errors of 1/rate, coefficient of variation as documented."""
    found = gaps(itertools.islice(schedule, N))
    assert fmean(found) == pytest.approx(1 / 50, rel=4 * cv / math.sqrt(N) + 1e-6)
    assert pstdev(found) / fmean(found) == pytest.approx(cv, rel=0.1, abs=1e-6)


def test_poisson_counts_are_those_of_independent_users() -> None:
    """Arrivals per second have variance equal to their mean, which only Poisson arrivals do."""
    seconds = [0] * 400
    for offset in until(paced(uneven(1.0, seed=3), 50), duration=400):
        seconds[offset // NS] += 1
    assert fmean(seconds) == pytest.approx(50, rel=0.04)
    assert pstdev(seconds) ** 2 == pytest.approx(50, rel=0.25)


def test_a_constant_schedule_does_not_drift() -> None:
    """After a million requests at a rate that is no whole number of nanoseconds the offset is still exact."""
    assert next(itertools.islice(paced(even(), 3), 1_000_000, None)) == pytest.approx(1_000_000 * NS / 3, abs=1)


@given(st.floats(0.01, 1e5), st.floats(0.05, 100), st.integers(), st.integers(1, 200))
def test_offsets_never_go_back_and_a_seed_repeats_them(rate: float, burst: float, seed: int, number: int) -> None:
    """Any rate, burstiness and seed: offsets rise, there are as many as asked, and twice the same."""
    load = Load(rate=rate, arrivals="gamma", burstiness=burst, requests=number)
    offsets = list(load.offsets(seed))
    assert len(offsets) == number
    assert offsets == sorted(offsets)
    assert offsets[0] >= 0
    assert offsets == list(load.offsets(seed))


def test_a_duration_ends_the_schedule_and_seeds_differ() -> None:
    """All offsets lie before the end; another seed gives another schedule."""
    load = Load(rate=100, arrivals="poisson", duration=2.0)
    offsets = list(load.offsets(1))
    assert 150 < len(offsets) < 250
    assert offsets[-1] < 2 * NS
    assert offsets != list(load.offsets(2))


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("10:60", [(10, 10, 60)]),
        ("1..10:60", [(1, 10, 60)]),
        ("0..5:2.5,5:10", [(0, 5, 2.5), (5, 5, 10)]),
        ("1..10/4:60", [(1, 1, 60), (4, 4, 60), (7, 7, 60), (10, 10, 60)]),
    ],
)
def test_stages_are_written_short(text: str, rates: list[tuple[float, float, float]]) -> None:
    """A level, a ramp, a ramp and a level, and a sweep."""
    assert [(stage.start, stage.end, stage.seconds) for stage in parse_stages(text)] == rates


@pytest.mark.parametrize("text", ["", "10", "0:5", "10:0", "-1..5:3", "1..2/1:5", "nan:3", "1..:5", "5:5,"])
def test_stages_that_are_none_are_refused(text: str) -> None:
    """The message shows how to write one."""
    with pytest.raises(ValueError, match="is no stage"):
        parse_stages(text)


@pytest.mark.parametrize("arrivals", ["constant", "poisson"])
def test_a_ramp_has_the_rate_of_every_moment(arrivals: str) -> None:
    """0 to 100/s over 200 s: each tenth has its share of the 10 000 arrivals, exactly or to four standard errors."""
    load = Load(rate=50, arrivals=arrivals, stages="0..100:200")  # type: ignore[arg-type]
    tenths = [0] * 10
    for offset in load.offsets(2):
        tenths[offset // (20 * NS)] += 1
    for i, number in enumerate(tenths):
        expected = 100 * (2 * i + 1)
        assert number == pytest.approx(expected, abs=1 if arrivals == "constant" else 4 * math.sqrt(expected))


def test_steps_follow_each_other_without_a_seam() -> None:
    """A constant schedule of two levels: gaps of 0.1 s, then of 0.05 s, and the end where the stages end."""
    offsets = list(Load(rate=15, arrivals="constant", stages="10:2,20:1").offsets(0))
    assert len(offsets) == 40
    assert offsets[-1] < 3 * NS
    assert {round(gap, 6) for gap in gaps(iter(offsets))} == {0.1, 0.05}  # type: ignore[arg-type]


def test_a_trace_is_replayed_at_its_speed() -> None:
    """Twice as fast halves every offset; the end of a duration counts in real seconds."""
    load = Load(rate=1, arrivals="trace", trace="t", speed=2.0, duration=1.5)
    assert list(load.offsets(0, [0, NS, 2 * NS, 4 * NS])) == [0, NS // 2, NS]


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0.1, 50), st.floats(0.1, 5)), min_size=1, max_size=4))
def test_any_stages_rise_and_end(parts: list[tuple[float, float, float]]) -> None:
    """Whatever the stages: offsets rise, lie within them, and are as many as the integral of the rate."""
    text = ",".join(f"{start:.3f}..{end:.3f}:{seconds:.3f}" for start, end, seconds in parts)
    stages = parse_stages(text)
    offsets = list(Load(rate=1, arrivals="constant", stages=text).offsets(0))
    assert offsets == sorted(offsets)
    assert all(offset <= sum(stage.seconds for stage in stages) * NS + 1 for offset in offsets)
    assert len(offsets) == pytest.approx(sum(stage.arrivals for stage in stages), abs=1.001)
