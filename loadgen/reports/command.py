"""`slo-load gate`, `report` and `compare`: what becomes of records. They read files and contact nobody."""

import argparse
import os
from pathlib import Path

from loadgen.arguments import positive, print_json, save, steady_rule, terminal_width
from loadgen.judging.comparison import TOLERANCE, compare
from loadgen.judging.regression import Outcome
from loadgen.judging.verdict import judge
from loadgen.reports import github, report
from loadgen.reports.page import page
from loadgen.reports.tabular import csv
from loadgen.results import baseline, reading
from loadgen.results.levels import levels
from loadgen.results.record import Recording, plain
from loadgen.results.steady import steady
from loadgen.results.summary import Summary, summarize
from slo.sli import GoodputSli
from slo.spec import model as spec
from slo.spec.model import Spec

EXIT = {Outcome.PASS: 0, Outcome.FAIL: 1, Outcome.INCONCLUSIVE: 3}


def add_gate(parser: argparse.ArgumentParser) -> None:
    """The arguments of `slo-load gate`."""
    add = parser.add_argument
    _add_records(parser, "several runs of one version count together")
    add("--slo", type=Path, required=True, metavar="SPEC", help="the SLO spec to judge by")
    add("--baseline", type=Path, action="append", default=[], metavar="FILE", help="fail, too, when worse than this "
        "baseline or records file; give several runs to tell change from what differs from run to run")  # fmt: skip
    _add_tolerance(parser)
    _add_steady(parser)
    add("--junit", type=Path, metavar="FILE", help="write JUnit XML")
    add("--markdown", type=Path, metavar="FILE", help="write the verdict and the figures as Markdown")
    add("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_gate)


def add_report(parser: argparse.ArgumentParser) -> None:
    """The arguments of `slo-load report`."""
    add = parser.add_argument
    _add_records(parser, "the first is shown, all of them where rate meets latency")
    add("--slo", type=Path, metavar="SPEC", help="put the verdict of this spec on top")
    _add_steady(parser)
    add("--html", type=Path, metavar="FILE", help="write a page with charts")
    add("--csv", type=Path, metavar="FILE", help="write a row per request")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="print Markdown")
    form.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_report)


def add_compare(parser: argparse.ArgumentParser) -> None:
    """The arguments of `slo-load compare`."""
    for name in ("before", "after"):
        parser.add_argument(name, type=Path, metavar=name.upper(), help="a records or baseline file")
    _add_tolerance(parser)
    _add_steady(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_compare)


def _add_records(parser: argparse.ArgumentParser, several: str) -> None:
    parser.add_argument(
        "records", type=Path, nargs="+", metavar="RECORDS", help=f"what 'slo-load run' wrote; {several}"
    )


def _add_tolerance(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tolerance", type=positive, default=TOLERANCE, metavar="T", help="the smallest worsening of "
        "a median that matters; twice that of p90, four times of p99 (default: %(default)s)")  # fmt: skip


def _add_steady(parser: argparse.ArgumentParser) -> None:
    text = "requests that count: auto drops warm-up and cool-down, none nothing, a number its seconds at either end"
    parser.add_argument("--steady", type=steady_rule, default="auto", metavar="RULE", help=f"{text} (default: auto)")


def _gate(args: argparse.Namespace) -> int:
    slos = spec.load(args.slo)
    before = [run for path in args.baseline for run in baseline.read(path, args.steady)]  # first: they are small
    runs = [reading.read(path) for path in args.records]
    verdict = judge(slos, *runs, baselines=before, tolerance=args.tolerance, rule=args.steady)
    shown = [steady(run, args.steady)[0] for run in runs]
    summaries = [_summary(run, slos) for run in shown]
    if args.junit:
        save(args.junit, report.junit(verdict, slos.service))
    text = report.markdown(shown[0], summaries[0], verdict)
    if args.markdown:
        save(args.markdown, text)
    github.tell(verdict, text, args.slo, os.environ)
    if args.json:
        print_json(
            {**report.verdict_json(verdict), "summary": plain(summaries[0]), "summaries": [plain(s) for s in summaries]}
        )
    else:
        print(report.text(shown[0], summaries[0], verdict, width=terminal_width()))
    return EXIT[verdict.outcome]


def _report(args: argparse.Namespace) -> int:
    runs = [reading.read(path) for path in args.records]
    slos = spec.load(args.slo) if args.slo else None
    shown, cut = steady(runs[0], args.steady)
    verdict = judge(slos, runs[0], rule=args.steady) if slos else None
    summary = _summary(shown, slos)
    if args.html:
        save(args.html, page(runs, args.steady, summary, slos, verdict))
    if args.csv:
        save(args.csv, csv(runs[0]))
    if args.json:
        stages = [{"stage": stage.title, **plain(summarize(part))} for stage, part in levels(shown)]
        more = {"stages": stages, "verdict": report.verdict_json(verdict) if verdict else None}
        print_json({**plain(summary), "steady": plain(cut), **{name: value for name, value in more.items() if value}})
    elif args.markdown:
        print(report.markdown(shown, summary, verdict, cut))
    else:
        print(report.text(shown, summary, verdict, cut, terminal_width()))
    return 0


def _compare(args: argparse.Namespace) -> int:
    before, after = (baseline.read(path, args.steady) for path in (args.before, args.after))
    found = compare(before, after, args.tolerance)
    if args.json:
        print_json(report.comparison_json(found))
    else:
        print(report.comparison_text(found, terminal_width()))
    return 0


def _summary(recording: Recording, slos: Spec | None) -> Summary:
    goodputs = [slo.sli for slo in slos.slos if isinstance(slo.sli, GoodputSli)] if slos else []
    return summarize(recording, goodputs[0] if goodputs else None)
