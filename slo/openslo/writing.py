"""What came from OpenSLO as a spec of ours: YAML that has been read back, with remarks beside the SLOs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import indent

import yaml

from slo.openslo.indicators import Indicator
from slo.openslo.native import Native
from slo.openslo.nodes import Node
from slo.promql import EXPORTER
from slo.spec import document
from slo.spec import model as spec
from slo.spec.document import SpecError


@dataclass(frozen=True, slots=True)
class Imported:
    """One SLO: where it stood, its service, its fields as a spec writes them less the SLI, what it counts, remarks."""

    at: Node
    service: str
    fields: Mapping[str, object]
    counts: Indicator
    notes: tuple[str, ...]


def text(service: str, slos: Sequence[Imported]) -> str:
    """The spec of one service. Raises SpecError for an SLO that a spec cannot hold."""
    by = tuple(dict.fromkeys(label for one in slos for label in one.counts.total.by))
    natives = _natives(slos, by)
    head: dict[str, object] = {"apiVersion": spec.API_VERSION, "service": service}
    notes = ["From OpenSLO, by slo-gen import."]
    if native := next(filter(None, natives), None):
        if native.source != EXPORTER:
            head["engine"] = native.source
            notes.append(f"It reads the names of {native.source}: build it with --source {native.source}.")
        if native.selector:
            head["selector"] = dict(native.selector)
    head["group_by"] = list(by)
    items = [{**one.fields, "sli": _sli(one, native)} for one, native in zip(slos, natives, strict=True)]
    for one, item in zip(slos, items, strict=True):
        _check(one, _dump({**head, "slos": [item]}))
    parts = [_comment(one.notes) + _dump([item]) for one, item in zip(slos, items, strict=True)]
    whole = _comment(notes) + _dump(head) + "slos:\n" + indent("".join(parts), "  ")
    _check(slos[0], whole)
    return whole


def _natives(slos: Sequence[Imported], by: tuple[str, ...]) -> list[Native | None]:
    """The SLIs of ours that can stand in one spec: of one source, with the spec's groups and selector.

    A selector narrows all SLOs of a spec, so it takes all of them to agree on one.
    """
    found = [one.counts.native if one.counts.total.by == by else None for one in slos]
    first = next(filter(None, found), None)
    alike = [n if n and first and (n.source, n.selector) == (first.source, first.selector) else None for n in found]
    return [None] * len(slos) if first and first.selector and None in alike else alike


def _sli(one: Imported, native: Native | None) -> Mapping[str, object]:
    if native is not None:
        return native.fields
    return {"promql": {"good": one.counts.good.expr, "total": one.counts.total.expr}}


def _check(one: Imported, spec_text: str) -> None:
    try:
        spec.read(document.parse(spec_text, "spec"))
    except SpecError as error:
        raise one.at.error(f"a spec cannot hold this SLO: {str(error).split(': ', 1)[1]}") from None


def _dump(data: object) -> str:
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=1_000_000)


def _comment(notes: Sequence[str]) -> str:
    return "".join(f"# {''.join(c if c.isprintable() else ' ' for c in note)}\n" for note in notes)
