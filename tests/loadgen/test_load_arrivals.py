"""The schedules of open loops, and the prompts they send."""

import itertools
import json
import math
from statistics import fmean, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.arrivals import NS, Load, constant, gamma, poisson, until
from loadgen.workload import Workload

N = 20_000


def gaps(offsets: "itertools.islice[int]") -> list[float]:
    return [(after - before) / NS for before, after in itertools.pairwise(offsets)]


@pytest.mark.parametrize(
    ("schedule", "cv"),
    [
        pytest.param(poisson(50, seed=1), 1.0, id="poisson"),
        pytest.param(gamma(50, 0.25, seed=1), 2.0, id="bursty"),
        pytest.param(gamma(50, 4.0, seed=1), 0.5, id="smooth"),
        pytest.param(constant(50), 0.0, id="constant"),
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
    for offset in until(poisson(50, seed=3), duration=400):
        seconds[offset // NS] += 1
    assert fmean(seconds) == pytest.approx(50, rel=0.04)
    assert pstdev(seconds) ** 2 == pytest.approx(50, rel=0.25)


def test_a_constant_schedule_does_not_drift() -> None:
    """After a million requests at a rate that is no whole number of nanoseconds the offset is still exact."""
    assert next(itertools.islice(constant(3), 1_000_000, None)) == pytest.approx(1_000_000 * NS / 3, abs=1)


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


def test_prompts_are_distinct_from_their_first_words_on() -> None:
    """No two prompts of a run, nor of two runs with the same seed, share the first word: no KV block is shared."""
    runs = [Workload(seed=1, salt=salt).requests("m") for salt in ("a", "b")]
    prompts = [spec.prompt for run in runs for spec in itertools.islice(run, 300)]
    assert len({prompt.split()[0] for prompt in prompts}) == 600


@pytest.mark.parametrize("tokens", [1, 8, 64, 5_000])
def test_prompts_are_about_as_long_as_asked(tokens: int) -> None:
    """One word for a token, the leading number standing for eight."""
    spec = next(Workload(prompt_tokens=tokens, salt="x").requests("m"))
    assert len(spec.prompt.split()) == max(1, tokens - 7)


def test_bodies_ask_for_exactly_the_tokens_and_for_usage() -> None:
    """Both endpoints: streamed, of a fixed length, with usage at the end; equal seeds give equal bytes."""
    workload = Workload(endpoint="chat", output_tokens=9, seed=5, salt="s")
    spec = next(workload.requests("m"))
    body = json.loads(spec.body)
    assert body["messages"] == [{"role": "user", "content": spec.prompt}]
    assert (body["model"], body["max_tokens"], body["ignore_eos"], body["stream"]) == ("m", 9, True, True)
    assert body["stream_options"] == {"include_usage": True}
    assert spec == next(workload.requests("m"))
    completion = json.loads(next(Workload(endpoint="completions").requests("m")).body)
    assert isinstance(completion["prompt"], str)
    assert "messages" not in completion
