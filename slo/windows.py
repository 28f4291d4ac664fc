"""Burn-rate alerting as data: windows, the factors that follow from them, and what they can detect.

Windows and budget shares are those of the SRE workbook's chapter on alerting on SLOs (2 % in 1 h, 5 % in 6 h,
10 % in 1 d and 3 d of a 30-day period). Those factors suit 99.9 %: at 95 % a total outage would page after
43 minutes, at 90 % never. So a page also has a longest wanted detection time, which caps its factor.
"""

from dataclasses import dataclass

MINUTE, HOUR, DAY = 60, 3_600, 86_400

# Below this an alert would fire on an error ratio that hardly exceeds the budget.
LOWEST_PAGE_FACTOR = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class BurnAlert:
    """Fires when `long` and `short` windows both burn the budget faster than the factor. All times in seconds."""

    severity: str
    long: int
    short: int
    budget_share: float
    detect: int | None = None
    hold: int = 0

    def share_factor(self, period: int) -> float:
        """The burn rate that spends `budget_share` of a `period`'s budget within the long window, 1 at least."""
        return max(1.0, self.budget_share * period / self.long)

    def factor(self, error_budget: float, period: int) -> float:
        """The factor in force: `share_factor`, capped so that a total outage is seen within `detect`."""
        share = self.share_factor(period)
        if self.detect is None:
            return share
        return min(share, max(LOWEST_PAGE_FACTOR, self.detect / self.long / error_budget))

    def detection_seconds(self, error_ratio: float, error_budget: float, period: int) -> float | None:
        """Seconds from a step to `error_ratio` until the long window trips; None when it never does."""
        needed = self.factor(error_budget, period) * error_budget
        return None if error_ratio <= needed else self.long * needed / error_ratio


BURN_ALERTS = (
    BurnAlert(severity="page", long=HOUR, short=5 * MINUTE, budget_share=0.02, detect=10 * MINUTE),
    BurnAlert(severity="page", long=6 * HOUR, short=30 * MINUTE, budget_share=0.05, detect=HOUR),
    BurnAlert(severity="ticket", long=DAY, short=2 * HOUR, budget_share=0.10),
    BurnAlert(severity="ticket", long=3 * DAY, short=6 * HOUR, budget_share=0.10),
)
