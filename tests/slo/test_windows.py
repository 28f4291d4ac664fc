"""The burn-rate arithmetic against the SRE workbook and the properties that alerts rest on."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from slo.windows import BURN_ALERTS, DAY, HOUR, MINUTE, BurnAlert, budget_spent

PAGE_FAST = BURN_ALERTS[0]


def test_factors_of_a_tight_objective_are_the_workbook_table() -> None:
    """At 99.9 % over 30 days the factors are 14.4, 6, 3 and 1."""
    assert [alert.factor(0.001, 30 * DAY) for alert in BURN_ALERTS] == pytest.approx([14.4, 6, 3, 1])


def test_a_loose_objective_still_pages_within_the_wanted_time() -> None:
    """At 95 % the uncapped 14.4 would take 43 minutes to see a total outage; capped it takes 10."""
    uncapped = PAGE_FAST.share_factor(30 * DAY) * 0.05 * HOUR
    assert uncapped == pytest.approx(43.2 * MINUTE)
    assert PAGE_FAST.detection_seconds(1.0, 0.05, 30 * DAY) == pytest.approx(10 * MINUTE)


def test_an_error_ratio_below_the_factor_is_never_detected() -> None:
    """Three bad minutes' worth of errors at 95 % stay below a factor of 3.3 and never page."""
    assert PAGE_FAST.detection_seconds(0.16, 0.05, 30 * DAY) is None


@given(st.floats(0.0001, 0.3), st.sampled_from([7 * DAY, 28 * DAY, 30 * DAY, 90 * DAY]))
def test_every_alert_can_fire_and_never_within_budget(budget: float, period: int) -> None:
    """A total outage trips every alert in a sixth of its window; burning exactly the budget trips no page."""
    for alert in BURN_ALERTS:
        factor = alert.factor(budget, period)
        seen = alert.detection_seconds(1.0, budget, period)
        assert seen is not None
        assert seen <= max(alert.long / 6, 1.5 * budget * alert.long) * 1.000001
        assert factor >= 1.0
        assert factor > 1.0 or alert.share_factor(period) == 1.0


def simulated(
    alert: BurnAlert, bad: float, budget: float, period: int, lasts: int
) -> tuple[int | None, int | None, float]:
    """An outage of `lasts` steps of a 60th of the short window: when it trips, when it resets, budget gone at the trip.

    Even traffic of one event a step, good for longer than the long window before.
    """
    step, long = alert.short // 60, alert.long // (alert.short // 60)
    errors = [0.0] * long + [bad] * lasts + [0.0] * 61
    limit = alert.factor(budget, period) * budget
    trips = [
        sum(errors[i - long + 1 : i + 1]) / long > limit and sum(errors[i - 59 : i + 1]) / 60 > limit
        for i in range(long, len(errors))
    ]
    first = trips.index(True) + 1 if True in trips else None
    last = len(trips) - trips[::-1].index(True) if True in trips else None
    spent = bad * (first or 0) * step / (budget * period)
    return first, last, spent


@given(st.sampled_from(BURN_ALERTS), st.floats(0.02, 1.0), st.floats(0.0005, 0.3), st.sampled_from([7 * DAY, 30 * DAY]))
def test_detection_reset_and_budget_are_what_a_simulation_finds(
    alert: BurnAlert, bad: float, budget: float, period: int
) -> None:
    """The formulas against rolling windows over even traffic, to a step of the simulation."""
    # Where the error ratio is the limit itself, rounding decides.
    assume(abs(bad - alert.factor(budget, period) * budget) > 1e-9)
    step = alert.short / 60
    lasts = alert.long // int(step)  # long enough to trip if it ever does
    trips, resets, spent = simulated(alert, bad, budget, period, lasts)
    seconds = alert.detection_seconds(bad, budget, period)
    if seconds is None:
        assert trips is None
        return
    limit = alert.factor(budget, period) * budget
    if trips is None:  # the last step would be the one: a matter of rounding
        assert limit == pytest.approx(bad, rel=0.01)
        return
    # The short window is never the later one: a 12th of the long window fills first.
    assert trips * step == pytest.approx(seconds, abs=1.01 * step)
    assert resets is not None
    assert (resets - lasts) * step == pytest.approx(alert.reset_seconds(bad, budget, period), abs=1.01 * step)
    assert spent == pytest.approx(
        budget_spent(seconds, bad, budget, period), rel=0.01, abs=bad * step / (budget * period) * 1.01
    )


@given(st.sampled_from(BURN_ALERTS), st.floats(0.0005, 0.3), st.sampled_from([7 * DAY, 28 * DAY, 30 * DAY, 90 * DAY]))
def test_an_uncapped_page_has_spent_its_share_whatever_the_outage(alert: BurnAlert, budget: float, period: int) -> None:
    """Where no cap applies, an alert trips when exactly its share of the budget is gone, for any error ratio."""
    if alert.factor(budget, period) < alert.share_factor(period) or alert.share_factor(period) == 1.0:
        return
    for bad in (0.5, 1.0):
        seconds = alert.detection_seconds(bad, budget, period)
        spent = None if seconds is None else budget_spent(seconds, bad, budget, period)
        assert spent is None or spent == pytest.approx(alert.budget_share)
