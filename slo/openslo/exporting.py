"""Specs of ours as OpenSLO v1 documents: a Service each, and an SLO with its indicator inline.

Queries are rates over five minutes, which any Prometheus evaluates as they are; `slo-gen import` widens them again.
Alerts are left out: a condition of OpenSLO v1 has one window, and those here have two.
"""

from collections.abc import Iterator, Sequence

import yaml

from slo.openslo.importing import RUNBOOK
from slo.openslo.nodes import API_VERSION
from slo.promql import Scope, duration, equals
from slo.sli import exact
from slo.spec.model import Slo, Spec


def text(specs: Sequence[Spec], source: str) -> str:
    """The documents as YAML. ValueError when `source` lacks a family that an SLO needs."""
    found = [part for spec in specs for part in _documents(spec, source)]
    return yaml.safe_dump_all(found, sort_keys=False, allow_unicode=True, width=1_000_000, explicit_start=True)


def _documents(spec: Spec, source: str) -> Iterator[dict[str, object]]:
    yield {"apiVersion": API_VERSION, "kind": "Service", "metadata": {"name": spec.service}, "spec": {}}
    scope = Scope(source, equals(spec.selector), spec.group_by)
    for slo in spec.slos:
        yield {"apiVersion": API_VERSION, "kind": "SLO", "metadata": _metadata(slo), "spec": _body(slo, scope)}


def _metadata(slo: Slo) -> dict[str, object]:
    labels = dict(slo.labels) | ({"owner": slo.owner} if slo.owner else {})
    annotations = {RUNBOOK: slo.runbook} if slo.runbook else {}
    told = {"name": slo.id, "labels": labels, "annotations": annotations}
    return {key: value for key, value in told.items() if value}


def _body(slo: Slo, scope: Scope) -> dict[str, object]:
    good, total = exact(slo.id, "5m", scope) if slo.exact else (slo.sli.good("5m", scope), slo.sli.total("5m", scope))
    ratio = {"counter": False, "good": _metric(good), "total": _metric(total)}
    return {
        **({"description": slo.description} if slo.description else {}),
        "service": slo.service,
        "indicator": {"metadata": {"name": slo.id}, "spec": {"ratioMetric": ratio}},
        "timeWindow": [{"duration": duration(slo.period), "isRolling": True}],
        "budgetingMethod": "Occurrences",
        "objectives": [{"displayName": slo.sli.condition, "target": slo.objective}],
    }


def _metric(query: str) -> dict[str, object]:
    return {"metricSource": {"type": "Prometheus", "spec": {"query": query}}}
