"""GPU-seconds and cost: what accrues when, and what never shrinks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.gpus.economics import Ledger, Price, price
from exporters.join import engine_gpus
from exporters.model import GpuReading

A, B = GpuReading(uuid="GPU-a", index="0"), GpuReading(uuid="GPU-b", index="1")


def seconds(ledger: Ledger) -> dict[str, float]:
    return {usage.uuid: usage.seconds for usage in ledger.usage()}


def test_time_between_two_readings_counts_for_gpus_in_both() -> None:
    """From the first sight on; not while a GPU was missing from a reading; a reading that failed leaves no gap."""
    ledger = Ledger()
    assert ledger.usage() == ()
    ledger.see([A, B], 100)
    assert seconds(ledger) == {"GPU-a": 0, "GPU-b": 0}
    ledger.see([A, B], 160)
    ledger.see([A], 200)  # B is lost
    ledger.see([A, B], 300)
    ledger.see([A, B], 4000)  # nothing could be read in between
    assert seconds(ledger) == {"GPU-a": 3900, "GPU-b": 60 + 3700}


def test_cost_is_time_at_the_price() -> None:
    """An hour costs the price of an hour, in its currency; without a price there is no cost."""
    ledger = Ledger(Price(2.5, "EUR"))
    ledger.see([A], 0)
    ledger.see([A], 7200)
    (usage,) = ledger.usage()
    assert (usage.cost, usage.currency) == (5.0, "EUR")
    assert Ledger().usage() == ()


def test_instances_count_in_place_of_their_board() -> None:
    """Two MIG instances are two times the time, their board none: neither time nor energy is counted twice."""
    board = GpuReading(uuid="GPU-a", index="0")
    cut = [GpuReading(uuid=f"MIG-{n}", index=f"0:{n}", parent="GPU-a") for n in (0, 1)]
    ledger = Ledger()
    for now in (0, 10):
        ledger.see([board, *cut], now)
    assert seconds(ledger) == {"MIG-0": 10, "MIG-1": 10}
    assert list(engine_gpus(["m"], [board, *cut])) == [("m", "MIG-0"), ("m", "MIG-1")]


@given(st.lists(st.tuples(st.floats(-1e3, 1e6), st.sets(st.sampled_from(["a", "b", "c"])))))
def test_counters_never_shrink(readings: list[tuple[float, set[str]]]) -> None:
    """Whatever GPUs come and go, and whatever the clock does, no counter goes back or away."""
    ledger, before = Ledger(Price(1.0)), dict[str, float]()
    for now, uuids in readings:
        ledger.see([GpuReading(uuid=uuid, index="0") for uuid in uuids], now)
        after = seconds(ledger)
        assert all(after[uuid] >= value for uuid, value in before.items())
        assert uuids <= after.keys()
        before = after


@pytest.mark.parametrize(
    ("text", "parsed"),
    [("2.50", Price(2.5)), ("3", Price(3.0)), ("2.50EUR", Price(2.5, "EUR")), (" 0.9 GBP ", Price(0.9, "GBP"))],
)
def test_prices(text: str, parsed: Price) -> None:
    """A number, with a currency or in dollars."""
    assert price(text) == parsed


@pytest.mark.parametrize("text", ["", "cheap", "-1", "1e3", "2,50", "$2", "2.5 euros", "nan"])
def test_what_is_no_price(text: str) -> None:
    """Anything else is refused with an example."""
    with pytest.raises(ValueError, match=r"is no price per GPU hour; write it like 2\.50 or 2\.50EUR"):
        price(text)
