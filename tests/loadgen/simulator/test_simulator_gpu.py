"""The simulated GPU: power and energy follow from the steps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.simulator.gpu import IDLE_WATTS, POWER_LIMIT_WATTS, GpuMeter, Load

share = st.floats(0, 1)


def test_an_idle_gpu_draws_idle_power() -> None:
    """Without work nothing is active and energy grows by idle power alone, after work too."""
    meter = GpuMeter()
    meter.record(Load(0.0, 0.5, 1.0, 0.0))
    early, late = meter.read(10.0), meter.read(20.0)
    assert (late.utilization, late.power_watts, late.tensor_active, late.dram_active) == (0.0, IDLE_WATTS, 0.0, 0.0)
    assert late.energy_joules - early.energy_joules == pytest.approx(10 * IDLE_WATTS)


@given(st.lists(st.tuples(st.floats(0, 0.5), st.floats(0.001, 0.5), share, share), max_size=30))
def test_energy_lies_between_idle_and_the_limit(steps: list[tuple[float, float, float, float]]) -> None:
    """Whatever the load: energy never falls, and mean power stays between idle and the limit."""
    meter, now, before = GpuMeter(), 0.0, 0.0
    for pause, seconds, prefill, batch in steps:
        now += pause + seconds
        meter.record(Load(now - seconds, now, prefill, batch))
        state = meter.read(now)
        assert state.energy_joules >= before
        assert IDLE_WATTS * now <= state.energy_joules + 1e-6
        assert state.energy_joules <= POWER_LIMIT_WATTS * now + 1e-6
        assert IDLE_WATTS - 1e-6 <= state.power_watts <= POWER_LIMIT_WATTS + 1e-6
        assert all(0 <= ratio <= 1 + 1e-9 for ratio in (state.utilization, state.tensor_active, state.dram_active))
        before = state.energy_joules


def test_power_is_energy_over_time() -> None:
    """Under a steady load the power shown is the slope of the energy."""
    meter = GpuMeter()
    for step in range(300):
        meter.record(Load(step / 100, step / 100 + 0.01, 0.3, 0.5))
        if step == 199:
            before = meter.read(2.0)
    after = meter.read(3.0)
    assert after.energy_joules - before.energy_joules == pytest.approx(after.power_watts)
    assert after.utilization == pytest.approx(1.0)


def test_prefill_is_compute_and_decode_is_memory() -> None:
    """Prompts light up the tensor cores, decoding the memory."""
    prefill, decode = GpuMeter(), GpuMeter()
    prefill.record(Load(0.0, 1.0, 1.0, 0.0))
    decode.record(Load(0.0, 1.0, 0.0, 1.0))
    assert prefill.read(1.0).tensor_active > decode.read(1.0).tensor_active
    assert prefill.read(1.0).dram_active < decode.read(1.0).dram_active
