"""`slo-gen backtest`: what the alerts would have done with the past, and which policy would have done best."""

import argparse
import dataclasses
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from slo import tables
from slo.commands import common, flags, live
from slo.evidence import incidents
from slo.evidence.backtest import Case, Score, best, candidates, case, score
from slo.evidence.history import from_prometheus, from_requests
from slo.evidence.replay import History, Policy
from slo.evidence.runs import read_requests
from slo.promql import duration
from slo.spec.model import Slo, Spec
from slo.windows import BURN_ALERTS, DAY

NAME, HELP = "backtest", "replay the alerts over the past: pages, misses, delays, and which policy would have done best"
HEADER = ("SLO", "group", "pages/week", "tickets/week", "incidents paged", "true pages", "after", "budget lost by then")
# Of fewer incidents than this a recommendation is a hint.
FEW = 5
_WARM_UP = max(alert.long for alert in BURN_ALERTS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `slo-gen backtest`."""
    common.add_specs(parser)
    live.add_prometheus(parser, instead=("--records", "records of 'slo-load run', in place of a Prometheus"))
    common.add_source(parser)
    parser.add_argument("--since", type=flags.span, default=30 * DAY, metavar="SPAN", help="how far back (30d)")
    parser.add_argument("--incidents", type=Path, metavar="FILE", help="YAML or CSV: start and end of each incident")
    text = "without --incidents: errors that use this share of a period's budget are one (2%%)"
    parser.add_argument("--incident-share", type=flags.share, default=0.02, metavar="SHARE", help=text)


def run(args: argparse.Namespace) -> int:
    """Replay and tell; 0."""
    specs = common.load_specs(args)
    labels = incidents.read(args.incidents) if args.incidents else None
    now = int(time.time()) // 60 * 60
    since = 0 if args.records else now - args.since
    histories = _histories(args, specs, since - _WARM_UP, now)
    by_slo: dict[Slo, list[Case]] = {}
    for history in histories:
        by_slo.setdefault(history.slo, []).append(case(history, since, labels, args.incident_share))
    for slo in (slo for spec in specs for slo in spec.slos if slo not in by_slo):
        print(f"slo-gen: no data for {slo.id}", file=sys.stderr)
    if not by_slo:
        raise common.UsageError("nothing to replay: give what holds events of these SLOs")
    rows = [_row(one, score([one], Policy())) for cases in by_slo.values() for one in cases]
    scores = {slo: [score(cases, policy) for policy in candidates()] for slo, cases in by_slo.items()}
    data = {
        "cases": [_case(one) for cases in by_slo.values() for one in cases],
        "policies": {slo.id: [_plain(slo, one) for one in found] for slo, found in scores.items()},
        "best": {slo.id: _plain(slo, best(found)) for slo, found in scores.items()},
    }
    advice = [_advice(slo, found[0], best(found)) for slo, found in scores.items()]
    common.show(args, data, [*tables.text(HEADER, rows), "", *advice])
    return 0


def _histories(args: argparse.Namespace, specs: Sequence[Spec], start: int, end: int) -> list[History]:
    try:
        if args.records:
            requests = read_requests(args.records)
            return [history for spec in specs for history in from_requests(spec, requests)]
        with live.prometheus(args) as server:
            return [h for spec in specs for h in from_prometheus(server, spec, args.source, start, end)]
    except ValueError as error:  # no usable records, or the source lacks a family
        raise common.UsageError(str(error)) from None


# --- in words --------------------------------------------------------------------------------------------------------


def _row(one: Case, found: Score) -> Sequence[str]:
    history = one.replay.history
    return (
        history.slo.id,
        " ".join(history.group.values()) or "-",
        f"{found.pages / found.weeks:.2f}",
        f"{found.tickets / found.weeks:.2f}",
        f"{len(found.delays)} of {found.incidents}",
        f"{found.true_pages} of {found.pages}",
        f"{median(found.delays) / 60:.0f} min" if found.delays else "-",
        f"{median(found.lost):.2%}" if found.lost else "-",
    )


def _advice(slo: Slo, now: Score, found: Score) -> str:
    if not now.incidents:
        return f"{slo.id}: no incident to learn from, {now.pages} pages; keep the alerts as they are"
    if found is now:
        return f"{slo.id}: no policy tried does better than the one in force ({_policy(slo, now.policy)})"
    hint = f" Only {now.incidents} incidents: a hint, no more." if now.incidents < FEW else ""
    return f"{slo.id}: better: {_policy(slo, found.policy)}. It {_told(found)}; the one in force {_told(now)}.{hint}"


def _policy(slo: Slo, policy: Policy) -> str:
    pages = [alert for alert in policy.alerts if alert.severity == "page"]
    windows = [f"{policy.factor(a, slo):.3g} over {duration(a.long)} and {duration(a.short)}" for a in pages]
    return f"page at a burn rate of {', or of '.join(windows)}"


def _told(found: Score) -> str:
    soon = f" after {median(found.delays) / 60:.0f} min with {median(found.lost):.2%} lost" if found.delays else ""
    false_pages = found.pages - found.true_pages
    return f"pages for {len(found.delays)} of {found.incidents} incidents{soon}, and {false_pages} times for none"


# --- as JSON ---------------------------------------------------------------------------------------------------------


def _case(one: Case) -> dict[str, object]:
    history, found = one.replay.history, score([one], Policy())
    firings = [firing for firing in one.replay.firings(Policy()) if firing.start >= one.since]
    return {
        "slo": history.slo.id,
        "group": dict(history.group),
        "incidents": [{"start": _time(i.start), "end": _time(i.end)} for i in one.incidents],
        "firings": [{"severity": f.severity, "start": _time(f.start), "end": _time(f.end)} for f in firings],
        **_plain(history.slo, found),
    }


def _plain(slo: Slo, found: Score) -> dict[str, object]:
    policy = found.policy
    alerts = [dataclasses.asdict(alert) | {"factor": policy.factor(alert, slo)} for alert in policy.alerts]
    return {
        "alerts": alerts,
        "detection_share": policy.detection_share,
        "weeks": found.weeks,
        "pages": found.pages,
        "true_pages": found.true_pages,
        "tickets": found.tickets,
        "incidents_seen": found.incidents,
        "incidents_paged": len(found.delays),
        "recall": found.recall,
        "precision": found.precision,
        "seconds_to_page": list(found.delays),
        "budget_lost_before_page": list(found.lost),
    }


def _time(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).isoformat()
