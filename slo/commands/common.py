"""What the commands share: specs from arguments, files from specs, and how results and mistakes are told."""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from slo.commands import flags
from slo.delivery import artefacts
from slo.engines import ENGINES
from slo.promql import EXPORTER
from slo.rules.rule import Links, RuleGroup
from slo.spec.model import Spec, load


class UsageError(Exception):
    """Something the user can mend; the text is the one line they see."""


def add_specs(parser: argparse.ArgumentParser) -> None:
    """The SPEC arguments."""
    parser.add_argument("specs", nargs="+", type=Path, metavar="SPEC", help="SLO spec file")


def add_output(parser: argparse.ArgumentParser) -> None:
    """Where the generated files are, and whose metric names they use."""
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="where rules/ and dashboards/ are")
    parser.add_argument("--format", choices=artefacts.FORMATS, default="prometheus", help="what the rule files are")
    add_rules(parser)


def add_source(parser: argparse.ArgumentParser) -> None:
    """Whose metric names the rules use."""
    sources = [EXPORTER, *sorted(ENGINES)]
    parser.add_argument("--source", choices=sources, default=EXPORTER, help="whose metric names to use")


def add_rules(parser: argparse.ArgumentParser) -> None:
    """What the rules read, how they are grouped, and where their alerts lead."""
    add_source(parser)
    parser.add_argument(
        "--isolated", action="store_true", help="give each SLO groups of its own, alerts included, that need no others"
    )
    text = "root URL of Grafana, for the links of alerts"
    parser.add_argument("--link-grafana", type=flags.link, metavar="URL", default="", help=text)
    text = "where docs/runbooks is published, for the links of alerts"
    parser.add_argument("--link-runbooks", type=flags.link, metavar="URL", default=Links().runbooks, help=text)


def load_specs(args: argparse.Namespace) -> list[Spec]:
    """The specs that the arguments name, on the engine whose names are used; SpecError for a bad one."""
    source = getattr(args, "source", EXPORTER)
    return [load(path, engine="" if source == EXPORTER else source) for path in args.specs]


def build_files(args: argparse.Namespace, fmt: str) -> dict[str, str]:
    """The files for the specs of the arguments; SpecError or UsageError when they cannot be had."""
    specs = load_specs(args)
    with usage_errors():
        return artefacts.build(specs, args.source, fmt, isolated=args.isolated, links=links(args))


def rule_groups(args: argparse.Namespace, specs: Sequence[Spec]) -> dict[str, Sequence[RuleGroup]]:
    """The rules of the specs, by file; UsageError when they cannot be had."""
    with usage_errors():
        return artefacts.rule_groups(specs, args.source, isolated=args.isolated, links=links(args))


def links(args: argparse.Namespace) -> Links:
    """Where the links of alerts lead."""
    return Links(args.link_grafana, args.link_runbooks)


@contextmanager
def usage_errors() -> Iterator[None]:
    """Turns what specs and flags together cannot give into UsageError."""
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error)) from None


def write(out: Path, files: Mapping[str, str]) -> None:
    """Put the files below `out`; UsageError when that cannot be done."""
    try:
        artefacts.write(out, files)
    except OSError as error:
        raise UsageError(f"cannot write {error.filename}: {error.strerror}") from None


def show(args: argparse.Namespace, data: object, lines: Sequence[str]) -> None:
    """The result on stdout: one JSON object with --json, else lines."""
    print(json.dumps(data) if args.json else "\n".join(lines))
