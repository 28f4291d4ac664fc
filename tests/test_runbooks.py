"""Every alert has a runbook that can be followed: its queries read what exists, its links lead somewhere."""

import re
from pathlib import Path

import promql_parser
import pytest
import yaml
from test_generated import RULES, known_names

from slo.cli import COMMANDS

ROOT = Path(__file__).parents[1]
RUNBOOKS = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
SECTIONS = ["First three looks", "Likely causes, by signal", "What to do", "When to escalate"]


def alerts() -> list[dict[str, str]]:
    """The annotations of every shipped alert, by its name."""
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return [{"alert": r["alert"], **r["annotations"]} for group in groups for r in group["rules"] if "alert" in r]


def blocks(text: str, kind: str) -> list[str]:
    """The fenced blocks of a kind, without their indentation."""
    return [block.strip() for block in re.findall(rf"^ *```{kind}\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)]


def test_alerts_and_runbooks_are_the_same() -> None:
    """No alert without a runbook, no runbook without an alert, and the annotation leads there."""
    assert {path.stem for path in RUNBOOKS} == {alert["alert"] for alert in alerts()}
    for alert in alerts():
        assert (ROOT / alert["runbook_url"]).is_file(), alert["runbook_url"]
        assert Path(alert["runbook_url"]).stem == alert["alert"]


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda p: p.stem)
def test_a_runbook_can_be_followed_at_night(path: Path) -> None:
    """What users notice in the first lines, three looks with something to paste, causes, deeds, and an end."""
    text = path.read_text()
    assert re.match(rf"# {path.stem}\n\n\*\*(Page|Ticket)\.\*\* ", text)
    assert "users" in text.split("##")[0].lower()
    assert re.findall(r"^## (.*)", text, re.MULTILINE) == SECTIONS
    looks = text.split("## First three looks")[1].split("\n## ")[0]
    assert re.findall(r"^(\d)\. ", looks, re.MULTILINE) == ["1", "2", "3"]
    assert len(blocks(looks, "promql") + blocks(looks, "sh")) >= 2
    assert len(text.splitlines()) < 80


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda p: p.stem)
def test_its_queries_read_what_exists(path: Path) -> None:
    """Prometheus' grammar accepts them, and each name is the catalogue's or a recorded one; commands are ours."""
    text = path.read_text()
    for query in blocks(text, "promql"):
        promql_parser.parse(query)
        names = set(re.findall(r"\b(?:llm|slo)[_:][a-zA-Z0-9_:]+", re.sub(r'"[^"]*"|\{[^}]*\}', "", query)))
        assert names <= known_names(), names - known_names()
    for mentioned in re.findall(r"`(llm_[a-z0-9_]+)`", text):
        assert mentioned in known_names(), mentioned
    commands = {command.NAME for command in COMMANDS}
    assert set(re.findall(r"slo-gen ([a-z]+)", text)) <= commands


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda p: p.stem)
def test_its_links_lead_somewhere(path: Path) -> None:
    """Every relative link and every document that it names is there."""
    text = path.read_text()
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert (path.parent / target).is_file(), target
    for target in re.findall(r"`(docs/[^`]+)`", text):
        assert (ROOT / target).exists(), target


def test_severities_are_those_of_the_alerts() -> None:
    """A runbook that says Page belongs to an alert that pages."""
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    severity = {r["alert"]: r["labels"]["severity"] for group in groups for r in group["rules"] if "alert" in r}
    for path in RUNBOOKS:
        said = re.search(r"\*\*(\w+)\.\*\*", path.read_text())
        assert said is not None
        assert said[1].lower() == severity[path.stem]
