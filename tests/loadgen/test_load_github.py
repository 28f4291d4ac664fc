"""What GitHub Actions gets to see: a summary appended, annotations that are escaped, and nothing elsewhere."""

import io
from pathlib import Path

from load_records import footer, recording, request

from loadgen.judging.verdict import judge
from loadgen.reports.github import annotations, tell
from slo import catalog
from slo.sli import LatencySli
from slo.spec.model import Slo, Spec

SLO = Slo(service="chat", name="ttft", objective=0.95, sli=LatencySli(catalog.TTFT, 0.25))
SPEC = Spec(service="chat", slos=(SLO,))
SLOW = judge(SPEC, recording([request(i, ttft=0.5) for i in range(100)]))
PATH = Path("specs/a,b.yaml")


def test_failures_and_doubts_are_annotated() -> None:
    """A workflow command each, with what the format reserves escaped; what passed is silent."""
    (line,) = annotations(SLOW, PATH)
    assert line.startswith("::error file=specs/a%2Cb.yaml,title=FAIL chat-ttft::ttft ≤ 250 ms: 0.00%25 good")
    doubted = judge(SPEC, recording([request(i) for i in range(100)], footer(interrupted=True)))
    assert annotations(doubted, PATH) == [
        "::error file=specs/a%2Cb.yaml,title=client in doubt::the run was interrupted"
    ]


def test_the_job_summary_is_appended(tmp_path: Path) -> None:
    """Steps before this one have written there, too."""
    page, out = tmp_path / "summary.md", io.StringIO()
    page.write_text("before\n")
    tell(SLOW, "## FAIL", PATH, {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(page)}, out)
    assert page.read_text() == "before\n## FAIL\n"
    assert out.getvalue().startswith("::error")


def test_elsewhere_nothing_is_written(tmp_path: Path) -> None:
    """Only GitHub reads workflow commands."""
    out = io.StringIO()
    tell(SLOW, "text", PATH, {"GITHUB_STEP_SUMMARY": str(tmp_path / "s")}, out)
    assert out.getvalue() == ""
    assert not list(tmp_path.iterdir())


def test_a_summary_that_cannot_be_written_fails_nothing(tmp_path: Path) -> None:
    """The verdict matters more than its page."""
    tell(SLOW, "", PATH, {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(tmp_path)}, io.StringIO())
