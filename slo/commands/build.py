"""`slo-gen build`: rules and dashboards from specs."""

import argparse

from slo.commands import common

NAME, HELP = "build", "write rules and dashboards for the specs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `slo-gen build`."""
    common.add_specs(parser)
    common.add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Write the files; 0."""
    files = common.build_files(args, args.format)
    common.write(args.out, files)
    written = [str(args.out / relative) for relative in files]
    common.show(args, {"written": written}, [f"wrote {path}" for path in written])
    return 0
