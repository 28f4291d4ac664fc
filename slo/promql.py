"""PromQL as strings: selectors, label matchers and the few shapes of expression that the rules are made of."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from slo.catalog import Metric, Upstream
from slo.engines import ENGINES

EXPORTER = "exporter"


@dataclass(frozen=True, slots=True)
class Matcher:
    """One label matcher; `op` is `=`, `!=`, `=~` or `!~`."""

    label: str
    op: str
    value: str

    def __str__(self) -> str:
        return f"{self.label}{self.op}{quote(self.value)}"

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether a series with these labels is selected; regular expressions are anchored, as in PromQL."""
        value = labels.get(self.label, "")
        equal = re.fullmatch(self.value, value) is not None if "~" in self.op else value == self.value
        return equal == self.op.startswith("=")


@dataclass(frozen=True, slots=True)
class Selector:
    """Series of one family: its name with `suffix` (`_bucket`, `_count`, or none), narrowed by `matchers`."""

    metric: Metric
    suffix: str = ""
    matchers: tuple[Matcher, ...] = ()

    def render(self, scope: "Scope") -> str:
        """The selector text in `scope`: under the names that the scope's source uses, with its matchers added.

        ValueError when the source has no such family, or no bucket that ends at a wanted `le`.
        """
        matchers = ",".join(map(str, scope.matchers_for(self.metric, self.matchers)))
        name = scope.name_of(self.metric) + self.suffix
        return f"{name}{{{matchers}}}" if matchers else name


@dataclass(frozen=True, slots=True)
class Scope:
    """What an expression is about: whose names it reads, which series, and the labels it keeps.

    `source` is `exporter` for the `llm_*` families, or an engine's name for that engine's own.
    """

    source: str = EXPORTER
    matchers: tuple[Matcher, ...] = ()
    by: tuple[str, ...] = ("model_name",)

    def name_of(self, metric: Metric) -> str:
        """The family's name at this source; ValueError when the source does not have it."""
        return metric.name if self.source == EXPORTER else self._upstream(metric).name

    def matchers_for(self, metric: Metric, own: tuple[Matcher, ...] = ()) -> tuple[Matcher, ...]:
        """What narrows `metric`: `own` and the scope's, in the source's words, less labels the family lacks."""
        wanted = (*own, *(m for m in self.matchers if self._carries(metric, m.label)))
        if self.source == EXPORTER:
            return wanted
        names = {ours: theirs for theirs, ours in self._renamed(metric).items()}
        needed = (Matcher(label, "=", value) for label, value in self._upstream(metric).where.items())
        return (*needed, *(self._le(metric, m) or replace(m, label=names.get(m.label, m.label)) for m in wanted))

    def by_for(self, metric: Metric) -> tuple[str, ...]:
        """The labels to aggregate `metric` by: the scope's, less `model_name` where the family lacks it."""
        return tuple(label for label in self.by if self._carries(metric, label))

    def over(self, function: str, selector: Selector, window: str, ago: str = "") -> str:
        """`function` over `window`, `ago` from now, of a family's series, with the labels that matter in our words."""
        text = f"{function}({selector.render(self)}[{window}]{' offset ' if ago else ''}{ago})"
        for theirs, ours in self._renamed(selector.metric).items() if self.source != EXPORTER else ():
            if ours in (*self.by, "engine"):
                text = f'label_replace({text}, "{ours}", "$1", "{theirs}", "(.*)")'
        return text

    def _upstream(self, metric: Metric) -> Upstream:
        names = metric.upstream.get(self.source, ())
        if not names:
            raise ValueError(
                f"{self.source} does not expose {metric.name}: {ENGINES[self.source].why_absent(metric.name)}"
            )
        return names[0]

    def _renamed(self, metric: Metric) -> Mapping[str, str]:
        return {**ENGINES[self.source].rename, **self._upstream(metric).rename}

    def _le(self, metric: Metric, matcher: Matcher) -> Matcher | None:
        """The matcher of a bucket. Before Prometheus 3, engines that are not in Python write `le="1"`, not `"1.0"`."""
        if matcher.label != "le":
            return None
        edge = metric.edge(float(matcher.value), self.source)
        whole = edge.removesuffix(".0")
        return Matcher("le", "=", edge) if whole == edge else Matcher("le", "=~", f"{whole}(\\.0)?")

    def _carries(self, metric: Metric, label: str) -> bool:
        # Engines' HTTP middleware knows no model; the sidecar adds the label, a bare engine does not.
        bare_http = self.source != EXPORTER and metric.name == "llm_http_requests_total"
        return not (bare_http and label == "model_name")


def quote(value: str) -> str:
    """`value` as a PromQL string literal."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def number(value: float) -> str:
    """`value` as a PromQL number, with all the digits that matter: 200.0 -> `200`, 1234567.0 -> `1234567`."""
    return f"{value:.12g}"


def equals(labels: Mapping[str, str]) -> tuple[Matcher, ...]:
    """Equality matchers for `labels`, in their order."""
    return tuple(Matcher(label, "=", value) for label, value in labels.items())


def aggregate(function: str, expr: str, by: Iterable[str]) -> str:
    """`function by (labels) (expr)`; without labels plain `function(expr)`."""
    labels = ", ".join(by)
    return f"{function} by ({labels}) ({expr})" if labels else f"{function}({expr})"


def sum_rate(selector: Selector, window: str, scope: Scope) -> str:
    """Events per second over `window`: the rate first, then the sum, so that resets and churn stay right."""
    return aggregate("sum", scope.over("rate", selector, window), scope.by_for(selector.metric))


_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


def duration(seconds: float) -> str:
    """Whole seconds as a Prometheus duration in its largest exact unit: 3600 -> `1h`, 90 -> `90s`."""
    whole = int(seconds)
    unit = next(u for u, size in _UNITS.items() if whole % size == 0)
    return f"{whole // _UNITS[unit]}{unit}"


def seconds(text: str) -> int:
    """The seconds of a Prometheus duration in one unit, as `duration` writes it."""
    return int(text[:-1]) * _UNITS[text[-1]]
