"""`slo-gen check`: are the specs valid, and are the generated files what they give?"""

import argparse

from slo import artefacts
from slo.commands import common

NAME, HELP = "check", "check the specs, and that the files in --out are what they give"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `slo-gen check`."""
    common.add_specs(parser)
    common.add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Compare; 0 when all is up to date, 1 when a file is stale or missing."""
    stale = artefacts.stale(args.out, common.build_files(args, "prometheus"))
    lines = [f"{args.out / path} is not what the specs give; run slo-gen build" for path in stale]
    common.show(args, {"stale": stale}, lines or ["specs are valid, rules and dashboards are up to date"])
    return 1 if stale else 0
