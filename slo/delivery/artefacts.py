"""The files that follow from specs: relative path -> text, and how they are written and compared."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from slo import render
from slo.boards.dashboards import boards
from slo.delivery import kubernetes
from slo.promql import EXPORTER
from slo.rules import packing
from slo.rules import recording as rules
from slo.rules.rule import Links, RuleGroup
from slo.spec.model import Spec

FORMATS = ("prometheus", "operator", "mimir", "helm-values", "configmap")


def build(
    specs: Sequence[Spec],
    source: str = EXPORTER,
    fmt: str = "prometheus",
    *,
    isolated: bool = False,
    links: Links = Links(),  # noqa: B008 (frozen)
) -> dict[str, str]:
    """Every file for these specs.

    ValueError when services, SLOs or groups share a name or labels clash, or names the SLO that needs what `source`
    lacks.
    """
    files = _rule_files(rule_groups(specs, source, isolated=isolated, links=links), fmt)
    return files | _dashboard_files(boards(specs), fmt)


def rule_groups(
    specs: Sequence[Spec],
    source: str = EXPORTER,
    *,
    isolated: bool = False,
    links: Links = Links(),  # noqa: B008 (frozen)
) -> dict[str, Sequence[RuleGroup]]:
    """The rules of these specs, by the file they are in. ValueError as `build`."""
    _refuse_twins([spec.service for spec in specs], "two specs for the service {!r}; one service has one spec")
    ids = [slo.id for spec in specs for slo in spec.slos]
    _refuse_twins(ids, "two SLOs would both be called {!r}; rename the service or the SLO of one of them")
    _refuse_clashes(specs)
    files: dict[str, Sequence[RuleGroup]] = {}
    for spec in specs:
        own = rules.isolated_groups(spec, source, links) if isolated else rules.spec_groups(spec, source)
        files[f"slo-{spec.service}"] = own
    shared = rules.isolated_shared_groups(specs, source) if isolated else rules.shared_groups(specs, source, links)
    files |= {"recording": shared, "health": rules.health_groups(specs, source, links, isolated=isolated)}
    names = [group.name for groups in files.values() for group in groups]
    _refuse_twins(names, "two rule groups would both be called {!r}; rename the SLO that it is named after")
    return files


def _refuse_twins(names: Sequence[str], message: str) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(message.format(name))


def _refuse_clashes(specs: Sequence[Spec]) -> None:
    """Alerts that SLOs share put the labels of each on all: there they would replace what tells groups apart."""
    groups = {label: spec.service for spec in specs for label in spec.group_by}
    for slo in (slo for spec in specs for slo in spec.slos):
        for label in slo.labels.keys() & groups.keys():
            raise ValueError(f"{slo.id} has a label {label!r}, by which {groups[label]} is grouped; rename the label")


def _rule_files(files: Mapping[str, Sequence[RuleGroup]], fmt: str) -> dict[str, str]:
    if fmt == "mimir":
        packed = {n: packing.with_at_most(packing.MIMIR_RULES, f"llm-{n}", groups) for n, groups in files.items()}
        texts = {n: render.rule_groups(groups) for n, groups in packed.items()}
        return {f"rules/{n}.yaml": render.mimir_namespace(f"llm-{n}", groups) for n, groups in texts.items()}
    texts = {name: render.rule_groups(groups) for name, groups in files.items()}
    if fmt == "helm-values":
        return {"rules/values.yaml": render.helm_values({f"llm-{name}": groups for name, groups in texts.items()})}
    if fmt == "prometheus":
        return {f"rules/{name}.yaml": render.rule_file(groups) for name, groups in texts.items()}
    limit = packing.CONFIG_MAP_BYTES if fmt == "configmap" else packing.PROMETHEUS_RULE_BYTES
    parts = [part for name, groups in texts.items() for part in packing.in_files(limit, name, groups).items()]
    if fmt == "configmap":
        return {f"rules/{n}.yaml": render.config_map(f"llm-{n}", f"{n}.yaml", groups) for n, groups in parts}
    return {f"rules/{n}.yaml": render.prometheus_rule(f"llm-{n}", groups) for n, groups in parts}


def _dashboard_files(models: Mapping[str, Mapping[str, object]], fmt: str) -> dict[str, str]:
    as_object = {"operator": kubernetes.grafana_dashboard, "configmap": kubernetes.config_map}.get(fmt)
    if as_object is None:
        return {f"dashboards/{name}": render.dashboard(model) for name, model in models.items()}
    named = ((name.removesuffix(".json"), model) for name, model in models.items())
    return {f"dashboards/{name}.yaml": as_object(name, model) for name, model in named}


def write(out: Path, files: Mapping[str, str]) -> None:
    """Put `files` below `out`, all or none: nothing is replaced before everything is written. Raises OSError."""
    partials = {out / relative: (out / relative).with_name(f".{Path(relative).name}.partial") for relative in files}
    try:
        for (path, partial), text in zip(partials.items(), files.values(), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(text, encoding="utf-8")
        for path, partial in partials.items():
            partial.replace(path)
    finally:
        for partial in partials.values():
            partial.unlink(missing_ok=True)


def stale(out: Path, files: Mapping[str, str]) -> list[str]:
    """The paths below `out` that are missing, differ from `files`, or were generated and are no longer among them."""
    differing = [relative for relative, text in files.items() if _read(out / relative) != text]
    return differing + [relative for relative in _generated(out) if relative not in files]


def _generated(out: Path) -> list[str]:
    found = [path for path in sorted((out / "rules").glob("*.yaml")) if not path.name.endswith(".test.yaml")]
    return [str(path.relative_to(out)) for path in found if (_read(path) or "").startswith(render.MARK)]


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8") if path.is_file() else None
    except UnicodeDecodeError:
        return None
