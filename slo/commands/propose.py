"""`slo-gen propose`: a spec that load tests support, with the evidence beside each SLO."""

import argparse
import dataclasses
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from slo.commands import common, flags
from slo.evidence.propose import Evidence, Proposal, propose
from slo.evidence.runs import NS, Run, RunError, read
from slo.spec.model import API_VERSION, PERIODS
from slo.windows import LOWEST_CAP

NAME, HELP = "propose", "propose a spec that load tests support"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `slo-gen propose`."""
    help_runs = "records or baselines that 'slo-load run' wrote; the worst one decides"
    parser.add_argument("runs", nargs="+", type=Path, metavar="BASELINE", help=help_runs)
    parser.add_argument("--objective", type=flags.share, default=0.95, metavar="SHARE", help="of the latencies (95%%)")
    parser.add_argument(
        "--confidence", type=flags.share, default=0.95, metavar="SHARE", help="of every statement (95%%)"
    )
    parser.add_argument("--service", type=_name, metavar="NAME", help="the spec's service (default: the model's name)")
    parser.add_argument("--period", choices=PERIODS, default="30d", help="the spec's period (30d)")


def run(args: argparse.Namespace) -> int:
    """Print the spec; 1 when the runs are too short for any SLO."""
    if LOWEST_CAP * (1 - args.objective) >= 1:
        raise common.UsageError(f"--objective {args.objective:g} is too low to alert on; take more than 1/3")
    try:
        runs = [found for path in args.runs for found in read(path)]
    except RunError as error:
        raise common.UsageError(str(error)) from None
    if len(kinds := {run.origin.kind for run in runs}) > 1:
        raise common.UsageError(f"runs of several engines: {', '.join(sorted(kind or 'unknown' for kind in kinds))}")
    proposals = propose(runs, args.objective, args.confidence)
    for proposal in proposals:
        if proposal.problem:
            print(f"slo-gen: nothing proposed for {proposal.name}: {proposal.problem}", file=sys.stderr)
    found = any(proposal.objective for proposal in proposals)
    lines = list(_spec(args, runs, proposals)) if found else []
    data = {
        "spec": "\n".join(lines) if lines else None,
        "confidence": args.confidence,
        "runs": [dataclasses.asdict(one.origin) for one in runs],
        "slos": [dataclasses.asdict(proposal) for proposal in proposals],
    }
    if found or args.json:
        common.show(args, data, lines)
    return 0 if found else 1


def _spec(args: argparse.Namespace, runs: Sequence[Run], proposals: Sequence[Proposal]) -> Iterator[str]:
    """The lines of the spec. What comes from files goes into comments, on one line each."""
    yield f"# Proposed by slo-gen. Every bound holds at {args.confidence:.4g} confidence; the worst run decides."
    for one in runs:
        yield f"#   {_line(_origin(one))}"
    if any(one.origin.simulated for one in runs):
        yield "# SIMULATED runs say nothing about real hardware."
    if not all(one.ordered for one in runs):
        yield "# Baselines keep no order of failures: they are taken as independent. Records allow for dependence."
    yield "# A run knows only what happened in it: this load on this hardware, and no rarer events."
    yield f"apiVersion: {API_VERSION}"
    yield f"service: {args.service or _slug(runs[0].origin.model)}"
    yield f"period: {args.period}"
    if kind := runs[0].origin.kind:
        yield f"engine: {kind}"
    yield "slos:"
    for proposal in proposals:
        yield from _slo(proposal, args.objective)


def _slo(proposal: Proposal, wanted: float) -> Iterator[str]:
    if proposal.objective is None:
        yield f"  # nothing proposed for {proposal.name}: {_line(proposal.problem)}"
        return
    for evidence in proposal.evidence:
        yield f"  # {_line(_told(proposal, evidence, wanted))}"
    yield f"  - name: {proposal.name}"
    yield f"    objective: {proposal.objective * 100:.10g}%"
    if proposal.threshold is None:
        yield f"    sli: {{{proposal.name}: {{}}}}"
    else:
        yield f"    sli: {{latency: {{metric: {proposal.name}, threshold: {_seconds(proposal.threshold)}}}}}"


def _told(proposal: Proposal, evidence: Evidence, wanted: float) -> str:
    """One run's evidence in words."""
    observed, bound = evidence.observed or 0.0, evidence.bound or 0.0
    sample = f"(n = {evidence.count}, worth {evidence.size:.0f} independent)"
    if proposal.threshold is None:
        return f"{evidence.path}: {observed:.4%} answered, at least {bound:.4g} {sample}"
    return f"{evidence.path}: p{wanted * 100:g} {_seconds(observed)}, at most {_seconds(bound)} {sample}"


def _origin(one: Run) -> str:
    origin = one.origin
    day = datetime.fromtimestamp(origin.started_ns / NS, UTC).date().isoformat()
    kind = "SIMULATED" if origin.simulated else origin.gpus or "no GPU known"
    return ", ".join(filter(None, (origin.path, day, origin.model, origin.engine, kind, origin.load)))


def _line(text: str) -> str:
    """Text from elsewhere as one line that cannot end a comment."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _seconds(value: float) -> str:
    return f"{value * 1000:.4g}ms" if value < 1 else f"{value:.4g}s"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63].strip("-") or "service"


def _name(text: str) -> str:
    if text != _slug(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name; {_slug(text)!r} is")
    return text
