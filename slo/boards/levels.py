"""Expressions over the recorded series of SLOs, for the boards that show service levels."""

from collections.abc import Sequence
from dataclasses import dataclass

from slo.boards.common import LOW_BUDGET, OF_MODEL, ratio
from slo.boards.panel import Label
from slo.promql import aggregate, duration
from slo.rules import recorded
from slo.rules.recorded import BUDGET_LEFT, ERROR_BUDGET
from slo.spec.model import Spec

_TITLES = {"slo": "SLO", "model_name": "Model"}


@dataclass(frozen=True, slots=True)
class Levels:
    """The SLOs that the matcher `pick` picks (none: all), split by the labels `groups`.

    Recorded series carry no job and no instance, since an SLO speaks of all replicas together.
    """

    groups: tuple[str, ...]
    pick: str = ""

    @classmethod
    def of(cls, specs: Sequence[Spec], pick: str = "") -> "Levels":
        """Split by every label that one of `specs` groups by."""
        return cls(tuple(dict.fromkeys(label for spec in specs for label in spec.group_by)), pick)

    @property
    def legend(self) -> str:
        """The legend that tells the groups apart."""
        return " ".join(f"{{{{{label}}}}}" for label in self.groups)

    def labels(self, **urls: str) -> tuple[Label, ...]:
        """A table's label columns; a keyword gives the address that a label's cells lead to."""
        return tuple(Label(name, _TITLES.get(name, name), urls.get(name, "")) for name in self._by)

    def series(self, name: str, *matchers: str) -> str:
        """The recorded series called `name`."""
        picked = ",".join(matcher for matcher in (*matchers, self.pick, str(OF_MODEL)) if matcher)
        return f"{name}{{{picked}}}"

    def each(self, name: str, *matchers: str) -> str:
        """`series` per SLO and group, without the labels that only describe."""
        return aggregate("max", self.series(name, *matchers), self._by)

    def budgets(self) -> str:
        """The error budgets. They are of the SLO and carry no group."""
        return f"{ERROR_BUDGET}{{{self.pick}}}" if self.pick else ERROR_BUDGET

    def objective(self) -> str:
        """The objective per SLO."""
        return aggregate("max", f"1 - {self.budgets()}", ("slo",))

    def objectives(self) -> str:
        """The objective per SLO and group, and per SLO where there are no events yet."""
        one = self.objective()
        return f"{self.each(recorded.TOTAL_5M)} * 0 + on (slo) group_left () {one} or on (slo) {one}"

    def good_ratio(self, good: str, total: str) -> str:
        """Share of good events, from a pair of recorded rates."""
        return ratio(self.each(good), self.each(total))

    def state(self) -> str:
        """0 met, 1 at risk, 2 broken, by what is left of the budget."""
        left = self.each(BUDGET_LEFT)
        return f"({left} < bool {LOW_BUDGET}) + ({left} <= bool 0)"

    def exhausted_in(self, periods: Sequence[int]) -> str:
        """Seconds until the budget is spent at the burn rate of the last hour; the whole period when it is not."""
        burn = self.each(recorded.burn_rate("1h"))
        left = ((period, self.each(BUDGET_LEFT, f'period="{duration(period)}"')) for period in periods)
        return " or ".join(f"clamp({period} * {budget} / {burn}, 0, {period})" for period, budget in left)

    def alert(self) -> str:
        """2 while a page fires, 1 while a ticket does, else 0."""
        firing = 'alertstate="firing"'
        page, ticket = (self.each("ALERTS", firing, f'severity="{severity}"') for severity in ("page", "ticket"))
        return f"{page} * 2 or {ticket} or {self.each(recorded.TOTAL_5M)} * 0"

    @property
    def _by(self) -> tuple[str, ...]:
        return ("slo", *self.groups)
