"""The demo's table: per SLO the promise, three measurements of the same run, the budget left and the verdict."""

from collections.abc import Sequence
from dataclasses import dataclass

from loadgen.demo.views import View
from slo.sli import Count
from slo.spec.model import Slo

HEADINGS = ("SLO", "promise", "client", "engine metrics", "spans", "budget left", "verdict")


@dataclass(frozen=True, slots=True)
class Row:
    """One SLO: its three views, the share of the run's error budget that is left, and PASS, FAIL or INCONCLUSIVE."""

    slo: Slo
    client: View
    metrics: View
    spans: View
    budget_left: float | None
    verdict: str

    def cells(self) -> tuple[str, ...]:
        """The row as text."""
        views = (_cell(view) for view in (self.client, self.metrics, self.spans))
        left = "-" if self.budget_left is None else f"{self.budget_left:.0%}"
        return (self.slo.name, promise(self.slo), *views, left, self.verdict)


def promise(slo: Slo) -> str:
    """The objective and what it is about, such as `95% ttft ≤ 250 ms`."""
    return f"{slo.objective * 100:g}% {slo.sli.condition}"


def budget_left(slo: Slo, count: Count | None) -> float | None:
    """The share of the error budget that these events leave: 1 - error ratio / budget; below 0 when overspent."""
    ratio = count.ratio if count else None
    return None if ratio is None else 1 - (1 - ratio) / slo.error_budget


def render(rows: Sequence[Row]) -> str:
    """All rows under their headings, in columns."""
    lines = [HEADINGS, *(row.cells() for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADINGS))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([text[0], "─" * len(max(text, key=len)), *text[1:]])


def _cell(view: View) -> str:
    ratio = view.count.ratio if view.count else None
    parts = ["" if ratio is None else f"{ratio:.1%}", view.value]
    return " · ".join(part for part in parts if part) or "-"
