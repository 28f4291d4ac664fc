"""Faults: how they are written, what they do to the engine, and that a running simulator has them."""

import re
from dataclasses import replace
from math import inf

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulating import QUICK, Running, serving, until
from test_simulator_command import refused, simulate

from loadgen.simulator.faults import Fault, Faults, Kind, parse
from loadgen.simulator.model import Engine
from loadgen.simulator.virtual import drive, poisson

HEALTHY = replace(QUICK, jitter=0.0)
tenths = st.integers(1, 10_000).map(lambda n: n / 10)


@given(
    st.sampled_from([Kind.PREFILL, Kind.THROTTLE, Kind.KV, Kind.ERRORS, Kind.HANG]),
    st.integers(1, 100),
    st.one_of(st.just(0.0), tenths),
    st.one_of(st.just(inf), tenths),
)
def test_a_fault_reads_as_it_is_written(kind: Kind, percent: int, start: float, seconds: float) -> None:
    """parse(str(fault)) is the fault."""
    size = {Kind.HANG: 1.0, Kind.KV: percent / 100, Kind.ERRORS: percent / 100}.get(kind, 1 + percent / 10)
    fault = Fault(kind, size, start, seconds)
    assert parse(str(fault)) == fault


def test_the_short_forms() -> None:
    """Start and duration may be left out: at once, and until it is ended."""
    assert parse("hang") == Fault(Kind.HANG, 1.0, 0.0, inf)
    assert parse("kv=0.9") == Fault(Kind.KV, 0.9, 0.0, inf)
    assert parse("prefill=4+120") == Fault(Kind.PREFILL, 4.0, 0.0, 120.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no fault; write KIND[=SIZE][@START][+SECONDS]"),
        ("fire=2", "with a KIND of prefill, kv, hang, errors, throttle"),
        ("prefill=4@-1", "is no fault"),
        ("prefill=nan", "is no fault"),
        ("prefill=4@1e3", "is no fault"),
        ("prefill=4@60+120\n", "is no fault"),
        ("prefill=٤", "is no fault"),
        ("prefill", "takes a size"),
        ("hang=2", "hang takes no size"),
        ("prefill=1", "the factor must be more than 1"),
        ("errors=1.5", "the share must be more than 0 and at most 1"),
        ("kv=0", "the share must be more than 0"),
        ("hang@5+0", "it must last for more than 0 seconds"),
    ],
)
def test_nonsense_is_refused(text: str, said: str) -> None:
    """Each mistake is named, in one line."""
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def test_faults_come_and_go() -> None:
    """A fault is there from its start to its end; of two at a time the worse counts."""
    faults = Faults([parse("errors=0.2@10+20"), parse("errors=0.5@20+5")])
    assert [faults.size(Kind.ERRORS, now) for now in (9.9, 10, 20, 25, 30)] == [None, 0.2, 0.5, 0.2, None]
    faults.add(parse("hang@1"), now=40)
    assert (faults.size(Kind.HANG, 40.9), faults.size(Kind.HANG, 1e9)) == (None, 1)
    assert faults.texts(40) == ["hang@41"]
    faults.clear()
    assert faults.texts(0) == []


def test_slow_prefill_slows_prompts_only() -> None:
    """Time to the first token grows with the factor, the pace after it does not."""
    slow = replace(HEALTHY, prefill_token_seconds=10 * HEALTHY.prefill_token_seconds)
    assert Faults([parse("prefill=10")]).config(HEALTHY, 0) == slow
    (well,), (ill,) = (drive(Engine(c), poisson(1, 1, prompt_tokens=1000, max_tokens=5)) for c in (HEALTHY, slow))
    assert ill.timings().prefill > 5 * well.timings().prefill
    assert ill.timings().tpot == pytest.approx(well.timings().tpot)


def test_a_throttled_gpu_does_everything_slower_on_less_power() -> None:
    """Every phase takes the factor longer, and the work draws the less the lower the clock."""
    throttled = Faults([parse("throttle=4")]).config(HEALTHY, 0)
    engines = Engine(HEALTHY), Engine(throttled)
    (well,), (ill,) = (drive(e, poisson(1, 1, prompt_tokens=500, max_tokens=2000)) for e in engines)
    assert ill.timings().tpot == pytest.approx(4 * well.timings().tpot)
    assert ill.timings().prefill == pytest.approx(4 * well.timings().prefill)
    assert engines[1].gpu.read(ill.last_token).power_watts < engines[0].gpu.read(well.last_token).power_watts


def test_withheld_blocks_fill_the_cache_and_are_given_back() -> None:
    """What fitted before is pushed back and waits; once the blocks are back it is served."""
    engine = Engine(HEALTHY)
    requests = [engine.submit(0.0, 1000, 200) for _ in range(4)]
    now = engine.step(0.0).end
    engine.config = Faults([parse("kv=0.8")]).config(HEALTHY, now)
    for _ in range(150):
        now = engine.step(now).end
    assert engine.stats.preemptions
    assert engine.waiting
    assert 0.9 < engine.pool.usage <= 1
    engine.config = HEALTHY
    while engine.next_start() is not None:
        now = engine.step(now).end
    assert all(request.finished for request in requests)
    assert engine.pool.usage == 0


def complete(client: httpx.Client) -> httpx.Response:
    body = {"model": "sim", "prompt": "a", "max_tokens": 2, "ignore_eos": True}
    return client.post("/v1/completions", json=body)


def test_a_hang_ends_when_it_is_told_to(fresh: Running) -> None:
    """While it hangs nothing is answered, /health and /metrics are; afterwards the same request is served."""
    with fresh.client() as client:
        (hang,) = client.post("/faults", content="hang").json()
        assert hang.startswith("hang@")
        with pytest.raises(httpx.ReadTimeout):
            client.post("/v1/completions", json={"prompt": "a", "max_tokens": 1}, timeout=0.5)
        assert client.get("/health").status_code == 200
        assert fresh.engine.stats.generation_tokens == 0
        assert client.delete("/faults").json() == []
        assert complete(client).status_code == 200
        assert fresh.engine.stats.ttft.sum < 5


def test_errors_are_counted_as_errors(fresh: Running) -> None:
    """With a share of 1 every request is answered 500, marked as simulated, and counted as 5xx; faults are not."""
    with fresh.client() as client:
        client.post("/faults", content="errors=1")
        answers = [complete(client) for _ in range(5)]
        client.delete("/faults")
        answers.append(complete(client))
        page = client.get("/metrics").text
    assert [answer.status_code for answer in answers] == [500] * 5 + [200]
    assert "simulated" in answers[0].json()["error"]["message"]
    assert 'http_requests_total{handler="/v1/completions",method="POST",status="5xx"} 5.0' in page
    assert "/faults" not in page


def test_dcgm_shows_heat(fresh: Running) -> None:
    """A throttled GPU's page says why (the bit of hw_thermal), a lower clock and heat; a healthy one's does not."""
    with fresh.client() as client:
        pages = [client.get("/dcgm/metrics").text]
        client.post("/faults", content="throttle=3")
        pages.append(client.get("/dcgm/metrics").text)
    for name, values in {
        "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS": ["0", "64"],
        "DCGM_FI_DEV_SM_CLOCK": ["1755", "585"],
        "DCGM_FI_DEV_GPU_TEMP": ["35", "92"],
    }.items():
        assert [re.findall(rf"^{name}{{.*}} (.*)$", page, re.MULTILINE) for page in pages] == [[v] for v in values]


def test_a_wrong_fault_is_refused_while_it_runs(simulator: Running) -> None:
    """400 with the mistake, and nothing goes wrong."""
    with simulator.client() as client:
        answer = client.post("/faults", content="prefill=0.5")
        assert answer.status_code == 400
        assert "must be more than 1" in answer.json()["error"]["message"]
        assert client.post("/faults", content=b"\xff").status_code == 400
        assert client.get("/faults").json() == []


def test_the_command_takes_faults() -> None:
    """--fault may be repeated; what is no fault is refused with exit 2."""
    with simulate("--fault", "prefill=4@60+120", "--fault", "hang@300") as (_, url):
        assert httpx.get(f"{url}/faults", trust_env=False).json() == ["prefill=4@60+120", "hang@300"]
    assert "argument --fault: 'fire' is no fault" in refused("--fault", "fire")


def test_a_fault_begins_at_its_start() -> None:
    """A planned error is not there before its time and is there after it."""
    with serving() as running, running.client() as client:
        client.post("/faults", content="errors=1@0.5")
        assert complete(client).status_code == 200
        until(lambda: complete(client).status_code == 500)
