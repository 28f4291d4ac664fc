"""`slo-gen export`: specs as OpenSLO v1 documents."""

import argparse

from slo.commands import common
from slo.openslo import exporting

NAME, HELP = "export", "print the specs as OpenSLO v1 documents"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `slo-gen export`."""
    common.add_specs(parser)
    common.add_source(parser)


def run(args: argparse.Namespace) -> int:
    """Print; 0."""
    specs = common.load_specs(args)
    with common.usage_errors():
        text = exporting.text(specs, args.source)
    common.show(args, {"openslo": text}, [text.rstrip("\n")])
    return 0
