"""The gate: what do the SLOs say of these runs, and are they worse than the baseline."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from loadgen.judging.comparison import TOLERANCE, Comparison, compare
from loadgen.judging.doubts import doubts, latency_conditions
from loadgen.judging.regression import Change, Outcome
from loadgen.results.baseline import Baseline, from_recording
from loadgen.results.record import Recording, RequestRecord
from loadgen.results.sampled import count_samples
from loadgen.results.steady import Cut, Rule, clipped, steady
from loadgen.traffic.arrivals import NS
from slo import catalog
from slo.evidence.sampling import tau
from slo.sli import Count, ItlSli, RequestSli, SaturationSli, Sli, StallSli
from slo.spec.model import Slo, Spec
from slo.stats import binomial_bounds, requests_needed

CONFIDENCE = 0.95

# Seconds of one run depend on each other, so no bound is claimed for them; fewer than this say nothing.
_FEWEST = 10
# The server's page is asked for once a second. One that no longer answers under load must not pass by the samples that
# it gave before: those of less than half of the run say nothing.
_SAMPLED_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One judged promise: what was asked, what was seen (`text`), and for SLOs the count and its objective.

    `low` and `high` are one-sided 95 % bounds of the good share, by as many independent requests as these are worth;
    None where none are claimed.
    """

    name: str
    outcome: Outcome
    text: str
    objective: float | None = None
    count: Count | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The outcome, the checks behind it, why the runs themselves are in doubt, and the SLOs that nothing here judges.

    `cuts` says, run by run, what was left out as warm-up and cool-down.
    """

    outcome: Outcome
    checks: tuple[Check, ...]
    doubts: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    cuts: tuple[Cut, ...] = ()
    comparison: Comparison | None = None


def judge(
    spec: Spec,
    *runs: Recording,
    baselines: Sequence[Baseline] = (),
    tolerance: float = TOLERANCE,
    rule: Rule = "none",
) -> Verdict:
    """Judge the steady part of one or more runs of a service by a spec and, when given, against earlier runs.

    Events of all runs count together; samples of the server are those of a whole run. A run in doubt (late client,
    killed, interrupted) makes it INCONCLUSIVE whatever it says. Else one FAIL fails it, and it passes only when every
    check passed and at least one of them is an SLO.
    """
    kept = [steady(run, rule) for run in runs]
    parts = [part for part, _ in kept]
    checks: list[Check] = []
    skipped: list[tuple[str, str]] = []
    for slo in spec.slos:
        counts = [_count(slo.sli, run, part, cut) for run, (part, cut) in zip(runs, kept, strict=True)]
        known = [count for count in counts if count is not None]
        if len(known) < len(counts) or not known:
            skipped.append((slo.id, _UNSEEN))
        else:
            count = Count(sum(c.good for c in known), sum(c.total for c in known))
            checks.append(_sampled_enough(_check_slo(slo, count, parts), slo.sli, runs))
    if not checks:
        checks.append(_inconclusive("coverage", "no SLO of this spec can be judged by requests or samples"))
    checks += _check_coverage(spec, parts)
    comparison = None
    if baselines:
        comparison = compare(baselines, [from_recording(run, rule) for run in runs], tolerance)
        checks += _check_baseline(comparison)
    found = tuple(dict.fromkeys(doubt for part in parts for doubt in doubts(spec, part)))
    return Verdict(
        outcome=_overall(checks, found),
        checks=tuple(checks),
        doubts=found,
        skipped=tuple(skipped),
        cuts=tuple(cut for _, cut in kept),
        comparison=comparison,
    )


def _overall(checks: Sequence[Check], doubts: Sequence[str]) -> Outcome:
    outcomes = {check.outcome for check in checks}
    if doubts:
        return Outcome.INCONCLUSIVE
    if Outcome.FAIL in outcomes:
        return Outcome.FAIL
    return Outcome.PASS if outcomes == {Outcome.PASS} else Outcome.INCONCLUSIVE


def _inconclusive(name: str, text: str) -> Check:
    return Check(name=name, outcome=Outcome.INCONCLUSIVE, text=text)


# --- the SLOs ---------------------------------------------------------------------------------------------------------


def _count(sli: Sli, run: Recording, kept: Recording, cut: Cut) -> Count | None:
    """Events of a run's kept part as requests tell them, else as samples of the server do; None when neither can."""
    if isinstance(sli, ItlSli):
        return _count_gaps(sli.threshold, kept.records)
    if any(latency.metric == catalog.QUEUE_TIME for latency in latency_conditions(sli)):
        return None
    if isinstance(sli, RequestSli):
        return sli.count(kept.each_request())
    by_requests = sli.count(list(clipped(run, cut)))
    return count_samples(sli, run.samples) if by_requests is None else by_requests


def _count_gaps(threshold: float, records: Sequence[RequestRecord]) -> Count:
    good = total = 0
    for record in records:
        gaps = sorted(record.gaps_ns)
        good, total = good + bisect_right(gaps, round(threshold * NS)), total + len(gaps)
    return Count(good, total)


_UNSEEN = "neither requests nor samples of the server (slo-load run --metrics URL) show it; production judges it"


def _check_slo(slo: Slo, count: Count, parts: Sequence[Recording]) -> Check:
    if count.ratio is None:
        return _inconclusive(slo.id, f"{slo.sli.condition}: nothing of what it asks for was seen, so nothing counted")
    if isinstance(slo.sli, RequestSli):
        return _check_requests(slo, count, count.ratio, _alike(slo.sli, count, parts))
    return _check_dependent(slo, count, count.ratio)


def _alike(sli: RequestSli, count: Count, parts: Sequence[Recording]) -> float:
    """How many requests in a row say as much as one: bad ones come in bursts, as long as a queue lasts."""
    if count.good == count.total:
        return 1.0
    runs = [[good for r in part.each_request() if (good := sli.judge(r)) is not None] for part in parts]
    return sum(tau(run) * len(run) for run in runs) / count.total


def _check_requests(slo: Slo, count: Count, ratio: float, alike: float) -> Check:
    low, high = binomial_bounds(count.good / alike, count.total / alike, CONFIDENCE)
    outcome = _decide(low, high, slo.objective)
    bounds = f"{CONFIDENCE:.0%} sure of at least {low:.2%} and at most {high:.2%}"
    text = f"{_share(slo, count, ratio)}; {bounds}; objective {slo.objective * 100:.6g}%"
    if alike > 1:
        text += f"; bad ones come together, so these say as much as {count.total / alike:.0f} independent ones"
    if outcome is Outcome.INCONCLUSIVE:
        text += f"; {_requests_to_decide(count, slo.objective, alike)}"
    return Check(name=slo.id, outcome=outcome, text=text, objective=slo.objective, count=count, low=low, high=high)


def _check_dependent(slo: Slo, count: Count, ratio: float) -> Check:
    """Events of one run that depend on each other: seconds, samples, gaps between tokens."""
    text = f"{_share(slo, count, ratio)}; objective {slo.objective * 100:.6g}%"
    fewest = requests_needed(slo.objective, CONFIDENCE) if isinstance(slo.sli, ItlSli) else _FEWEST
    if count.total < fewest:
        outcome, text = Outcome.INCONCLUSIVE, f"{text}; at least {fewest} are needed"
    else:
        outcome = Outcome.PASS if ratio >= slo.objective else Outcome.FAIL
    return Check(name=slo.id, outcome=outcome, text=text, objective=slo.objective, count=count)


def _sampled_enough(check: Check, sli: Sli, runs: Sequence[Recording]) -> Check:
    """No PASS by samples of the server that are those of a small part of some run only."""
    if check.outcome is not Outcome.PASS or not isinstance(sli, SaturationSli | StallSli):
        return check
    seconds = [(sum(sli.needs.name in s.values for s in run.samples), run.footer.seconds) for run in runs if run.footer]
    few = [f"{answered} of {asked:.0f}" for answered, asked in seconds if answered < _SAMPLED_SHARE * asked]
    if not few:
        return check
    text = f"{check.text}; the server's page answered in {', '.join(few)} seconds only"
    return replace(check, outcome=Outcome.INCONCLUSIVE, text=text)


def _decide(low: float, high: float, objective: float) -> Outcome:
    if low >= objective:
        return Outcome.PASS
    return Outcome.FAIL if high < objective else Outcome.INCONCLUSIVE


def _share(slo: Slo, count: Count, ratio: float) -> str:
    return f"{slo.sli.condition}: {ratio:.2%} good ({count.good} of {count.total} {_unit(slo.sli)})"


def _unit(sli: Sli) -> str:
    """What is counted here: production's minutes are too long for a load test."""
    return sli.unit_of_count.replace("engine minutes", "samples of engines")


def _requests_to_decide(count: Count, objective: float, alike: float) -> str:
    """About how many requests would decide, were their good share the one seen, and they as alike."""
    if count.good == count.total:
        return f"about {requests_needed(objective, CONFIDENCE)} requests needed"
    needed = count.total
    while needed < 1_000_000:
        needed += needed // 4 + 1
        good = round(needed * count.good / count.total)
        if _decide(*binomial_bounds(good / alike, needed / alike, CONFIDENCE), objective) is not Outcome.INCONCLUSIVE:
            return f"about {needed} requests needed at this share"
    return "too close to the objective for any number of requests to tell"


def _check_coverage(spec: Spec, parts: Sequence[Recording]) -> list[Check]:
    """A check that is inconclusive when more requests than any error budget has room for are counted by no SLO."""
    slis = [slo.sli for slo in spec.slos if isinstance(slo.sli, RequestSli)]
    failed = [
        (record.error, record.to_request(part.header.started_unix_ns))
        for part in parts
        for record in part.records
        if record.error not in (None, "cancelled", "client_error")
    ]
    uncounted = Counter(error for error, request in failed if all(sli.judge(request) is None for sli in slis))
    requests = sum(len(part.records) for part in parts)
    room = min(slo.error_budget for slo in spec.slos)
    if uncounted.total() <= room * requests:
        return []
    kinds = ", ".join(f"{number} {error}" for error, number in uncounted.most_common())
    text = (
        f"{uncounted.total()} of {requests} requests ({kinds}) are counted by no SLO, more than the smallest "
        f"error budget ({room * 100:.3g}%); add an availability SLO, or send what the service accepts"
    )
    return [_inconclusive("coverage", text)]


# --- the baseline -----------------------------------------------------------------------------------------------------


def _check_baseline(comparison: Comparison) -> list[Check]:
    problems = list(comparison.problems)
    if not comparison.changes:
        problems.append("no figure that all runs have")
    if problems:
        return [_inconclusive("baseline", "not comparable: " + "; ".join(problems))]
    medians = [name for name in comparison.too_few if name.endswith("p50")]
    return [_check_change(change) for change in comparison.changes] + [
        _inconclusive(f"baseline {name}", "too few requests to compare; send more") for name in medians
    ]


def _check_change(change: Change) -> Check:
    text = (
        f"{change.value:.3f} times as bad as the baseline ({change.low:.3f} to {change.high:.3f}); "
        f"fails when surely worse and by {change.effect:.0%}; a worsening by {change.detectable:.1%} would be found"
    )
    if change.outcome is Outcome.INCONCLUSIVE:
        text += "; send more requests, or give more runs of either side"
    return Check(name=f"baseline {change.name}", outcome=change.outcome, text=text)
