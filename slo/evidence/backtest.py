"""How alert policies would have done on past events: what they find of the incidents, how soon, and for how many pages.

Incidents are labelled by people, or else they are the spells that used at least a stated share of the budget.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from slo.evidence.replay import TILE, Firing, History, Policy, Replay
from slo.windows import BURN_ALERTS, DAY, DETECTION_SHARE, HOUR, MINUTE

# A page this long after an incident still belongs to it; two spells this close are one incident.
GRACE = 30 * MINUTE


@dataclass(frozen=True, slots=True)
class Incident:
    """From start to end, in Unix seconds; `slo` is the id of the SLO it is about, "" for all."""

    start: float
    end: float
    slo: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What one policy did on one SLO's histories.

    `delays` (seconds) and `lost` (shares of a period's budget) have one entry per incident that was paged: from its
    start to the page. `true_pages` are the pages that belong to an incident.
    """

    policy: Policy
    weeks: float
    pages: int = 0
    true_pages: int = 0
    tickets: int = 0
    incidents: int = 0
    delays: tuple[float, ...] = ()
    lost: tuple[float, ...] = ()

    @property
    def recall(self) -> float | None:
        """The share of incidents that were paged; None without incidents."""
        return len(self.delays) / self.incidents if self.incidents else None

    @property
    def precision(self) -> float | None:
        """The share of pages that belong to an incident; None without pages."""
        return self.true_pages / self.pages if self.pages else None

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall: 1 is all found and nothing else, 0 nothing found."""
        if not self.incidents and not self.pages:
            return 1.0
        precision, recall = self.precision or 0.0, self.recall or 0.0
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@dataclass(frozen=True, slots=True)
class Case:
    """One history to judge policies on, from `since` (Unix seconds) on, and what happened in it.

    `budget` is how many events of a period may be bad, at the history's mean traffic.
    """

    replay: Replay
    incidents: tuple[Incident, ...]
    since: float
    budget: float

    @property
    def weeks(self) -> float:
        """How long it is."""
        history = self.replay.history
        return (history.start + len(history.total) * history.step - self.since) / (7 * DAY)


def case(history: History, since: float, labels: Sequence[Incident] | None, share: float) -> Case:
    """A history with its incidents: the spells that used `share` of a budget.

    With `labels`, those of them during which this SLO saw errors above its budget.
    """
    burning, since = _burning(history), max(since, history.start)
    slo, mean = history.slo, sum(history.total) / len(history.total)
    budget = mean * slo.period * slo.error_budget
    if labels is None:
        found = [spell for spell in _spells(burning, slo.id) if _bad_events(history, spell) >= share * budget]
    else:
        found = [label for label in labels if label.slo in ("", slo.id) and _seen(label, burning)]
    return Case(Replay(history), tuple(incident for incident in found if incident.start >= since), since, budget)


def score(cases: Sequence[Case], policy: Policy) -> Score:
    """What the policy does on all cases of one SLO together."""
    total = Score(policy=policy, weeks=sum(one.weeks for one in cases))
    for one in cases:
        firings = [firing for firing in one.replay.firings(policy) if firing.start >= one.since]
        pages = [firing for firing in firings if firing.severity == "page"]
        history = one.replay.history
        found = [(i, page) for i in one.incidents if (page := next((p for p in pages if _belongs(p, i)), None))]
        total = replace(
            total,
            pages=total.pages + len(pages),
            true_pages=total.true_pages + sum(any(_belongs(page, i) for i in one.incidents) for page in pages),
            tickets=total.tickets + len(firings) - len(pages),
            incidents=total.incidents + len(one.incidents),
            delays=total.delays + tuple(max(0.0, page.start - i.start) for i, page in found),
            lost=total.lost + tuple(_bad_events(history, replace(i, end=page.start)) / one.budget for i, page in found),
        )
    return total


def candidates() -> list[Policy]:
    """The policies to try: the one in force first, then by how much they differ from it."""
    quick, *others = BURN_ALERTS
    found = []
    for long, short in ((quick.long, quick.short), (HOUR // 2, 5 * MINUTE), (2 * HOUR, 10 * MINUTE)):
        for scale in (1.0, 0.5, 2.0):
            alerts = [replace(alert, budget_share=alert.budget_share * scale) for alert in (quick, *others)]
            alerts[0] = replace(alerts[0], long=long, short=short)
            found += [Policy(tuple(alerts), share) for share in (DETECTION_SHARE, 1 / 12, 1 / 8, 1 / 4, 1 / 3)]
    return sorted(found, key=_differences)


def best(scores: Sequence[Score]) -> Score:
    """The policy to take: best at finding incidents and nothing else, then least budget lost, then fewest pages.

    Of equals the first, which is the least change.
    """
    return min(scores, key=lambda s: (-round(s.f1, 2), round(median(s.lost), 3) if s.lost else 0.0, s.pages))


def _bad_events(history: History, incident: Incident) -> float:
    first, last = (max(0, round((t - history.start) / history.step)) for t in (incident.start, incident.end))
    return (sum(history.total[first : last + 1]) - sum(history.good[first : last + 1])) * history.step


def _burning(history: History) -> list[float]:
    """The moments at which errors come faster than the budget allows."""
    budget = history.slo.error_budget
    pairs = zip(history.good, history.total, strict=True)
    return [history.start + i * history.step for i, (good, total) in enumerate(pairs) if total - good > budget * total]


def _seen(incident: Incident, burning: Sequence[float]) -> bool:
    """Whether one of the moments, which are in order, lies in the incident."""
    first = bisect_left(burning, incident.start)
    return first < len(burning) and burning[first] <= incident.end + TILE


def _spells(moments: Iterable[float], slo_id: str) -> list[Incident]:
    found: list[Incident] = []
    for moment in moments:
        if found and moment - found[-1].end <= GRACE:
            found[-1] = replace(found[-1], end=moment)
        else:
            found.append(Incident(moment, moment, slo_id))
    return found


def _belongs(page: Firing, incident: Incident) -> bool:
    return page.start <= incident.end + GRACE and page.end >= incident.start


def _differences(policy: Policy) -> int:
    alerts = zip(policy.alerts, BURN_ALERTS, strict=True)
    changed = {(a.long != b.long, a.budget_share != b.budget_share) for a, b in alerts}
    return (policy.detection_share != DETECTION_SHARE) + sum(any(column) for column in zip(*changed, strict=True))
