"""Prometheus rules as data."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RecordingRule:
    """Writes what `expr` gives as the series `record`, with `labels` set."""

    record: str
    expr: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertingRule:
    """`hold` is Prometheus' `for`, `keep` its `keep_firing_for`; both are durations such as `2m`."""

    alert: str
    expr: str
    hold: str = ""
    keep: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


Rule = RecordingRule | AlertingRule


@dataclass(frozen=True, slots=True)
class RuleGroup:
    """Rules that are evaluated in their order, every `interval` (a duration such as `30s`)."""

    name: str
    interval: str
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Links:
    """Where the links of alerts lead: the root URL of Grafana, and the folder or URL of the runbooks."""

    grafana: str = ""
    runbooks: str = "docs/runbooks"

    def runbook(self, alert: str) -> str:
        """The runbook of an alert."""
        return f"{self.runbooks.rstrip('/')}/{alert}.md"

    def board(self, name: str, labels: Iterable[str]) -> str:
        """A dashboard that shows the last six hours of what the alert's `labels` pick."""
        picked = (f"{{{{ with $labels.{label} }}}}&var-{label}={{{{ . | urlquery }}}}{{{{ end }}}}" for label in labels)
        return f"{self.grafana.rstrip('/')}/d/llm-slo-{name}?from=now-6h&to=now{''.join(picked)}"
