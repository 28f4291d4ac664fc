"""`slo-gen push`: the dashboards into a Grafana, or the rules into a Mimir."""

import argparse
import os
from collections.abc import Mapping, Sequence

import yaml

from slo.commands import common
from slo.dashboards import boards
from slo.mimir import Change, Mimir, MimirError, RuleGroup, plan

NAME, HELP = "push", "send the dashboards to a Grafana, or the rules to a Mimir"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `slo-gen push`."""
    common.add_specs(parser)
    to = parser.add_mutually_exclusive_group(required=True)
    to.add_argument("--grafana", metavar="URL", help="root URL of Grafana; the token comes from GRAFANA_TOKEN")
    to.add_argument("--mimir", metavar="URL", help="root URL of Mimir; a bearer token comes from MIMIR_TOKEN")
    parser.add_argument("--tenant", metavar="NAME", help="X-Scope-OrgID to send to Mimir")
    parser.add_argument(
        "--namespace", default="llm-slo", metavar="NAME", help="Mimir's rule namespace; groups of others in it go"
    )
    common.add_source(parser)
    parser.add_argument("--dry-run", action="store_true", help="show what would change in Mimir, and change nothing")


def run(args: argparse.Namespace) -> int:
    """Push; 0 when all was taken."""
    return _push_rules(args) if args.mimir else _push_boards(args)


def _push_rules(args: argparse.Namespace) -> int:
    wanted = _groups(common.build_files(args, "prometheus"))
    try:
        with Mimir(args.mimir, args.namespace, os.environ.get("MIMIR_TOKEN"), args.tenant) as mimir:
            changes = plan(wanted, mimir.groups())
            for change in changes if not args.dry_run else ():
                mimir.apply(change, wanted)
    except MimirError as error:
        raise common.UsageError(str(error)) from None
    data = {"dry_run": args.dry_run, "changes": [{"action": c.action, "group": c.group} for c in changes]}
    common.show(args, data, _told(changes, args.dry_run) or [f"{len(wanted)} groups are there already, as wanted"])
    return 0


def _groups(files: Mapping[str, str]) -> dict[str, RuleGroup]:
    """The rule groups in the files, by name."""
    texts = [text for name, text in files.items() if name.startswith("rules/")]
    return {group["name"]: group for text in texts for group in yaml.safe_load(text)["groups"]}


def _told(changes: Sequence[Change], dry_run: bool) -> list[str]:
    if dry_run:
        return [line for change in changes for line in (f"would {change.action} {change.group}", *change.diff)]
    return [f"{change.action}d {change.group}" for change in changes]


def _push_boards(args: argparse.Namespace) -> int:
    if args.dry_run:
        raise common.UsageError("--dry-run goes with --mimir only; dashboards are replaced as they are")
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
