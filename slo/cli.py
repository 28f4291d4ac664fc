"""`slo-gen`: the edge where arguments, files and exit codes are."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from slo import artefacts, catalog
from slo.promql import EXPORTER
from slo.spec import Spec, SpecError, load

USAGE = 2


class UsageError(Exception):
    """Something the user can mend; the text is the one line they see."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `slo-gen`; returns the exit code: 0, 1 for stale files, 2 for bad usage or a bad spec."""
    args = _parser().parse_args(argv)
    try:
        return int(args.run(args))
    except (SpecError, UsageError) as error:
        print(f"slo-gen: {error}", file=sys.stderr)
        return USAGE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="slo-gen", description="SLO spec in, Prometheus rules and dashboards out.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('llm-slo')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    build = _command(commands, "build", _build, "write rules and dashboards for the specs")
    build.add_argument("--format", choices=artefacts.FORMATS, default="prometheus", help="what the rule files are")

    check = _command(commands, "check", _check, "check the specs, and that the files in --out are what they give")
    check.set_defaults(format="prometheus")

    push = _command(commands, "push", _push, "send the dashboards to a Grafana; the token comes from GRAFANA_TOKEN")
    push.add_argument("--grafana", metavar="URL", required=True, help="root URL of Grafana")
    return parser


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, run: object, text: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.add_argument("specs", nargs="+", type=Path, metavar="SPEC", help="SLO spec file")
    if name != "push":
        parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="where rules/ and dashboards/ are")
        parser.add_argument("--source", choices=_sources(), default=EXPORTER, help="whose metric names to use")
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of text")
    parser.set_defaults(run=run)
    return parser


def _sources() -> list[str]:
    engines = {engine for metric in catalog.families() for engine in metric.upstream if engine != "dcgm"}
    return [EXPORTER, *sorted(engines)]


def _build(args: argparse.Namespace) -> int:
    files = _files(args)
    try:
        artefacts.write(args.out, files)
    except OSError as error:
        raise UsageError(f"cannot write {error.filename}: {error.strerror}") from None
    written = [str(args.out / relative) for relative in files]
    _print(args, {"written": written}, [f"wrote {path}" for path in written])
    return 0


def _check(args: argparse.Namespace) -> int:
    stale = artefacts.stale(args.out, _files(args))
    lines = [f"{args.out / path} is not what the specs give; run slo-gen build" for path in stale]
    _print(args, {"stale": stale}, lines or ["specs are valid, rules and dashboards are up to date"])
    return 1 if stale else 0


def _push(args: argparse.Namespace) -> int:
    try:
        from slo.push import PushError, push
    except ModuleNotFoundError:
        raise UsageError("pushing needs grafana-client: pip install 'llm-slo[grafana]'") from None
    from slo.dashboards import boards

    token = os.environ.get("GRAFANA_TOKEN")
    if not token:
        raise UsageError("no token: put a Grafana service-account token into GRAFANA_TOKEN")
    try:
        urls = push(args.grafana, token, boards(_specs(args)))
    except PushError as error:
        raise UsageError(str(error)) from None
    _print(args, {"dashboards": urls}, [f"pushed {url}" for url in urls])
    return 0


def _files(args: argparse.Namespace) -> dict[str, str]:
    try:
        return artefacts.build(_specs(args), args.source, args.format)
    except ValueError as error:
        if isinstance(error, SpecError):
            raise
        raise UsageError(str(error)) from None


def _specs(args: argparse.Namespace) -> list[Spec]:
    return [load(path) for path in args.specs]


def _print(args: argparse.Namespace, data: object, lines: Sequence[str]) -> None:
    print(json.dumps(data) if args.json else "\n".join(lines))
