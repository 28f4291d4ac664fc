"""`slo-gen push`: the dashboards into a Grafana, or the rules into a Mimir."""

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from slo.boards.dashboards import boards
from slo.commands import common
from slo.delivery import mimir
from slo.delivery.mimir import Mimir, MimirError, RuleGroup

NAME, HELP = "push", "send the dashboards to a Grafana, or the rules to a Mimir"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `slo-gen push`."""
    common.add_specs(parser)
    to = parser.add_mutually_exclusive_group(required=True)
    to.add_argument("--grafana", metavar="URL", help="root URL of Grafana; a token comes from GRAFANA_TOKEN")
    to.add_argument("--mimir", metavar="URL", help="root URL of Mimir; a bearer token comes from MIMIR_TOKEN")
    parser.add_argument("--tenant", metavar="NAME", help="X-Scope-OrgID to send to Mimir")
    parser.add_argument(
        "--namespace", default="llm-slo", metavar="NAME", help="Mimir's rule namespace; groups of others in it go"
    )
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="read Grafana's token from there")
    parser.add_argument("--datasource", metavar="UID", help="Grafana's data source to begin with (default: its own)")
    common.add_rules(parser)
    parser.add_argument("--dry-run", action="store_true", help="show what would change, and change nothing")


def run(args: argparse.Namespace) -> int:
    """Push; 0 when all was taken."""
    return _push_rules(args) if args.mimir else _push_boards(args)


def _push_rules(args: argparse.Namespace) -> int:
    wanted = _groups(common.build_files(args, "mimir"))
    try:
        with Mimir(args.mimir, args.namespace, os.environ.get("MIMIR_TOKEN"), args.tenant) as ruler:
            changes = mimir.plan(wanted, ruler.groups())
            for change in changes if not args.dry_run else ():
                ruler.apply(change, wanted)
    except MimirError as error:
        raise common.UsageError(str(error)) from None
    data = {"dry_run": args.dry_run, "changes": [{"action": c.action, "group": c.group} for c in changes]}
    common.show(args, data, _told(changes, args.dry_run) or [f"{len(wanted)} groups are there already, as wanted"])
    return 0


def _groups(files: Mapping[str, str]) -> dict[str, RuleGroup]:
    """The rule groups in the files, by name."""
    texts = [text for name, text in files.items() if name.startswith("rules/")]
    return {group["name"]: group for text in texts for group in yaml.safe_load(text)["groups"]}


def _told(changes: Sequence[mimir.Change], dry_run: bool) -> list[str]:
    if dry_run:
        return [line for change in changes for line in (f"would {change.action} {change.group}", *change.diff)]
    return [f"{change.action}d {change.group}" for change in changes]


def _push_boards(args: argparse.Namespace) -> int:
    wanted = list(boards(common.load_specs(args), args.datasource).values())
    token = _token(args.token_file)
    try:
        from slo.delivery.grafana import Grafana, PushError, plan
    except ModuleNotFoundError:
        raise common.UsageError("pushing needs grafana-client: pip install 'llm-slo[grafana]'") from None
    try:
        grafana = Grafana(args.grafana, token)
        changes = plan(wanted, grafana.present([str(model["uid"]) for model in wanted]))
        urls = [] if args.dry_run else grafana.store(changes)
    except PushError as error:
        raise common.UsageError(str(error)) from None
    data = {"dry_run": args.dry_run, "changes": [{"action": c.action, "uid": c.model["uid"]} for c in changes]}
    told = [line for c in changes for line in (f"would {c.action} {c.model['title']}", *c.diff)] if args.dry_run else []
    told += [f"{change.action}d {url}" for change, url in zip(changes, urls, strict=not args.dry_run)]
    common.show(args, data, told or [f"{len(wanted)} dashboards are there already, as wanted"])
    return 0


def _token(file: Path | None) -> str:
    try:
        token = (file.read_text(encoding="utf-8") if file else os.environ.get("GRAFANA_TOKEN", "")).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise common.UsageError(f"{file}: cannot be read: {error}") from None
    if not token or not token.isascii() or not token.isprintable():
        where = f"the file {file}" if file else "GRAFANA_TOKEN"
        raise common.UsageError(f"no token: put a Grafana service-account token into {where}")
    return token
