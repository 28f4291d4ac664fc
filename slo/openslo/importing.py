"""OpenSLO documents in: one spec of ours per service, or refusals by document and field."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from slo.openslo import nodes, writing
from slo.openslo.indicators import indicator
from slo.openslo.nodes import Node
from slo.openslo.writing import Imported
from slo.spec.document import SpecError

METHODS = ("Occurrences", "Timeslices", "RatioTimeslices")
RUNBOOK = "llm-slo/runbook"
# Rolling windows as OpenSLO writes them; how long a month is it leaves to us.
_PERIODS = {"7d": "7d", "1w": "7d", "28d": "28d", "4w": "28d", "30d": "30d", "1M": "30d", "90d": "90d", "1Q": "90d"}


def read(path: Path) -> dict[str, str]:
    """The specs that a file's documents make, as YAML by service. Raises SpecError, with a line per refused SLO."""
    documents = nodes.read(path)
    named = {kind: _by_name(documents, kind) for kind in nodes.KINDS}
    found: dict[str, list[Imported]] = {}
    refused: list[str] = []
    for node in named["SLO"].values():
        try:
            for one in _slos(node, named):
                found.setdefault(one.service, []).append(one)
        except SpecError as error:
            refused.append(str(error))
    if refused:
        raise SpecError("\n".join(refused))
    if not found:
        raise SpecError(f"{path}:1: no SLO in it")
    return {service: writing.text(service, slos) for service, slos in found.items()}


def _by_name(documents: Sequence[Node], kind: str) -> dict[str, Node]:
    found: dict[str, Node] = {}
    for node in documents:
        if node.need("kind").text() == kind:
            name = node.need("metadata").need("name").text()
            if name in found:
                raise node.error("a second document of this kind and name")
            found[name] = node
    return found


def _slos(node: Node, named: Mapping[str, Mapping[str, Node]]) -> Iterator[Imported]:
    """One SLO per objective."""
    body = node.need("spec")
    body.allow("description", "service", "indicator", "indicatorRef", "timeWindow", "budgetingMethod", "objectives",
               "alertPolicies")  # fmt: skip
    service, objectives = body.need("service").text(), body.need("objectives")
    method = _method(body)
    facts, notes = _facts(node, body)
    names = _names(node, service, objectives)
    for name, objective in zip(names, objectives.items(), strict=True):
        objective.allow("displayName", "op", "value", "target", "targetPercent", "timeSliceTarget", "timeSliceWindow",
                        "indicator", "indicatorRef", "compositeWeight")  # fmt: skip
        for key in ("indicator", "indicatorRef", "compositeWeight"):
            if part := objective.get(key):
                raise part.error("a composite SLO, whose objectives have indicators of their own, is not supported")
        counts = indicator(_sli(body, named["SLI"]), objective, method, named["DataSource"])
        fields = {"name": name, **facts, "objective": _share(objective)}
        yield Imported(objective, service, fields, counts, (*notes, *counts.notes))


def _names(node: Node, service: str, objectives: Node) -> list[str]:
    """The SLO's name, less the service's, which ids begin with; several objectives add theirs, or numbers."""
    name = node.need("metadata").need("name").text().removeprefix(f"{service}-")
    shown = [objective.get("displayName") for objective in objectives.items()]
    if not shown:
        raise objectives.error("at least one objective is needed")
    if len(shown) == 1:
        return [name]
    endings = [re.sub(r"[^a-z0-9]+", "-", one.text().lower()).strip("-") if one else "" for one in shown]
    if "" in endings or len(set(endings)) < len(endings):
        endings = [str(number + 1) for number in range(len(shown))]
    return [f"{name}-{ending}" for ending in endings]


def _sli(body: Node, slis: Mapping[str, Node]) -> Node:
    inline, reference = body.get("indicator"), body.get("indicatorRef")
    if inline is not None and reference is None:
        inline.allow("apiVersion", "kind", "metadata", "spec")
        return inline.need("spec")
    if reference is None or inline is not None:
        raise body.error("expected either indicator or indicatorRef")
    if reference.text() not in slis:
        raise reference.error(f"no SLI {reference.text()!r} in this file")
    return slis[reference.text()].need("spec")


def _method(body: Node) -> str:
    method = body.get("budgetingMethod")
    if method is None:
        return METHODS[0]
    if method.text() not in METHODS:
        raise method.error(f"{method.text()!r} is none of {', '.join(METHODS)}")
    return method.text()


def _share(objective: Node) -> float:
    target, percent = objective.get("target"), objective.get("targetPercent")
    if (target is None) == (percent is None):
        raise objective.error("expected either target or targetPercent")
    return target.number() if target is not None else round(objective.need("targetPercent").number() / 100, 12)


def _facts(node: Node, body: Node) -> tuple[dict[str, object], tuple[str, ...]]:
    """What an SLO says beside its objective and indicator, and remarks on what is not taken over."""
    metadata, notes = node.need("metadata"), []
    metadata.allow("name", "displayName", "labels", "annotations")
    period, window = "30d", body.get("timeWindow")
    if window is None:
        notes.append("no timeWindow was given: 30d")
    else:
        period = _period(window)
    if policies := body.get("alertPolicies"):
        notes.append(f"alerts follow from objective and period; not taken over: {_policies(policies)}")
    facts: dict[str, object] = {"period": period}
    if about := body.get("description") or metadata.get("displayName"):
        facts["description"] = " ".join(about.text().split())
    labels = dict(_labels(metadata.get("labels")))
    if owner := labels.pop("owner", ""):
        facts["owner"] = owner
    if labels:
        facts["labels"] = labels
    annotations = metadata.get("annotations")
    if annotations is not None and (runbook := annotations.get(RUNBOOK)):
        facts["runbook"] = runbook.text()
    return facts, tuple(notes)


def _period(windows: Node) -> str:
    window, *more = windows.items() or [windows]
    if more or window is windows:
        raise windows.error("expected exactly one time window")
    window.allow("duration", "isRolling", "calendar")
    for key in ("calendar", "isRolling"):
        if (told := window.get(key)) and (key == "calendar" or not told.flag()):
            raise told.error("a calendar window starts anew at its end; the windows here roll")
    duration = window.need("duration")
    if duration.text() not in _PERIODS:
        raise duration.error(f"{duration.text()!r} is none of the periods supported: {', '.join(_PERIODS)}")
    return _PERIODS[duration.text()]


def _policies(policies: Node) -> str:
    """The names of alert policies, inline or referred to."""
    names = []
    for policy in policies.items():
        if policy.value.content is not None:
            reference = policy.get("alertPolicyRef")
            named = reference or (policy.get("metadata") or policy).get("name")
            names.append(named.text() if named else "one without a name")
    return ", ".join(names) or "none"


def _labels(labels: Node | None) -> Iterator[tuple[str, str]]:
    """Labels as Prometheus takes them; OpenSLO allows several values of one."""
    for key, value in labels.fields().items() if labels else ():
        values = value.items() if isinstance(value.value.content, list) else [value]
        yield re.sub(r"[^a-zA-Z0-9_]", "_", key), ",".join(item.text() for item in values)
