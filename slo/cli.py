"""`slo-gen`: the edge where arguments become commands and mistakes become exit codes."""

import sys
from collections.abc import Sequence

from slo import stdout
from slo.arguments import USAGE, Parser, add_version
from slo.commands import backtest, build, check, explain, openslo_export, openslo_import, propose, push, status, test
from slo.commands.common import UsageError
from slo.spec.model import SpecError

COMMANDS = (build, check, explain, test, push, status, propose, backtest, openslo_import, openslo_export)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `slo-gen`; returns the exit code: 0, 1 for what a command found wrong, 2 for bad usage or a bad spec."""
    args = _parser().parse_args(argv)
    try:
        return stdout.run(lambda: int(args.run(args)))
    except (SpecError, UsageError) as error:
        print(f"slo-gen: {error}", file=sys.stderr)
        return USAGE


def _parser() -> Parser:
    parser = Parser(prog="slo-gen", description="SLO spec in, Prometheus rules and dashboards out.")
    add_version(parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        sentence = f"{command.HELP[0].upper()}{command.HELP[1:]}."
        added = commands.add_parser(command.NAME, help=command.HELP, description=sentence)
        command.add_arguments(added)
        added.add_argument("--json", action="store_true", help="print one JSON object in place of text")
        added.set_defaults(run=command.run)
    return parser
