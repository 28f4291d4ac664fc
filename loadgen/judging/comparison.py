"""Runs against runs: whether they compare at all, and how each figure changed, with bounds."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from loadgen.judging.regression import (
    Change,
    Spread,
    change,
    inverse,
    likeness,
    mean_spread,
    quantile_spread,
    shares_below,
)
from loadgen.results.baseline import Baseline
from loadgen.results.record import plain

# The chance that runs of an unchanged service fail a comparison, all its figures together.
FALSE_ALARMS = 0.05
# The minimum effect for medians and throughput.
TOLERANCE = 0.05
# How the prompts were sized and which words they hold changes nothing that is measured.
_FREE = ("salt", "seed", "tokens_per_word", "template_tokens")


@dataclass(frozen=True, slots=True)
class _Figure:
    """What is compared: values of a run, the figure's noise, and its minimum effect in tolerances. `q` of quantiles."""

    name: str
    values: Callable[[Baseline], Sequence[float]]
    q: float | None
    tolerances: int

    def spread(self, run: Baseline) -> Spread | None:
        """Of one run; of a rate as its inverse, so that more is worse."""
        if self.q is not None:
            return quantile_spread(self.values(run), self.q)
        rate = mean_spread(self.values(run))
        return inverse(rate) if rate else None

    def parts(self, run: Baseline) -> Sequence[float]:
        """What tells of the schedule in each part of a run."""
        return self.values(run) if self.q is None else shares_below(self.values(run), self.q)


def _quantile(name: str, q: float, tolerances: int) -> _Figure:
    return _Figure(f"{name.upper()} p{q * 100:.0f}", lambda run: getattr(run, name), q, tolerances)


# Tails are noisier, and p99 needs more requests than most runs have: each has the effect that it can show.
_FIGURES = (
    *(_quantile(name, q, tolerances) for q, tolerances in ((0.5, 1), (0.9, 2), (0.99, 4)) for name in ("ttft", "tpot")),
    _Figure("output tokens/s", lambda run: run.token_rates, None, 1),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Why the runs do not compare (empty: they do), how each figure changed, and which are too short of requests.

    `paired` says that all runs were sent the same schedule, so that what it does to them cancels. Both sides have
    so many runs as `runs` says; with one each, what differs from run to run is not seen.
    """

    problems: tuple[str, ...]
    changes: tuple[Change, ...]
    too_few: tuple[str, ...]
    paired: bool
    runs: tuple[int, int]


def compare(before: Sequence[Baseline], after: Sequence[Baseline], tolerance: float = TOLERANCE) -> Comparison:
    """Compare the runs of two sides by the medians of each; `tolerance` is the smallest change that matters."""
    paired = len({(run.workload.seed, run.load) for run in (*before, *after)}) == 1
    found = [(figure, *_spreads(figure, before, after)) for figure in _FIGURES]
    usable = [(figure, old, new) for figure, old, new in found if old and new]
    alarm = FALSE_ALARMS / max(1, len(usable))
    changes = [
        change(
            figure.name,
            old,
            new,
            alarm=alarm,
            effect=tolerance * figure.tolerances,
            alike=_likeness(figure, before, after) if paired else 0.0,
        )
        for figure, old, new in usable
    ]
    names = {item.name for item in changes}
    return Comparison(
        problems=tuple(_problems(before, after)),
        changes=tuple(changes),
        too_few=tuple(figure.name for figure in _FIGURES if figure.name not in names and _has(figure, before, after)),
        paired=paired,
        runs=(len(before), len(after)),
    )


def _spreads(
    figure: _Figure, before: Sequence[Baseline], after: Sequence[Baseline]
) -> tuple[list[Spread] | None, list[Spread] | None]:
    """Of each side's runs; None for a side of which some run does not give it."""
    old, new = ([figure.spread(run) for run in side] for side in (before, after))
    return _all(old), _all(new)


def _all(spreads: Sequence[Spread | None]) -> list[Spread] | None:
    known = [spread for spread in spreads if spread is not None]
    return known if len(known) == len(spreads) else None


def _has(figure: _Figure, before: Sequence[Baseline], after: Sequence[Baseline]) -> bool:
    return any(figure.values(run) for run in (*before, *after))


def _likeness(figure: _Figure, before: Sequence[Baseline], after: Sequence[Baseline]) -> float:
    return median(likeness(figure.parts(old), figure.parts(new)) for old in before for new in after)


def _problems(before: Sequence[Baseline], after: Sequence[Baseline]) -> Iterator[str]:
    """What must be equal in all runs. The engine's version and settings need not: a gate is for changes of them."""
    first, *others = (*before, *after)
    told: set[str] = set()
    for run in others:
        for name, was, now in _pairs(first, run):
            if was != now and name not in told:
                told.add(name)
                yield f"other {name}: {_text(was)} then, {_text(now)} now"
    if any(run.steady is None for run in before):
        yield "the baseline was written by an older release and does not keep the order of its requests; write it anew"


def _pairs(old: Baseline, new: Baseline) -> Iterator[tuple[str, Any, Any]]:
    yield "simulated", old.fingerprint.simulated, new.fingerprint.simulated
    yield "model", old.fingerprint.model, new.fingerprint.model
    yield "GPUs", old.fingerprint.gpus, new.fingerprint.gpus
    was, now = plain(old.workload), plain(new.workload)
    for name in dict.fromkeys((*was, *now)):
        if name not in _FREE:
            yield name.replace("_", " "), was.get(name), now.get(name)
    yield "load", plain(old.load), plain(new.load)  # its length too: the idle tail is part of the throughput
    if old.steady is not None:
        yield "steady-state rule", old.steady, new.steady


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={item}" for name, item in value.items()) or "none"
    return (", ".join(value) or "none") if isinstance(value, tuple) else str(value)
