"""The gate: is the client honest, what do the SLOs say of this run, and is it worse than the baseline."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from loadgen.baseline import Baseline, Ratio, compare
from loadgen.record import Recording
from loadgen.summary import quantiles
from slo import catalog
from slo.sli import Count, GoodputSli, LatencySli, Request, RequestSli, Sli
from slo.spec import Slo, Spec
from slo.stats import binomial_bounds, requests_needed

CONFIDENCE = 0.95

# The client may be late by 10 % of the tightest threshold that counts from the intended start: a lag that small moves
# only requests that were within 10 % of it anyway. Below 10 ms it may always be: that is a timer on a busy host.
_LAG_SHARE = 0.1
_LAG_FLOOR = 0.010
# Throughput specs have no such threshold; there a late client only offers less load, by little up to this.
_LAG_WITHOUT_LATENCY = 0.100
# Seconds of one run depend on each other, so no bound is claimed for them; fewer than this say nothing.
_FEWEST_SECONDS = 10
# Tails of short runs are noise: p90 is shown, never gated.
_GATED = ("TTFT p50", "TPOT p50", "output tokens/s")


class Outcome(StrEnum):
    """Inconclusive is never green."""

    PASS = "PASS"  # noqa: S105 (no password)
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One judged promise: what was asked, what was seen (`text`), and for SLOs the count and its objective.

    `low` and `high` are one-sided 95 % bounds of the good share; None where none are claimed.
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
    """The outcome, the checks behind it, why the run itself is in doubt, and the SLOs that requests cannot judge."""

    outcome: Outcome
    checks: tuple[Check, ...]
    doubts: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()


def judge(spec: Spec, recording: Recording, baseline: Baseline | None = None, tolerance: float = 0.10) -> Verdict:
    """Judge a run by a spec and, when given, against a baseline of which it may be worse by `tolerance`.

    A run in doubt (late client, killed, interrupted) is INCONCLUSIVE whatever it says. Else one FAIL fails it, and it
    passes only when every check passed and at least one of them is an SLO.
    """
    requests = recording.requests()
    checks: list[Check] = []
    skipped: list[tuple[str, str]] = []
    for slo in spec.slos:
        count = None if _needs_queue_time(slo.sli) else slo.sli.count(requests)
        if count is None:
            skipped.append((slo.id, "a client does not see it; production judges it from the engine's metrics"))
        else:
            checks.append(_check_slo(slo, count))
    if not checks:
        checks.append(_inconclusive("coverage", "no SLO of this spec can be judged by requests"))
    checks += _check_coverage(spec, recording, requests)
    if baseline is not None:
        checks += _check_baseline(baseline, recording, tolerance)
    doubts = tuple(_doubts(spec, recording))
    return Verdict(
        outcome=_overall(checks, doubts),
        checks=tuple(checks),
        doubts=doubts,
        skipped=tuple(skipped),
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


# --- the client -------------------------------------------------------------------------------------------------------


def _doubts(spec: Spec, recording: Recording) -> Iterator[str]:
    """Why the run cannot be trusted, whatever its figures say."""
    footer = recording.footer
    if footer is None:
        yield "the run was killed or still goes on: its records have no footer" + (
            " and a torn last line" if recording.torn else ""
        )
    elif footer.interrupted:
        yield "the run was interrupted"
    if broken := [record for record in recording.records if record.error == "client_error"]:
        yield f"this client could not send {len(broken)} requests: {broken[0].detail}"
    limit = _lag_limit(spec)
    send_lag = quantiles(record.send_lag for record in recording.records)
    loop_lag = footer.loop_lag if footer else None
    for name, lag in (("sent requests late", send_lag), ("read answers late", loop_lag)):
        if lag is not None and lag.p99 > limit:
            yield (
                f"the client {name}: p99 {lag.p99 * 1000:.0f} ms, allowed {limit * 1000:.0f} ms; "
                "give it a core of its own or lower the load"
            )


def _lag_limit(spec: Spec) -> float:
    from_start = (catalog.TTFT, catalog.E2E)
    thresholds = [sli.threshold for slo in spec.slos for sli in latency_conditions(slo.sli) if sli.metric in from_start]
    return max(_LAG_FLOOR, _LAG_SHARE * min(thresholds)) if thresholds else _LAG_WITHOUT_LATENCY


def latency_conditions(sli: Sli) -> tuple[LatencySli, ...]:
    """The latency thresholds an SLI is made of; none for the others."""
    if isinstance(sli, GoodputSli):
        return sli.conditions
    return (sli,) if isinstance(sli, LatencySli) else ()


def _needs_queue_time(sli: Sli) -> bool:
    return any(latency.metric == catalog.QUEUE_TIME for latency in latency_conditions(sli))


# --- the SLOs ---------------------------------------------------------------------------------------------------------


def _check_slo(slo: Slo, count: Count) -> Check:
    if count.ratio is None:
        seen = "no request" if slo.sli.unit_of_count == "requests" else "no second had the demand it asks for, so none"
        return _inconclusive(slo.id, f"{seen} counted")
    return (_check_requests if slo.sli.unit_of_count == "requests" else _check_seconds)(slo, count, count.ratio)


def _check_requests(slo: Slo, count: Count, ratio: float) -> Check:
    low, high = binomial_bounds(count.good, count.total, CONFIDENCE)
    outcome = _decide(low, high, slo.objective)
    bounds = f"{CONFIDENCE:.0%} sure of at least {low:.2%} and at most {high:.2%}"
    text = f"{_share(slo, count, ratio)}; {bounds}; objective {slo.objective * 100:.6g}%"
    if outcome is Outcome.INCONCLUSIVE:
        text += f"; {_requests_to_decide(count, slo.objective)}"
    return Check(name=slo.id, outcome=outcome, text=text, objective=slo.objective, count=count, low=low, high=high)


def _check_seconds(slo: Slo, count: Count, ratio: float) -> Check:
    text = f"{_share(slo, count, ratio)}; objective {slo.objective * 100:.6g}%"
    if count.total < _FEWEST_SECONDS:
        outcome, text = Outcome.INCONCLUSIVE, f"{text}; at least {_FEWEST_SECONDS} seconds under demand are needed"
    else:
        outcome = Outcome.PASS if ratio >= slo.objective else Outcome.FAIL
    return Check(name=slo.id, outcome=outcome, text=text, objective=slo.objective, count=count)


def _decide(low: float, high: float, objective: float) -> Outcome:
    if low >= objective:
        return Outcome.PASS
    return Outcome.FAIL if high < objective else Outcome.INCONCLUSIVE


def _share(slo: Slo, count: Count, ratio: float) -> str:
    return f"{slo.sli.condition}: {ratio:.2%} good ({count.good} of {count.total} {slo.sli.unit_of_count})"


def _requests_to_decide(count: Count, objective: float) -> str:
    """About how many requests would decide, were their good share the one seen."""
    if count.good == count.total:
        return f"about {requests_needed(objective, CONFIDENCE)} requests needed"
    needed = count.total
    while needed < 1_000_000:
        needed += needed // 4 + 1
        good = round(needed * count.good / count.total)
        if _decide(*binomial_bounds(good, needed, CONFIDENCE), objective) is not Outcome.INCONCLUSIVE:
            return f"about {needed} requests needed at this share"
    return "too close to the objective for any number of requests to tell"


def _check_coverage(spec: Spec, recording: Recording, requests: Sequence[Request]) -> list[Check]:
    """A check that is inconclusive when more requests than any error budget has room for are counted by no SLO."""
    slis = [slo.sli for slo in spec.slos if isinstance(slo.sli, RequestSli)]
    uncounted = Counter(
        record.error
        for record, request in zip(recording.records, requests, strict=True)
        if record.error not in (None, "cancelled", "client_error") and all(sli.judge(request) is None for sli in slis)
    )
    room = min(slo.error_budget for slo in spec.slos)
    if uncounted.total() <= room * len(requests):
        return []
    kinds = ", ".join(f"{number} {error}" for error, number in uncounted.most_common())
    text = (
        f"{uncounted.total()} of {len(requests)} requests ({kinds}) are counted by no SLO, more than the smallest "
        f"error budget ({room * 100:.3g}%); add an availability SLO, or send what the service accepts"
    )
    return [_inconclusive("coverage", text)]


# --- the baseline -----------------------------------------------------------------------------------------------------


def _check_baseline(baseline: Baseline, recording: Recording, tolerance: float) -> list[Check]:
    comparison = compare(baseline, recording)
    problems = list(comparison.problems)
    gated = [ratio for ratio in comparison.ratios if ratio.name in _GATED]
    if not gated:
        problems.append("no figure that both runs have")
    if problems:
        return [_inconclusive("baseline", "not comparable: " + "; ".join(problems))]
    return [_check_ratio(ratio, tolerance) for ratio in gated]


def _check_ratio(ratio: Ratio, tolerance: float) -> Check:
    text = f"{ratio.value:.3f} times the baseline"
    if ratio.low is None or ratio.high is None:  # a rate, where less is worse
        outcome = Outcome.PASS if ratio.value >= 1 - tolerance else Outcome.FAIL
    else:
        text += f" ({ratio.low:.3f} to {ratio.high:.3f})"
        outcome = _decide(-ratio.high, -ratio.low, -(1 + tolerance))
    return Check(name=f"baseline {ratio.name}", outcome=outcome, text=f"{text}; {tolerance:.0%} worse is allowed")
