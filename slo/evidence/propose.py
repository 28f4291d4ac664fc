"""Objectives and thresholds that load tests support with a stated confidence; the worst run decides.

A latency gets the wanted objective and the least bucket edge that keeps it, availability the best objective that
people promise and the runs support. What the runs are too short for is not proposed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slo import catalog
from slo.catalog import Metric
from slo.evidence.runs import Run
from slo.evidence.sampling import quantile_bound, supports, tail_tau, tau
from slo.stats import requests_needed

LATENCIES: Mapping[str, Metric] = {"ttft": catalog.TTFT, "tpot": catalog.TPOT, "e2e": catalog.E2E}
# Objectives of availability, best first.
AVAILABILITY = (0.9999, 0.9995, 0.999, 0.995, 0.99, 0.95, 0.9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What one run says: `count` values, worth `size` independent ones, with this quantile (s) or good share observed.

    `bound` is what holds at the confidence: a latency (s) at most, a share at least. None: the run is too short.
    """

    path: str
    count: int
    size: float
    observed: float | None = None
    bound: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One SLO, its evidence with the worst run first. `threshold` is in seconds, for a latency.

    `problem` says why there is no objective.
    """

    name: str
    objective: float | None = None
    threshold: float | None = None
    problem: str = ""
    evidence: tuple[Evidence, ...] = ()


def propose(runs: Sequence[Run], objective: float, confidence: float) -> list[Proposal]:
    """A proposal per latency, all with this objective, and one for availability. Thresholds are edges of the engine."""
    latencies = [_latency(name, runs, objective, confidence) for name in LATENCIES]
    return [*latencies, _availability(runs, confidence)]


def _latency(name: str, runs: Sequence[Run], objective: float, confidence: float) -> Proposal:
    found = [_latency_evidence(run, run.latencies.get(name), objective, confidence) for run in runs]
    worst_first = tuple(sorted(found, key=lambda e: -math.inf if e.bound is None else -e.bound))
    worst = worst_first[0]
    if worst.bound is None:
        return Proposal(name=name, problem=_too_short(worst, objective, confidence), evidence=worst_first)
    metric, engine = LATENCIES[name], runs[0].origin.kind
    if engine and engine not in metric.upstream:
        return Proposal(name=name, problem=f"{engine} exposes no {metric.name}", evidence=worst_first)
    edges = [edge for edge in metric.buckets_of(engine) if edge >= worst.bound]
    if not edges:
        problem = f"{worst.path} says {worst.bound:g} s, beyond the last bucket edge"
        return Proposal(name=name, problem=problem, evidence=worst_first)
    return Proposal(name=name, objective=objective, threshold=edges[0], evidence=worst_first)


def _latency_evidence(run: Run, values: Sequence[float] | None, objective: float, confidence: float) -> Evidence:
    path = run.origin.path
    if not values:
        return Evidence(path=path, count=0, size=0)
    ordered = sorted(values)
    size = len(values) / tail_tau(values, objective)
    observed = ordered[math.ceil(objective * len(ordered)) - 1]
    bound = quantile_bound(ordered, objective, size, confidence)
    return Evidence(path=path, count=len(values), size=size, observed=observed, bound=bound)


def _availability(runs: Sequence[Run], confidence: float) -> Proposal:
    found = [_availability_evidence(run, confidence) for run in runs]
    worst_first = tuple(sorted(found, key=lambda e: -math.inf if e.bound is None else e.bound))
    worst = worst_first[0]
    if worst.bound is not None:
        return Proposal(name="availability", objective=worst.bound, evidence=worst_first)
    lowest = AVAILABILITY[-1]
    if worst.observed is not None and worst.observed < lowest:
        problem = f"in {worst.path} only {worst.observed:.1%} were answered, less than {lowest:.0%}"
    else:
        problem = _too_short(worst, lowest, confidence)
    return Proposal(name="availability", problem=problem, evidence=worst_first)


def _availability_evidence(run: Run, confidence: float) -> Evidence:
    path, count = run.origin.path, len(run.answered)
    if not count:
        return Evidence(path=path, count=0, size=0)
    share = sum(run.answered) / count
    size = count / (tau(run.answered) if run.ordered else 1)
    bound = next((rung for rung in AVAILABILITY if supports(rung, share, size, confidence)), None)
    return Evidence(path=path, count=count, size=size, observed=share, bound=bound)


def _too_short(evidence: Evidence, objective: float, confidence: float) -> str:
    """How many requests it would take, at the dependence seen in this run."""
    if not evidence.count:
        return f"{evidence.path} holds no values of it"
    needed = math.ceil(requests_needed(objective, confidence) * evidence.count / evidence.size)
    return (
        f"{evidence.path} has {evidence.count} requests, worth {evidence.size:.0f} independent ones; "
        f"{objective:g} takes at least {needed}"
    )
