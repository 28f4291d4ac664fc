"""`slo-gen push`: the dashboards into a Grafana."""

import argparse
import os

from slo.commands import common
from slo.dashboards import boards

NAME, HELP = "push", "send the dashboards to a Grafana; the token comes from GRAFANA_TOKEN"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `slo-gen push`."""
    common.add_specs(parser)
    parser.add_argument("--grafana", metavar="URL", required=True, help="root URL of Grafana")


def run(args: argparse.Namespace) -> int:
    """Push; 0 when Grafana took every board."""
    specs = common.load_specs(args)
    token = os.environ.get("GRAFANA_TOKEN")
    if not token:
        raise common.UsageError("no token: put a Grafana service-account token into GRAFANA_TOKEN")
    try:
        from slo.push import PushError, push
    except ModuleNotFoundError:
        raise common.UsageError("pushing needs grafana-client: pip install 'llm-slo[grafana]'") from None
    try:
        urls = push(args.grafana, token, boards(specs))
    except PushError as error:
        raise common.UsageError(str(error)) from None
    common.show(args, {"dashboards": urls}, [f"pushed {url}" for url in urls])
    return 0
