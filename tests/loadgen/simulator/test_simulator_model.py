"""The queueing model keeps its laws whatever the configuration: nothing lost or over-allocated, all repeatable."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.simulator.model import POSITIVE, Engine, EngineConfig, Request
from loadgen.simulator.tokens import tokenize
from loadgen.simulator.virtual import Arrival, drive, poisson

SMALL = EngineConfig(max_model_len=64, kv_blocks=16, block_size=4, max_num_seqs=4, max_num_batched_tokens=16)


@st.composite
def configs(draw: st.DrawFn) -> EngineConfig:
    block_size = draw(st.sampled_from([1, 4, 16]))
    return EngineConfig(
        max_model_len=64,
        block_size=block_size,
        kv_blocks=draw(st.integers(64 // block_size, 200)),
        max_num_seqs=draw(st.integers(1, 8)),
        max_num_batched_tokens=draw(st.integers(1, 80)),
        mean_output_tokens=8.0,
    )


@st.composite
def loads(draw: st.DrawFn) -> list[Arrival]:
    times = sorted(draw(st.lists(st.floats(0, 0.3), min_size=1, max_size=20)))
    arrivals = []
    for time in times:
        prompt = draw(st.integers(1, 40))
        hashes = tuple((draw(st.integers(0, 1)), block) for block in range(prompt))
        arrivals.append(
            Arrival(
                time=time,
                prompt_tokens=prompt,
                max_tokens=draw(st.integers(1, 24)),
                ignore_eos=draw(st.booleans()),
                block_hashes=tuple(map(hash, hashes)) if draw(st.booleans()) else (),
            )
        )
    return arrivals


def hashed(arrival: Arrival, block_size: int) -> Arrival:
    """The arrival with as many block hashes as its prompt has full blocks."""
    return replace(arrival, block_hashes=arrival.block_hashes[: arrival.prompt_tokens // block_size])


def check_pool(engine: Engine, requests: list[Request]) -> None:
    """Every block in use is held by a request that waits or runs, and counted once."""
    shared = {block for request in requests for block in request.lease.shared}
    assert engine.pool.used == len(shared) + sum(request.lease.private for request in requests)
    assert engine.pool.used <= engine.pool.total
    for request in engine.running:
        assert request.lease.blocks * engine.config.block_size >= request.computed


@settings(max_examples=60, deadline=None)
@given(configs(), loads(), st.integers(0, 3))
def test_every_request_gets_exactly_its_tokens(config: EngineConfig, load: list[Arrival], seed: int) -> None:
    """Whatever the limits: no request is lost, no token comes early, blocks balance and are free at the end."""
    engine = Engine(config, seed)
    requests = [
        engine.submit(a.time, a.prompt_tokens, a.max_tokens, ignore_eos=a.ignore_eos, block_hashes=a.block_hashes)
        for a in (hashed(a, config.block_size) for a in load)
    ]
    end = 0.0
    while (start := engine.next_start()) is not None:
        assert start >= end
        end = engine.step(start).end
        assert len(engine.running) <= config.max_num_seqs
        check_pool(engine, requests)
    assert engine.pool.used == 0
    assert all(request.finished and request.arrival <= request.scheduled < request.first_token for request in requests)
    assert sum(request.generated for request in requests) == engine.stats.generation_tokens
    assert sum(request.prompt_tokens for request in requests) == engine.stats.prompt_tokens
    assert engine.stats.finished.total() == engine.stats.ttft.count == len(requests)
    assert all(a.max_tokens == r.generated for a, r in zip(load, requests, strict=True) if a.ignore_eos)


@settings(max_examples=40, deadline=None)
@given(configs(), loads(), st.integers(0, 99))
def test_aborted_requests_leave_nothing_behind(config: EngineConfig, load: list[Arrival], seed: int) -> None:
    """Clients that go at any moment, in the middle of a step too, free their blocks and count nowhere as finished."""
    engine, rng = Engine(config), random.Random(seed)
    requests = [engine.submit(a.time, a.prompt_tokens, a.max_tokens) for a in load]
    while (start := engine.next_start()) is not None:
        step = engine.schedule(start)
        for request in requests:
            if rng.random() < 0.05:
                engine.abort(request)
        assert not any(request.aborted for request in engine.complete(step))
        check_pool(engine, requests)
    assert engine.pool.used == 0
    assert engine.stats.finished.total() == sum(request.finished for request in requests)
    assert all(request.finished != request.aborted for request in requests)
    assert engine.stats.generation_tokens == sum(request.generated for request in requests)


def test_the_phases_of_a_request_add_up() -> None:
    """queue + prefill = TTFT, and TTFT + decode = e2e, for every request."""
    for request in drive(Engine(EngineConfig()), poisson(30, 300, prompt_tokens=600, max_tokens=40)):
        timings = request.timings()
        assert timings.queue + timings.prefill == pytest.approx(timings.ttft)
        assert timings.ttft + timings.decode == pytest.approx(timings.e2e)
        assert timings.queue + timings.inference == pytest.approx(timings.e2e)
        assert timings.tpot * 39 == pytest.approx(timings.decode)


def test_histograms_hold_what_the_requests_saw() -> None:
    """Counts and sums of the histograms are those of the requests' own timings."""
    engine = Engine(EngineConfig())
    timings = [request.timings() for request in drive(engine, poisson(20, 200, prompt_tokens=500, max_tokens=20))]
    stats = engine.stats
    assert stats.ttft.sum == pytest.approx(sum(t.ttft for t in timings))
    assert stats.itl.sum == pytest.approx(sum(t.decode for t in timings))
    assert stats.itl.count == 200 * 19
    buckets = dict(stats.ttft.cumulative())
    assert buckets["0.04"] == sum(t.ttft <= 0.04 for t in timings)
    assert buckets["+Inf"] == 200


def test_a_value_on_an_edge_belongs_to_its_bucket() -> None:
    """`le` means less than or equal."""
    stats = Engine(EngineConfig()).stats
    stats.ttft.observe(0.25)
    assert dict(stats.ttft.cumulative())["0.25"] == 1


def test_the_same_seed_gives_the_same_numbers() -> None:
    """Two runs agree to the last bit, another seed does not."""

    def run(seed: int) -> list[float]:
        load = [replace(a, ignore_eos=False) for a in poisson(20, 100, prompt_tokens=300, max_tokens=200, seed=seed)]
        return [request.timings().e2e for request in drive(Engine(EngineConfig(), seed), load)]

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_queueing_grows_with_load() -> None:
    """Mean TTFT and TPOT rise from an idle engine to an overloaded one, where the queue dominates."""

    def means(rate: float) -> tuple[float, float]:
        timings = [
            r.timings() for r in drive(Engine(EngineConfig()), poisson(rate, 300, prompt_tokens=512, max_tokens=128))
        ]
        return sum(t.ttft for t in timings) / 300, sum(t.tpot for t in timings) / 300

    (idle, slow), (busy, slower), (over, slowest) = means(1), means(20), means(60)
    assert idle < busy < over / 10
    assert slow < slower < slowest


def test_defaults_meet_a_chat_slo_at_moderate_load() -> None:
    """The demo's premise: at 10 requests a second p99 TTFT is under 250 ms and p99 TPOT under 25 ms."""
    timings = [r.timings() for r in drive(Engine(EngineConfig()), poisson(10, 500, prompt_tokens=512, max_tokens=128))]
    assert sorted(t.ttft for t in timings)[494] < 0.25
    assert sorted(t.tpot for t in timings)[494] < 0.025


def test_scarce_blocks_preempt_the_youngest_and_all_finish() -> None:
    """With room for one long request only, others are pushed back, computed again, and still get all their tokens."""
    engine = Engine(SMALL)
    requests = drive(engine, [Arrival(time=0.0, prompt_tokens=12, max_tokens=40) for _ in range(4)])
    assert engine.stats.preemptions > 0
    assert engine.stats.preemptions == sum(request.preemptions for request in requests)
    assert requests[0].preemptions == 0
    assert [request.generated for request in requests] == [40] * 4
    assert engine.stats.prompt_tokens == 48
    assert sorted(requests, key=lambda request: request.last_token) == requests


def test_a_step_that_preempts_admits_nobody() -> None:
    """Whoever was pushed back does not take the blocks again that the others have just got."""
    engine, preempting = Engine(replace(SMALL, max_num_batched_tokens=6)), 0
    for _ in range(4):
        engine.submit(0.0, 12, 40)
    while (start := engine.next_start()) is not None:
        waiting, before = set(engine.waiting), engine.stats.preemptions
        step = engine.step(start)
        if engine.stats.preemptions > before:
            preempting += 1
            assert {request for request, _ in step.work}.isdisjoint(waiting | set(engine.waiting))
            assert waiting < set(engine.waiting)
    assert preempting


def test_a_shared_prefix_is_computed_once() -> None:
    """The second prompt with the same beginning hits the cache in whole blocks, and its first token comes sooner."""
    engine, text = Engine(EngineConfig()), "a long system prompt, the same for all of them. " * 100
    first, second = (tokenize(text + question, 16) for question in ("why?", "what for?"))
    arrivals = [
        Arrival(time=time, prompt_tokens=prompt.tokens, max_tokens=4, block_hashes=prompt.block_hashes)
        for time, prompt in ((0.0, first), (1.0, second))
    ]
    cold, warm = drive(engine, arrivals)
    assert (cold.cached_tokens, warm.cached_tokens) == (0, 1200)
    assert warm.timings().ttft < cold.timings().ttft / 2
    assert engine.stats.prefix_hits == 1200
    assert engine.stats.prefill_computed_tokens.sum == first.tokens + second.tokens - 1200
    assert engine.stats.iteration_tokens.sum == first.tokens + second.tokens - 1200 + 8
    assert engine.stats.prefix_queries == first.tokens + second.tokens


def test_a_repeated_prompt_still_computes_its_last_block() -> None:
    """A prompt that is cached to its end computes one block: the answer comes out of the last token."""
    engine, prompt = Engine(EngineConfig()), tokenize("x" * 4 * 64, 16)
    arrivals = [Arrival(time=t, prompt_tokens=64, max_tokens=1, block_hashes=prompt.block_hashes) for t in (0.0, 1.0)]
    assert [request.cached_tokens for request in drive(engine, arrivals)] == [0, 48]


def test_a_long_prompt_is_computed_in_chunks_of_the_budget() -> None:
    """8000 prompt tokens under a budget of 2048 a step take four steps, the last of which brings the first token."""
    engine = Engine(EngineConfig(jitter=0.0))
    engine.submit(0.0, 8000, 1)
    steps = []
    while (start := engine.next_start()) is not None:
        steps.append(sum(tokens for _, tokens in engine.step(start).work))
    assert steps == [2048, 2048, 2048, 1856]


def test_decoding_goes_on_beside_a_long_prompt() -> None:
    """A running answer gets its token in every step while another's prompt is computed, only later."""
    engine = Engine(EngineConfig(jitter=0.0))
    running = engine.submit(0.0, 10, 100)
    engine.step(0.0)
    engine.submit(0.0, 20_000, 1)
    step = engine.step(engine.next_start() or 0.0)
    assert running.generated == 2
    assert step.end - step.load.start == pytest.approx(0.008 + 0.000_03 + 2047 / 25_000)


def test_answers_without_ignore_eos_end_by_themselves() -> None:
    """Lengths vary around the configured mean and finish with stop; the limit cuts the rest with length."""
    engine = Engine(EngineConfig(mean_output_tokens=50.0))
    load = [replace(a, ignore_eos=False) for a in poisson(20, 400, prompt_tokens=10, max_tokens=100)]
    requests = drive(engine, load)
    assert all(request.finish_reason == "stop" or request.generated == 100 for request in requests)
    assert 0 < engine.stats.finished["length"] < engine.stats.finished["stop"]
    assert 30 < sum(request.generated for request in requests) / 400 < 60


def test_an_end_at_the_very_limit_is_a_stop() -> None:
    """The end token may be the last one allowed."""
    (request,) = drive(
        Engine(EngineConfig(mean_output_tokens=1e-9)),
        [Arrival(time=0.0, prompt_tokens=1, max_tokens=1, ignore_eos=False)],
    )
    assert (request.generated, request.finish_reason) == (1, "stop")


@pytest.mark.parametrize(("prompt", "answer"), [(0, 1), (1, 0), (40, 25), (65, 1)])
def test_what_cannot_fit_is_refused(prompt: int, answer: int) -> None:
    """Empty or too long requests are refused at the door and leave no trace."""
    engine = Engine(SMALL)
    with pytest.raises(ValueError, match="at most 64"):
        engine.submit(0.0, prompt, answer)
    assert engine.next_start() is None


@pytest.mark.parametrize("field", POSITIVE)
def test_a_limit_of_zero_is_refused(field: str) -> None:
    """The error names the limit."""
    with pytest.raises(ValueError, match=f"{field} is 0"):
        replace(SMALL, **{field: 0})


def test_a_cache_smaller_than_one_context_is_refused() -> None:
    """Such an engine could never finish its longest request; the error says how many blocks it takes."""
    with pytest.raises(ValueError, match="at least 16 blocks"):
        replace(SMALL, kv_blocks=15)


def test_the_configuration_can_change_while_it_runs() -> None:
    """A slower engine from now on: what a fault or a throttled GPU looks like."""
    engine = Engine(replace(SMALL, jitter=0.0))
    engine.submit(0.0, 4, 10)
    first = engine.step(0.0)
    engine.config = replace(engine.config, step_seconds=1.0)
    second = engine.step(first.end)
    assert second.end - first.end > 1.0 > first.end
