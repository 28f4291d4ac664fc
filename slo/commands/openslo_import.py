"""`slo-gen import`: OpenSLO v1 documents into specs."""

import argparse
from pathlib import Path

from slo.commands import common
from slo.openslo import importing

NAME, HELP = "import", "turn OpenSLO v1 documents into specs, or say which field stands in the way"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `slo-gen import`."""
    parser.add_argument("file", type=Path, metavar="FILE", help="OpenSLO v1 documents")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write SERVICE.yaml here for each service")


def run(args: argparse.Namespace) -> int:
    """Print the spec of the only service, or write one file per service; 0."""
    specs = importing.read(args.file)
    if args.out is None:
        if len(specs) > 1 and not args.json:
            raise common.UsageError(f"{args.file} has SLOs of {len(specs)} services; give --out DIR for their specs")
        common.show(args, {"specs": specs}, [text.rstrip("\n") for text in specs.values()])
        return 0
    common.write(args.out, {f"{service}.yaml": text for service, text in specs.items()})
    written = [str(args.out / f"{service}.yaml") for service in specs]
    common.show(args, {"written": written}, [f"wrote {path}" for path in written])
    return 0
