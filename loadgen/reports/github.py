"""What GitHub Actions shows of a verdict: a job summary, and annotations on the SLO spec."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from loadgen.judging.regression import Outcome
from loadgen.judging.verdict import Verdict


def tell(verdict: Verdict, summary: str, spec: Path, env: Mapping[str, str], stream: TextIO | None = None) -> None:
    """Append `summary` to the job's page and annotate what did not pass, when run by GitHub Actions.

    Annotations go to stderr, which the runner reads as well, so that stdout stays one JSON object with --json.
    """
    if env.get("GITHUB_ACTIONS") != "true":
        return
    stream = stream or sys.stderr
    if page := env.get("GITHUB_STEP_SUMMARY"):
        try:
            with Path(page).open("a", encoding="utf-8") as file:
                file.write(summary + "\n")
        except OSError as error:
            print(f"slo-load gate: {page}: no job summary: {error.strerror}", file=sys.stderr)
    for line in annotations(verdict, spec):
        print(line, file=stream)


def annotations(verdict: Verdict, spec: Path) -> list[str]:
    """A workflow command per check that failed or is inconclusive, and per doubt."""
    told = [("error", "client in doubt", doubt) for doubt in verdict.doubts]
    for check in verdict.checks:
        if check.outcome is not Outcome.PASS:
            told.append(("error", f"{check.outcome} {check.name}", check.text))
    return [
        f"::{kind} file={_property(str(spec))},title={_property(title)}::{_data(text)}" for kind, title, text in told
    ]


def _data(text: str) -> str:
    """Text as workflow commands want it escaped."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
