"""`slo-gen`: the edge where arguments become commands and mistakes become exit codes."""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import NoReturn

from slo import stdout
from slo.commands import backtest, build, check, explain, openslo_export, openslo_import, propose, push, status, test
from slo.commands.common import UsageError
from slo.spec.model import SpecError

USAGE = 2
COMMANDS = (build, check, explain, test, push, status, propose, backtest, openslo_import, openslo_export)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `slo-gen`; returns the exit code: 0, 1 for what a command found wrong, 2 for bad usage or a bad spec."""
    args = _parser().parse_args(argv)
    try:
        return stdout.run(lambda: int(args.run(args)))
    except (SpecError, UsageError) as error:
        print(f"slo-gen: {error}", file=sys.stderr)
        return USAGE


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line in place of argparse's page."""
        self.exit(USAGE, f"{self.prog}: {message}; see --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="slo-gen", description="SLO spec in, Prometheus rules and dashboards out.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('llm-slo')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        added = commands.add_parser(command.NAME, help=command.HELP, description=f"{command.HELP.capitalize()}.")
        command.add_arguments(added)
        added.add_argument("--json", action="store_true", help="print one JSON object in place of text")
        added.set_defaults(run=command.run)
    return parser
