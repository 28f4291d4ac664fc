"""Burn-rate alerting as data: windows, the factors that follow from them, and what they can detect.

Windows and budget shares are those of the SRE workbook's chapter on alerting on SLOs (2 % in 1 h, 5 % in 6 h,
10 % in 1 d and in 3 d of a 30-day period). Those factors suit 99.9 %: at 95 % a total outage would page after
43 minutes, at 90 % never. So every factor is capped, such that a total outage trips an alert within a sixth of
its long window: 10 minutes for the fast page.
"""

from dataclasses import dataclass

MINUTE, HOUR, DAY = 60, 3_600, 86_400

DETECTION_SHARE = 1 / 6
# A cap below this would page for an error ratio that hardly exceeds the budget.
LOWEST_CAP = 1.5

# Bad events a long window must hold before it may alert: below that a burn rate is a few unlucky requests.
MIN_BAD_EVENTS = 5

# Seconds that an alert of a severity fires on after its condition has ended (`keep_firing_for`). The short windows
# reset it soon; this keeps it from coming back as a new one a moment later.
KEEP_FIRING = {"page": 5 * MINUTE, "ticket": 15 * MINUTE}


@dataclass(frozen=True, slots=True)
class BurnAlert:
    """Fires when `long` and `short` windows both burn the budget faster than the factor. All times in seconds."""

    severity: str
    long: int
    short: int
    budget_share: float

    def share_factor(self, period: int) -> float:
        """The burn rate that spends `budget_share` of a `period`'s budget within the long window, 1 at least."""
        return max(1.0, self.budget_share * period / self.long)

    def factor(self, error_budget: float, period: int) -> float:
        """The factor in force: `share_factor`, capped so that a total outage is seen in time."""
        return min(self.share_factor(period), max(LOWEST_CAP, DETECTION_SHARE / error_budget))

    def detection_seconds(self, error_ratio: float, error_budget: float, period: int) -> float | None:
        """Seconds from a step to `error_ratio` until the long window trips; None when it never does."""
        needed = self.factor(error_budget, period) * error_budget
        return None if error_ratio <= needed else self.long * needed / error_ratio

    def reset_seconds(self, error_ratio: float, error_budget: float, period: int) -> float:
        """Seconds after an outage of `error_ratio` has ended until the short window no longer trips."""
        return self.short * max(0.0, 1 - self.factor(error_budget, period) * error_budget / error_ratio)


def budget_spent(seconds: float, error_ratio: float, error_budget: float, period: int) -> float:
    """The share of a period's budget that so many seconds of an outage of `error_ratio` spend, were traffic even."""
    return seconds / period * error_ratio / error_budget


BURN_ALERTS = (
    BurnAlert("page", HOUR, 5 * MINUTE, 0.02),
    BurnAlert("page", 6 * HOUR, 30 * MINUTE, 0.05),
    BurnAlert("ticket", DAY, 2 * HOUR, 0.10),
    BurnAlert("ticket", 3 * DAY, 6 * HOUR, 0.10),
)
