"""What the commands that ask a Prometheus share."""

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from slo.commands.common import UsageError
from slo.prometheus import Prometheus, PrometheusError


def add_prometheus(parser: argparse.ArgumentParser) -> None:
    """Which Prometheus to ask, and as whom."""
    text = "root URL of a Prometheus (Mimir: with /prometheus); a bearer token comes from PROMETHEUS_TOKEN"
    parser.add_argument("--prometheus", metavar="URL", required=True, help=text)
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
