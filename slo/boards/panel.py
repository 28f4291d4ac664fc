"""What a panel is: its queries, its fields and its place, and the classic JSON model they stand for.

Plain dicts, because grafana-foundation-sdk gives every panel type a builder class of its own without a common base and
adds eleven megabytes to an image; its types read our JSON in the tests instead.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from string import ascii_uppercase

COLUMNS = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

Json = dict[str, object]
# Colours from a value up; None is the lowest value.
Thresholds = tuple[tuple[float | None, str], ...]


@dataclass(frozen=True, slots=True)
class Target:
    """One query. `legend` names its series; `dashed` draws them as a limit rather than as a reading."""

    expr: str
    legend: str = ""
    dashed: bool = False
    exemplar: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """What a value means in words, so that colour is never alone in saying it."""

    value: int
    text: str
    color: str


@dataclass(frozen=True, slots=True)
class Label:
    """A label column of a table; its cells lead to `url` where that is given."""

    name: str
    title: str
    url: str = ""

    def overrides(self) -> Iterator[Json]:
        """The column's own field settings, if it has any."""
        if self.url:
            yield override("byName", self.title, {"links": [{"title": "Show", "url": self.url}]})


@dataclass(frozen=True, slots=True)
class Column:
    """A value column of a table: one query whose series share the table's labels."""

    title: str
    expr: str
    unit: str
    thresholds: Thresholds = ()
    texts: tuple[Text, ...] = ()
    decimals: int | None = None

    def override(self) -> Json:
        """The column's own field settings."""
        settings = values(self.unit, self.thresholds, self.texts, self.decimals)
        return override("byName", self.title, settings | {"custom.cellOptions": {"type": "color-text"}})

    def axis(self) -> Json:
        """The settings of the column as a curve: seconds on the right, all else on the left."""
        return {"unit": self.unit, "custom.axisPlacement": "right" if self.unit == "s" else "left"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel. `defaults`, `options`, `overrides` and `transformations` are Grafana's, for this panel type."""

    type: str
    title: str
    description: str
    targets: tuple[Target, ...]
    width: int
    height: int
    defaults: Json
    options: Json
    format: str = "time_series"
    overrides: tuple[Json, ...] = ()
    transformations: tuple[Json, ...] = ()

    def model(self, panel_id: int, x: int, y: int) -> Json:
        """The panel at column `x` and line `y` of the grid."""
        return {
            "datasource": DATASOURCE,
            "description": self.description,
            "fieldConfig": {"defaults": self.defaults, "overrides": list(self.overrides)},
            "gridPos": {"h": self.height, "w": self.width, "x": x, "y": y},
            "id": panel_id,
            "options": self.options,
            "targets": [
                self._target(ref, target) for ref, target in zip(refs(self.targets), self.targets, strict=True)
            ],
            "title": self.title,
            "transformations": list(self.transformations),
            "type": self.type,
        }

    def _target(self, ref: str, target: Target) -> Json:
        # Tables and single values show now: over a range they would show the last value there ever was.
        instant = self.type in ("stat", "table", "bargauge", "trend")
        return {
            "datasource": DATASOURCE,
            "exemplar": target.exemplar,
            "expr": target.expr,
            "format": self.format,
            "instant": instant,
            "legendFormat": target.legend or "__auto",
            "range": not instant,
            "refId": ref,
        }


def refs(queries: Sequence[object]) -> str:
    """Grafana's names for the queries of a panel: a letter each."""
    return ascii_uppercase[: len(queries)]


def values(unit: str, thresholds: Thresholds = (), texts: Sequence[Text] = (), decimals: int | None = None) -> Json:
    """The settings of a field whose values are coloured and put into words."""
    settings: Json = {"color": {"mode": "thresholds"}, "thresholds": steps(thresholds), "unit": unit}
    options = {str(t.value): {"color": t.color, "index": i, "text": t.text} for i, t in enumerate(texts)}
    settings |= {"mappings": [{"options": options, "type": "value"}]} if texts else {}
    return settings | ({} if decimals is None else {"decimals": decimals})


def steps(thresholds: Thresholds) -> Json:
    """Grafana's thresholds; without any all values have the colour of text."""
    colors = thresholds or ((None, "text"),)
    return {"mode": "absolute", "steps": [{"color": color, "value": value} for value, color in colors]}


def override(matcher: str, of: str, settings: Json) -> Json:
    """Settings for the fields that `matcher` finds."""
    properties = [{"id": key, "value": value} for key, value in settings.items()]
    return {"matcher": {"id": matcher, "options": of}, "properties": properties}
