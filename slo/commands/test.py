"""`slo-gen test`: unit tests of the generated rules, written beside them, and run where promtool is installed."""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from slo.commands import common
from slo.delivery import artefacts
from slo.rules import scenarios

NAME, HELP = "test", "write promtool unit tests beside the rules, and run them where promtool is installed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `slo-gen test`."""
    common.add_specs(parser)
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="where rules/ is")
    common.add_rules(parser)


def run(args: argparse.Namespace) -> int:
    """Write and run; 0 when all passed or promtool is not installed, 1 when a test failed."""
    specs = common.load_specs(args)
    groups = common.rule_groups(args, specs)
    stale = artefacts.stale(
        args.out, {k: v for k, v in common.build_files(args, "prometheus").items() if "rules/" in k}
    )
    if stale:
        raise common.UsageError(f"{args.out / stale[0]} is not what the specs give; run slo-gen build, then test it")
    files, without = scenarios.files(specs, groups, args.source)
    common.write(args.out, files)
    for slo, why in without.items():
        print(f"slo-gen: no test for {slo}: {why}", file=sys.stderr)
    passed = _promtool([args.out / path for path in files])
    written = [str(args.out / path) for path in files]
    told = {True: "passed", False: "failed", None: "written; install promtool to run it"}[passed]
    common.show(args, {"written": written, "passed": passed, "without": without}, [f"{p}: {told}" for p in written])
    return int(passed is False)


def _promtool(paths: Sequence[Path]) -> bool | None:
    """Whether promtool passes the tests; None where it is not installed. Its complaints go to stderr."""
    if shutil.which("promtool") is None:
        return None
    done = subprocess.run(["promtool", "test", "rules", *paths], capture_output=True, text=True, check=False)  # noqa: S603, S607
    if done.returncode:
        print(done.stdout + done.stderr, file=sys.stderr)
    return done.returncode == 0
