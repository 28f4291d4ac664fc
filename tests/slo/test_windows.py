"""The burn-rate arithmetic against the SRE workbook and the properties that alerts rest on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slo.windows import BURN_ALERTS, DAY, HOUR, MINUTE

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
