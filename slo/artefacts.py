"""The files that follow from specs: relative path -> text, and how they are written and compared."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from slo import render, rules
from slo.dashboards import boards
from slo.rules import RuleGroup
from slo.spec import Spec

FORMATS = ("prometheus", "operator")


def build(specs: Sequence[Spec], source: str, fmt: str) -> dict[str, str]:
    """Every file for these specs. ValueError when two specs share a service or `source` lacks a family."""
    services = [spec.service for spec in specs]
    twice = {service for service in services if services.count(service) > 1}
    if twice:
        raise ValueError(f"two specs for the service {twice.pop()!r}; one service has one spec")
    groups = {f"slo-{spec.service}": rules.spec_groups(spec, source) for spec in specs}
    groups |= {"recording": rules.shared_groups(specs), "health": rules.health_groups()}
    files = {f"rules/{name}.yaml": _rule_text(name, value, fmt) for name, value in groups.items()}
    return files | {f"dashboards/{name}": render.dashboard(model) for name, model in boards(specs).items()}


def _rule_text(name: str, groups: Sequence[RuleGroup], fmt: str) -> str:
    return render.prometheus_rule(f"llm-{name}", groups) if fmt == "operator" else render.rule_file(groups)


def write(out: Path, files: Mapping[str, str]) -> None:
    """Put `files` below `out`; each is replaced whole, so a reader never sees half a file. Raises OSError."""
    for relative, text in files.items():
        path = out / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)


def stale(out: Path, files: Mapping[str, str]) -> list[str]:
    """The relative paths below `out` that are missing or differ from `files`."""
    return [relative for relative, text in files.items() if _read(out / relative) != text]


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None
