"""`slo-gen check`: are specs and rules valid, has a live engine their series, what do they cost, what is stale?"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from slo import grammar
from slo.commands import common, flags
from slo.delivery import artefacts
from slo.live import exposition
from slo.rules import cost, scenarios
from slo.rules.rule import RuleGroup
from slo.spec.model import Spec

NAME, HELP = "check", "check the specs, the rules they give, and that the files in --out are these"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `slo-gen check`."""
    common.add_specs(parser)
    common.add_output(parser)
    parser.add_argument("--live", metavar="URL", help="also check against the metrics page of an engine or sidecar")
    parser.add_argument(
        "--pods", type=flags.count, default=8, metavar="N", help="pods to estimate the rules' cost for (8)"
    )
    parser.add_argument(
        "--scrape", type=flags.count, default=15, metavar="SECONDS", help="scrape interval to estimate for (15)"
    )


def run(args: argparse.Namespace) -> int:
    """Check; 0 when all is well, 1 when something is wrong or stale."""
    specs = common.load_specs(args)
    files = common.rule_groups(args, specs)
    stale = artefacts.stale(args.out, common.build_files(args, args.format) | _tests(args, specs, files))
    problems = [*_invalid(files), *(_unlike(args.live, specs) if args.live else ())]
    price = cost.estimate([group for groups in files.values() for group in groups], args.pods, args.scrape)
    data = {
        "stale": stale,
        "problems": problems,
        "cost": {"samples_per_second": round(price.total, 1), "slos": price.slos, "pods": args.pods},
    }
    wrong = [
        *problems,
        *(_mend(args.out / path) for path in stale),
    ]
    common.show(
        args, data, [*(wrong or ["specs and rules are valid, rules and dashboards are up to date"]), _told(price, args)]
    )
    return 1 if wrong else 0


def _mend(path: Path) -> str:
    """What is wrong with a stale file, and what to do."""
    wrong = "is not what the specs give" if path.exists() else "is missing"
    return f"{path} {wrong}; run slo-gen build{' and test' if '.test.' in path.name else ''}"


def _tests(
    args: argparse.Namespace, specs: Sequence[Spec], groups: Mapping[str, Sequence[RuleGroup]]
) -> dict[str, str]:
    """The rules' own tests, as far as there are any."""
    return {
        path: text
        for path, text in scenarios.files(specs, groups, args.source)[0].items()
        if (args.out / path).exists()
    }


def _invalid(files: Mapping[str, Sequence[RuleGroup]]) -> Iterator[str]:
    """Expressions that Prometheus would refuse."""
    for groups in files.values():
        for group in groups:
            for rule in group.rules:
                if wrong := grammar.problem(rule.expr):
                    yield f"{group.name}: not valid PromQL: {wrong}: {rule.expr}"


def _unlike(url: str, specs: Sequence[Spec]) -> Iterator[str]:
    """What the live page lacks."""
    try:
        page = exposition.fetch(url)
    except exposition.PageError as error:
        raise common.UsageError(str(error)) from None
    for spec in specs:
        yield from exposition.problems(page, spec)


def _told(price: cost.Cost, args: argparse.Namespace) -> str:
    return (
        f"estimated cost: {price.total:.0f} samples/s for {price.slos} SLOs over {args.pods} pods "
        f"scraped every {args.scrape} s"
    )
