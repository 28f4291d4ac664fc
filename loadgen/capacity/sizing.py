"""`slo-load capacity`: the highest rate that meets a spec, what it takes for a wanted rate, and when to scale out."""

import argparse
import math
import secrets
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from loadgen.arguments import count, positive, print_json
from loadgen.capacity.highest_rate import Capacity, Level, ProbeError, Search
from loadgen.capacity.trial import Trial, judged
from loadgen.judging.regression import Outcome
from loadgen.reports import tables
from loadgen.results import reading
from loadgen.results.record import Recording, plain
from loadgen.running import options
from loadgen.running.measure import Plan, RunError, measure
from loadgen.traffic.arrivals import Load
from loadgen.wire.target import TargetError
from slo import catalog
from slo.spec import model as spec

EXIT = {Outcome.PASS: 0, Outcome.FAIL: 1, Outcome.INCONCLUSIVE: 3}
# Scaling out takes a while, and load comes in bursts: pods are added before the last one that fits is full.
_HEADROOM = 0.8
_INTERRUPTED = "interrupted"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `slo-load capacity`."""
    options.add_target(parser)
    options.add_workload(parser)
    add = parser.add_argument
    add("--slo", type=Path, required=True, metavar="SPEC", help="the SLO spec to meet")
    add(
        "--budget",
        type=positive,
        default=600.0,
        metavar="S",
        help="start no run that ends later (default: %(default)g s)",
    )
    add("--start", type=positive, default=1.0, metavar="R", help="requests per second to begin with (default: 1)")
    add("--precision", type=positive, default=0.05, metavar="P",
        help="end when passing and failing rates are this near (default: %(default)s)")  # fmt: skip
    add("--replicas", type=count, default=1, metavar="N", help="how many serve behind the target now (default: 1)")
    add("--target-rate", type=positive, metavar="R", help="say how many replicas that many requests per second need")
    add("--records", type=Path, metavar="DIR", help="keep the records of every run there")
    add("--workers", type=count, metavar="N", help="processes that share the load (default: as many as it needs)")
    add("--quiet", action="store_true", help="tell nothing of single runs")
    add("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(
        run=run, rate=1.0, requests=1, duration=None, concurrency=None, stages=None, trace=None, arrivals=None,
        burstiness=None, speed=None, ray=None,
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Search and print; 0 when a rate meets the spec, 1 when none does, 3 when that stays open, 130 on Ctrl-C."""
    slos = spec.load(args.slo)
    if not judged(slos):
        raise RunError(f"{args.slo}: has no SLO that requests can judge (latency, availability or goodput); add one")
    with tempfile.TemporaryDirectory() as scratch:
        prober = _Prober(options.plan(args), args.records or Path(scratch))
        tell = (lambda _: None) if args.quiet else _tell
        search = Search(slos, prober.probe, budget=args.budget, clock=time.monotonic, tell=tell)
        found = search.run(args.start, args.precision)
    skipped = [slo.id for slo in slos.slos if slo not in judged(slos)]
    if args.json:
        print_json(_json(found, args, skipped))
    else:
        print(text(found, args.replicas, args.target_rate, skipped))
    return 130 if found.ended == _INTERRUPTED else EXIT[found.outcome]


class _Prober:
    """Runs a plan at one rate after the other, each time with other arrivals and prompts."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan, self._folder, self._runs = plan, folder, 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{folder}: cannot be made: {error.strerror}") from None

    def probe(self, rate: float, seconds: float) -> Recording:
        """One run. Raises what `measure` raises, but ProbeError when it was interrupted or the target has gone."""
        self._runs += 1
        workload = replace(self._plan.workload, seed=self._plan.workload.seed + self._runs, salt=secrets.token_hex(4))
        load = Load(rate=rate, arrivals="poisson", duration=seconds)
        path = self._folder / f"{self._runs:03}-{rate:.3f}.jsonl"
        try:
            footer = measure(replace(self._plan, workload=workload, load=load), path, force=True, quiet=True)
        except TargetError as error:
            if self._runs == 1:
                raise
            raise ProbeError(f"the target is gone: {error}") from None
        except KeyboardInterrupt:  # while nothing was in flight
            raise ProbeError(_INTERRUPTED) from None
        if footer.interrupted:
            raise ProbeError(_INTERRUPTED)
        return reading.read(path)


def _tell(trial: Trial) -> None:
    shares = ", ".join(f"{share.ratio:.1%}" if share.ratio is not None else "none" for share in trial.shares)
    doubt = f"; not counted: {trial.doubts[0]}" if trial.doubts else ""
    print(f"{trial.rate:.3g}/s: {trial.requests} requests, good {shares}{doubt}", file=sys.stderr, flush=True)


def text(found: Capacity, replicas: int, wanted: float | None, skipped: list[str]) -> str:
    """The frontier, the answer with its interval, and what follows from it."""
    rows: list[tables.Row] = [
        ("rate/s", "outcome", "runs", "requests", "failed", "good/s", "deciding SLO", "share (95 % sure)", "TTFT p50",
         "p90", "TPOT p50", "p90", "in flight"),
        *map(_row, found.levels),
    ]  # fmt: skip
    parts = [tables.columns(rows)] if found.levels else []
    parts.append("\n".join([_answer(found), *_advice(found, replicas, wanted)]))
    if skipped:
        parts.append(f"not looked at, as single requests do not show it: {', '.join(skipped)}")
    return "\n\n".join(parts)


def _row(level: Level) -> tables.Row:
    latencies = [(level.ttft, "p50"), (level.ttft, "p90"), (level.tpot, "p50"), (level.tpot, "p90")]
    shown = [f"{getattr(found, name) * 1000:.0f} ms" if found else "-" for found, name in latencies]
    ratio = f"{level.ratio:.2%} ({level.low:.2%} to {level.high:.2%})" if level.ratio is not None else "-"
    return (
        f"{level.rate:.3g}", str(level.outcome), str(level.runs), str(level.requests), str(level.failed),
        f"{level.good:.2f}", level.worst, ratio, *shown, f"{level.in_flight:.1f}",
    )  # fmt: skip


def _answer(found: Capacity) -> str:
    if found.passed is None and found.failed is None:
        return f"INCONCLUSIVE: nothing is sure ({found.ended}); a larger --budget has room for more runs"
    if found.passed is None:
        return (
            f"FAIL: no rate was found to meet the spec; {found.failed:.3g} requests/s surely does not ({found.ended})"
        )
    above = f"surely not at {found.failed:.3g}" if found.failed else "what is above is not known"
    about = f", about {found.estimated:.3g} where {found.limit} breaks" if found.estimated else ""
    return f"capacity: {found.passed:.3g} requests/s meet the spec, {above}{about} ({found.ended})"


def _advice(found: Capacity, replicas: int, wanted: float | None) -> list[str]:
    if not found.passed or found.in_flight is None:
        return []
    lines = []
    if wanted:
        lines.append(f"replicas for {wanted:g} requests/s: {found.replicas(wanted, replicas)}")
    threshold = scale_out_at(found.in_flight, replicas)
    query = f"sum({catalog.RUNNING.name}) + sum({catalog.WAITING.name})"
    return [
        *lines,
        f"in flight at that rate: {found.in_flight / replicas:.1f} requests per replica",
        f"scale out: HPA averageValue, or KEDA threshold: {threshold} for the query {query} "
        f"({_HEADROOM:.0%} of that, per replica)",
    ]


def scale_out_at(in_flight: float, replicas: int) -> int:
    """Requests in flight per replica at which one more is due: 80 % of what a replica has at capacity, 1 at least."""
    return max(1, math.floor(_HEADROOM * in_flight / replicas))


def _json(found: Capacity, args: argparse.Namespace, skipped: list[str]) -> dict[str, Any]:
    flight = found.in_flight
    return {
        **plain(found),
        "levels": [plain(level) for level in found.levels],
        "in_flight": flight,
        "replicas": found.replicas(args.target_rate, args.replicas) if args.target_rate else None,
        "scale_out_at": scale_out_at(flight, args.replicas) if flight is not None else None,
        "skipped": skipped,
    }
