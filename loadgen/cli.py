"""The command line of `slo-load`: reads arguments, writes results, maps outcomes to exit codes."""

import argparse
import json
import math
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

from loadgen import baseline, record, report, target
from loadgen.arrivals import Arrivals, Load
from loadgen.demo import command as demo
from loadgen.measure import Plan, RunError, measure
from loadgen.page import page
from loadgen.record import Recording, plain
from loadgen.simulator import command as simulator
from loadgen.simulator.command import address
from loadgen.summary import Summary, summarize
from loadgen.verdict import Outcome, judge
from loadgen.workload import Workload
from slo import spec, stdout
from slo.sli import GoodputSli
from slo.spec import Spec

_EXIT = {Outcome.PASS: 0, Outcome.FAIL: 1, Outcome.INCONCLUSIVE: 3}
_USAGE, _INTERRUPTED = 2, 130
# Gaps with a coefficient of variation of 2: clearly burstier than independent users.
_BURSTY = 0.25

_ERRORS = (spec.SpecError, record.RecordError, baseline.BaselineError, target.TargetError, RunError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `slo-load` and return its exit code; argparse raises SystemExit(2) for arguments it cannot read."""
    args = _parser().parse_args(argv)
    try:
        return stdout.run(lambda: int(args.run(args)))
    except _ERRORS as error:
        print(f"slo-load {args.command}: {error}", file=sys.stderr)
        return _USAGE
    except KeyboardInterrupt:
        return _INTERRUPTED


# --- commands ---------------------------------------------------------------------------------------------------------


def _run(args: argparse.Namespace) -> int:
    plan = Plan(
        target=args.target,
        model=args.model,
        timeout=args.timeout,
        api_key=_api_key(args.api_key_env),
        metrics=args.metrics or (),
        load=_load(args),
        workload=Workload(
            endpoint=args.endpoint,
            prompt_tokens=args.prompt_tokens,
            output_tokens=args.output_tokens,
            seed=args.seed,
            salt=secrets.token_hex(4),
        ),
    )
    footer = measure(plan, args.records, force=args.force, quiet=args.quiet, listen_metrics=args.listen_metrics)
    recording = record.read(args.records)
    summary = summarize(recording)
    if args.baseline_out and not footer.interrupted:
        _save(args.baseline_out, baseline.encode(baseline.from_recording(recording)))
    if args.json:
        _print_json({"records": str(args.records), "summary": plain(summary), "client": plain(footer)})
    else:
        print(report.text(recording, summary))
    return _INTERRUPTED if footer.interrupted else 0


def _gate(args: argparse.Namespace) -> int:
    slos = spec.load(args.slo)
    recording = record.read(args.records)
    before = baseline.read(args.baseline) if args.baseline else None
    verdict = judge(slos, recording, before, args.tolerance)
    summary = _summary(recording, slos)
    if args.junit:
        _save(args.junit, report.junit(verdict, slos.service))
    if args.markdown:
        _save(args.markdown, report.markdown(recording, summary, verdict))
    if args.json:
        _print_json({**plain(verdict), "checks": [plain(c) for c in verdict.checks], "summary": plain(summary)})
    else:
        print(report.text(recording, summary, verdict))
    return _EXIT[verdict.outcome]


def _report(args: argparse.Namespace) -> int:
    recording = record.read(args.records)
    slos = spec.load(args.slo) if args.slo else None
    verdict = judge(slos, recording) if slos else None
    summary = _summary(recording, slos)
    if args.html:
        _save(args.html, page(recording, summary, slos, verdict))
    if args.json:
        _print_json(plain(summary))
    else:
        write = report.markdown if args.markdown else report.text
        print(write(recording, summary, verdict))
    return 0


def _summary(recording: Recording, slos: Spec | None) -> Summary:
    goodputs = [slo.sli for slo in slos.slos if isinstance(slo.sli, GoodputSli)] if slos else []
    return summarize(recording, goodputs[0] if goodputs else None)


def _load(args: argparse.Namespace) -> Load:
    if args.rate is None and (args.arrivals or args.burstiness):
        raise RunError("--arrivals and --burstiness shape an open loop; give --rate, not --concurrency")
    if args.burstiness and args.arrivals != "gamma":
        raise RunError("--burstiness belongs to --arrivals gamma")
    arrivals: Arrivals | None = (args.arrivals or "poisson") if args.rate else None
    return Load(
        rate=args.rate,
        arrivals=arrivals,
        burstiness=(args.burstiness or _BURSTY) if arrivals == "gamma" else None,
        concurrency=args.concurrency,
        requests=args.requests,
        duration=args.duration,
    )


def _api_key(variable: str | None) -> str | None:
    key = os.environ.get(variable, "").strip() if variable else None
    if variable and not key:
        raise RunError(f"the environment variable {variable} is not set; it should hold the API key")
    if key and not (key.isascii() and key.isprintable()):
        raise RunError(f"the API key in {variable} holds characters that no HTTP header can carry")
    return key


def _save(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}") from None


def _print_json(value: object) -> None:
    print(json.dumps(value))


# --- arguments --------------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="slo-load", description="Measure an OpenAI-compatible server and gate on SLOs."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="send a load and record every request")
    _add_run_arguments(run)
    gate = commands.add_parser("gate", help="judge records by an SLO spec: 0 PASS, 1 FAIL, 2 usage, 3 INCONCLUSIVE")
    _add_gate_arguments(gate)
    shown = commands.add_parser("report", help="show the figures of a run")
    _add_report_arguments(shown)
    simulate = commands.add_parser("simulate", help="serve a simulated engine and GPU")
    simulator.add_arguments(simulate)
    simulate.set_defaults(run=simulator.run)
    played = commands.add_parser("demo", help="the whole path once: engine, sidecar, rules, load, verdict")
    demo.add_arguments(played)
    played.set_defaults(run=demo.run)
    return parser


def _add_run_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--target", type=_target, required=True, metavar="URL", help="the server, such as http://host:8000")
    add("--model", metavar="NAME", help="needed when the server has several")
    load = parser.add_mutually_exclusive_group(required=True)
    load.add_argument("--rate", type=_positive, metavar="R", help="open loop: requests per second, sent on schedule")
    load.add_argument("--concurrency", type=_count, metavar="N", help="closed loop: requests in flight")
    add("--arrivals", choices=("poisson", "constant", "gamma"), help="gaps of the open loop (default: poisson)")
    add("--burstiness", type=_positive, metavar="B", help=f"of gamma: CV of the gaps = 1/sqrt(B) (default: {_BURSTY})")
    end = parser.add_mutually_exclusive_group(required=True)
    end.add_argument("--requests", type=_count, metavar="N", help="stop after N requests")
    end.add_argument("--duration", type=_positive, metavar="S", help="stop sending after S seconds")
    add("--prompt-tokens", type=_count, default=128, metavar="N", help="prompt length (default: %(default)s)")
    add("--output-tokens", type=_count, default=128, metavar="N", help="answer length (default: %(default)s)")
    add("--endpoint", choices=("chat", "completions"), default="chat", help="which API (default: %(default)s)")
    add("--seed", type=int, default=0, metavar="N", help="of schedule and prompts (default: %(default)s)")
    add("--timeout", type=_positive, default=120.0, metavar="S", help="per request (default: %(default)g s)")
    add("--api-key-env", metavar="VAR", help="environment variable that holds the API key")
    add("--metrics", action="append", metavar="URL", help="expositions to read cache settings and GPU names from "
        "(default: the target's /metrics)")  # fmt: skip
    add("--records", type=Path, required=True, metavar="FILE", help="where to write one line per request")
    add("--force", action="store_true", help="overwrite the records file")
    add("--baseline-out", type=Path, metavar="FILE", help="write a baseline to compare later runs with")
    add("--listen-metrics", type=address, metavar="HOST:PORT", help="serve the figures of the run while it runs on "
        "/metrics there, for a Prometheus to scrape and the load board to show")  # fmt: skip
    add("--json", action="store_true", help="print one JSON object")
    add("--quiet", action="store_true", help="draw no progress")
    parser.set_defaults(run=_run)


def _add_gate_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("records", type=Path, metavar="RECORDS", help="what 'slo-load run' wrote")
    add("--slo", type=Path, required=True, metavar="SPEC", help="the SLO spec to judge by")
    add("--baseline", type=Path, metavar="FILE", help="fail, too, when worse than this baseline")
    add("--tolerance", type=_positive, default=0.10, metavar="T",
        help="how much worse than the baseline is allowed (default: %(default)s)")  # fmt: skip
    add("--junit", type=Path, metavar="FILE", help="write JUnit XML")
    add("--markdown", type=Path, metavar="FILE", help="write the verdict and the figures as Markdown")
    add("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_gate)


def _add_report_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("records", type=Path, metavar="RECORDS", help="what 'slo-load run' wrote")
    add("--slo", type=Path, metavar="SPEC", help="put the verdict of this spec on top")
    add("--html", type=Path, metavar="FILE", help="write a page with charts")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="print Markdown")
    form.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_report)


def _target(text: str) -> target.Target:
    try:
        return target.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 10**9):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
