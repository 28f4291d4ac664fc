"""The command line of `slo-load`: reads arguments, writes results, maps outcomes to exit codes."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from loadgen.arguments import print_json, save, terminal_width
from loadgen.baselining import command as baselining
from loadgen.capacity import sizing
from loadgen.demo import command as demo
from loadgen.reports import command as reporting
from loadgen.reports import convert, report
from loadgen.results import baseline, reading, record
from loadgen.results.record import plain
from loadgen.results.summary import summarize
from loadgen.running import options
from loadgen.running.measure import RunError, measure
from loadgen.simulator import command as simulator
from loadgen.simulator.command import address
from loadgen.wire import target
from slo import stdout
from slo.arguments import USAGE, Parser, add_version
from slo.spec import model as spec

_INCONCLUSIVE, _INTERRUPTED = 3, 130

_ERRORS = (spec.SpecError, record.RecordError, baseline.BaselineError, target.TargetError, RunError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `slo-load` and return its exit code; argparse raises SystemExit(2) for arguments it cannot read."""
    args = _parser().parse_args(argv)
    try:
        return stdout.run(lambda: int(args.run(args)))
    except _ERRORS as error:
        print(f"slo-load {args.command}: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return _INTERRUPTED


# --- commands ---------------------------------------------------------------------------------------------------------


def _run(args: argparse.Namespace) -> int:
    plan = options.plan(args)
    footer = measure(plan, args.records, force=args.force, quiet=args.quiet, listen_metrics=args.listen_metrics)
    recording = reading.read(args.records)
    _export_spans(recording)
    summary = summarize(recording)
    if args.baseline_out and footer.interrupted:
        print(f"slo-load run: {args.baseline_out}: not written, as the run did not come to its end", file=sys.stderr)
    elif args.baseline_out:
        save(args.baseline_out, baseline.encode(baseline.from_recording(recording)))
    if args.json:
        print_json({"records": str(args.records), "summary": plain(summary), "client": plain(footer)})
    else:
        print(report.text(recording, summary, width=terminal_width()))
    if footer.lost_workers:
        print(f"slo-load run: {footer.loss}; what they had recorded is kept", file=sys.stderr)
        return _INCONCLUSIVE
    return _INTERRUPTED if footer.interrupted else 0


def _export_spans(recording: record.Recording) -> None:
    if not any(name.startswith("OTEL_EXPORTER_OTLP") for name in os.environ):
        return
    from loadgen.running import spans

    if spans.wanted(os.environ):
        sent, of = spans.export(recording)
        if sent < of:
            print(f"slo-load run: the endpoint that OTEL_* names took {sent} of {of} spans", file=sys.stderr)


# --- arguments --------------------------------------------------------------------------------------------------------


def _parser() -> Parser:
    parser = Parser(prog="slo-load", description="Measure an OpenAI-compatible server and gate on SLOs.")
    add_version(parser)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="send a load and record every request")
    _add_run_arguments(run)
    reporting.add_gate(
        commands.add_parser("gate", help="judge records by an SLO spec: 0 PASS, 1 FAIL, 2 usage, 3 INCONCLUSIVE")
    )
    reporting.add_report(commands.add_parser("report", help="show the figures of a run"))
    reporting.add_compare(commands.add_parser("compare", help="show how a run differs from another, with bounds"))
    convert.add_arguments(commands.add_parser("convert", help="turn records into Parquet, or back"))
    sizing.add_arguments(commands.add_parser("capacity", help="find the highest rate that meets an SLO spec"))
    baselining.add_arguments(
        commands.add_parser("baseline", help="engine, sidecar, capacity, a run and the spec it supports, as files")
    )
    simulate = commands.add_parser("simulate", help="serve a simulated engine and GPU")
    simulator.add_arguments(simulate)
    simulate.set_defaults(run=simulator.run)
    played = commands.add_parser("demo", help="the whole path once: engine, sidecar, rules, load, verdict")
    demo.add_arguments(played)
    played.set_defaults(run=demo.run)
    return parser


def _add_run_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_target(parser)
    options.add_load(parser)
    options.add_workload(parser)
    add = parser.add_argument
    add("--records", type=Path, required=True, metavar="FILE", help="where to write one line per request")
    add("--force", action="store_true", help="overwrite the records file")
    add("--baseline-out", type=Path, metavar="FILE", help="write a baseline to compare later runs with")
    add("--listen-metrics", type=address, metavar="HOST:PORT", help="serve the figures of the run while it runs on "
        "/metrics there, for a Prometheus to scrape and the load board to show")  # fmt: skip
    add("--json", action="store_true", help="print one JSON object")
    add("--quiet", action="store_true", help="draw no progress")
    parser.set_defaults(run=_run)
