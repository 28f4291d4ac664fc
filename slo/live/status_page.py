"""The state of every SLO as one HTML file, in the look that all pages share."""

import time
from collections.abc import Iterator, Sequence

from slo import html
from slo.live.status import BURN_WINDOWS, Status
from slo.windows import DAY, HOUR, MINUTE

# As on the boards: below this share of its budget an SLO is at risk.
LOW_BUDGET = 0.25

_HEAD = (
    "state",
    "alert",
    "SLO",
    "group",
    "objective",
    "budget left",
    "",
    "spent in",
    *(f"burn {w}" for w in BURN_WINDOWS),
)


def page(found: Sequence[Status], source: str, now: int) -> str:
    """The page; `source` is the Prometheus that was asked at `now` (Unix seconds)."""
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now))
    return html.page(
        "Service levels",
        f"{when}, from {source}",
        html.tiles(list(_counts(found))),
        html.table_of(_HEAD, [_row(status) for status in found]),
        "<footer>Burn rate 1 spends the budget exactly within the SLO's period. Spent in: when the budget is gone if "
        "the last hour goes on.</footer>",
    )


def state(status: Status) -> tuple[str, str]:
    """The state of the budget in words, and its kind: good, warn or bad; empty when nothing is known."""
    if status.budget_left is None:
        return "no data", ""
    if status.budget_left <= 0:
        return "broken", "bad"
    return ("at risk", "warn") if status.budget_left < LOW_BUDGET else ("met", "good")


def time_left(seconds: float | None) -> str:
    """Time to exhaustion in its largest unit; `-` when the budget lasts."""
    if not seconds:
        return "-" if seconds is None else "spent"
    for unit, name in ((DAY, "d"), (HOUR, "h")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / MINUTE:.0f} min"


def _counts(found: Sequence[Status]) -> Iterator[tuple[str, str]]:
    states = [state(status)[0] for status in found]
    yield from ((name, str(states.count(name))) for name in ("met", "at risk", "broken", "no data"))
    yield "paging", str(sum(status.firing == "page" for status in found))


def _row(status: Status) -> str:
    word, kind = state(status)
    alert = html.badge(status.firing, "bad" if status.firing == "page" else "warn") if status.firing else "-"
    left = status.budget_left
    burns = (f"{status.burn[window]:.3g}" if window in status.burn else "-" for window in BURN_WINDOWS)
    cells = (
        status.slo.id,
        " ".join(status.group.values()) or "—",
        f"{status.slo.objective * 100:g}%",
        "-" if left is None else f"{left:.1%}",
    )
    bar = "<td></td>" if left is None else f"<td>{html.bar(left, kind)}</td>"
    spent = f'<td class="number">{time_left(status.exhausted_in)}</td>'
    badges = f"<td>{html.badge(word, kind)}</td><td>{alert}</td>"
    return "".join([badges, *map(html.cell, cells), bar, spent, *map(html.cell, burns)])
