"""What the commands that ask a Prometheus share."""

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slo.commands.common import UsageError
from slo.live.prometheus import Prometheus, PrometheusError


def add_prometheus(parser: argparse.ArgumentParser, instead: tuple[str, str] | None = None) -> None:
    """Which Prometheus to ask and as whom, or a file in place of it: `instead` is its flag and help."""
    text = "root URL of a Prometheus (Mimir: with /prometheus); a bearer token comes from PROMETHEUS_TOKEN"
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--prometheus", metavar="URL", help=text)
    if instead:
        source.add_argument(instead[0], type=Path, metavar="FILE", help=instead[1])
    parser.add_argument("--tenant", metavar="NAME", help="X-Scope-OrgID to send, for Mimir and its like")


@contextmanager
def prometheus(args: argparse.Namespace) -> Iterator[Prometheus]:
    """The Prometheus of the arguments; its errors become UsageError, its warnings lines on stderr."""
    try:
        with Prometheus(args.prometheus, os.environ.get("PROMETHEUS_TOKEN"), args.tenant) as server:
            yield server
    except PrometheusError as error:
        raise UsageError(str(error)) from None
    for warning in server.warnings:
        print(f"slo-gen: {server.url} warns: {warning}", file=sys.stderr)
