"""`slo-gen status`: how every SLO stands, from a Prometheus that evaluates its rules."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from slo import tables
from slo.commands import common, live
from slo.live import status_page
from slo.live.status import BURN_WINDOWS, Status, read

NAME, HELP = "status", "show budget left, burn rates and time to exhaustion of every SLO, worst first"
HEADER = ("SLO", "group", "budget left", *(f"burn {window}" for window in BURN_WINDOWS), "spent in", "firing")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `slo-gen status`."""
    common.add_specs(parser)
    live.add_prometheus(parser)
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page, too")


def run(args: argparse.Namespace) -> int:
    """Show; 0 when every SLO has budget left and none pages, else 1: without data nothing is fine."""
    specs = common.load_specs(args)
    with live.prometheus(args) as prometheus:
        found = read(prometheus, specs, now := int(time.time()))
    if args.html:
        _save(args.html, status_page.page(found, prometheus.url, now))
    table = tables.markdown if args.markdown else tables.text
    common.show(args, {"slos": [_plain(status) for status in found]}, table(HEADER, [_row(status) for status in found]))
    return 0 if all(status.fine for status in found) else 1


def _save(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise common.UsageError(f"{path}: cannot be written: {error.strerror}") from None


def _plain(status: Status) -> dict[str, object]:
    return {
        "slo": status.slo.id,
        "group": dict(status.group),
        "objective": status.slo.objective,
        "period_seconds": status.slo.period,
        "budget_left": status.budget_left,
        "burn_rates": dict(status.burn),
        "exhausted_in_seconds": status.exhausted_in,
        "firing": status.firing or None,
        "fine": status.fine,
    }


def _row(status: Status) -> Sequence[str]:
    group = " ".join(status.group.values()) or "-"
    left = "no data" if status.budget_left is None else f"{status.budget_left:.1%}"
    burns = (f"{status.burn[window]:.3g}" if window in status.burn else "-" for window in BURN_WINDOWS)
    return status.slo.id, group, left, *burns, status_page.time_left(status.exhausted_in), status.firing or "-"
