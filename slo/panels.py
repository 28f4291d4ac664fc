"""Grafana's panels as data: what they show, and the classic JSON model they stand for.

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
            yield _override("byName", self.title, {"links": [{"title": "Show", "url": self.url}]})


@dataclass(frozen=True, slots=True)
class Column:
    """A value column of a table: one query whose series share the table's labels."""

    title: str
    expr: str
    unit: str
    thresholds: Thresholds = ()
    texts: tuple[Text, ...] = ()

    def override(self) -> Json:
        """The column's own field settings."""
        settings = _values(self.unit, self.thresholds, self.texts) | {"custom.cellOptions": {"type": "color-text"}}
        return _override("byName", self.title, settings)

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
                self._target(ref, target) for ref, target in zip(_refs(self.targets), self.targets, strict=True)
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


# --- panel types -----------------------------------------------------------------------------------------------------


def timeseries(
    title: str,
    description: str,
    unit: str,
    *targets: Target,
    width: int = 8,
    stacked: bool = False,
    zero: bool = True,
    maximum: float | None = None,
    limits: Sequence[float] = (),
) -> Panel:
    """Lines over time. `zero` keeps 0 on the axis; `limits` are fixed values drawn as dashed lines."""
    custom: Json = {"fillOpacity": 30 if stacked else 8, "lineWidth": 1, "showPoints": "never"}
    custom |= {"stacking": {"group": "A", "mode": "normal" if stacked else "none"}}
    custom |= {"thresholdsStyle": {"mode": "dashed" if limits else "off"}}
    custom |= {"axisSoftMin": 0} if zero else {}
    defaults: Json = {"color": {"mode": "palette-classic"}, "custom": custom, "unit": unit}
    defaults |= {"thresholds": _thresholds(((None, "transparent"), *((limit, "red") for limit in limits)))}
    return Panel(
        type="timeseries",
        title=title,
        description=description,
        targets=targets,
        width=width,
        height=7,
        defaults=defaults | ({} if maximum is None else {"max": maximum}),
        options={
            "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        overrides=tuple(
            _override("byFrameRefID", ref, {"custom.lineStyle": _DASH, "custom.fillOpacity": 0})
            for ref, target in zip(_refs(targets), targets, strict=True)
            if target.dashed
        ),
    )


def heatmap(title: str, description: str, unit: str, buckets: Target, *, rate_unit: str, width: int = 8) -> Panel:
    """The buckets of a histogram over time; `unit` is the unit of their bounds, `rate_unit` that of their counts."""
    return Panel(
        type="heatmap",
        title=title,
        description=description,
        targets=(buckets,),
        format="heatmap",
        width=width,
        height=7,
        defaults={},
        options={
            "calculate": False,
            "cellGap": 1,
            "cellValues": {"unit": rate_unit},
            "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64},
            "filterValues": {"le": 1e-9},
            "legend": {"show": True},
            "rowsFrame": {"layout": "auto"},
            "tooltip": {"mode": "single", "yHistogram": True},
            "yAxis": {"axisPlacement": "left", "unit": unit},
        },
    )


def trend(title: str, description: str, x: Column, *curves: Column) -> Panel:
    """Curves over the value of `x` in place of time, a point for each set of labels that the queries share."""
    columns = (x, *curves)
    headings = {f"Value #{ref}": column.title for ref, column in zip(_refs(columns), columns, strict=True)}
    keep: Json = {"include": {"names": list(headings)}}
    return Panel(
        type="trend",
        title=title,
        description=description,
        targets=tuple(Target(column.expr) for column in columns),
        format="table",
        width=12,
        height=9,
        defaults={"custom": {"drawStyle": "line", "lineWidth": 2, "pointSize": 8, "showPoints": "always"}},
        options={
            "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "none"},
            "xField": x.title,
        },
        overrides=tuple(_override("byName", column.title, column.axis()) for column in columns),
        transformations=(
            {"id": "merge", "options": {}},
            {"id": "filterFieldsByName", "options": keep},
            {"id": "organize", "options": {"renameByName": headings}},
            {"id": "sortBy", "options": {"fields": {}, "sort": [{"field": x.title}]}},
        ),
    )


def stat(
    title: str,
    description: str,
    unit: str,
    target: Target,
    *,
    width: int = 3,
    thresholds: Thresholds = (),
    texts: tuple[Text, ...] = (),
) -> Panel:
    """The value of now, in large figures."""
    return Panel(
        type="stat",
        title=title,
        description=description,
        targets=(target,),
        width=width,
        height=4,
        defaults=_values(unit, thresholds, texts),
        options={
            "colorMode": "value",
            "graphMode": "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "reduceOptions": _LAST,
            "textMode": "auto",
        },
    )


def bargauge(title: str, description: str, unit: str, target: Target) -> Panel:
    """Values of now, side by side as bars from 0."""
    return Panel(
        type="bargauge",
        title=title,
        description=description,
        targets=(target,),
        width=8,
        height=7,
        defaults=_values(unit) | {"min": 0},
        options={
            "displayMode": "basic",
            "namePlacement": "auto",
            "orientation": "horizontal",
            "reduceOptions": _LAST,
            "showUnfilled": True,
            "valueMode": "text",
        },
    )


def state_timeline(
    title: str,
    description: str,
    unit: str,
    target: Target,
    *,
    width: int = 12,
    thresholds: Thresholds = (),
    texts: tuple[Text, ...] = (),
) -> Panel:
    """Bands of states over time, one line per series, with the state written into them."""
    return Panel(
        type="state-timeline",
        title=title,
        description=description,
        targets=(target,),
        width=width,
        height=6,
        defaults=_values(unit, thresholds, texts) | {"custom": {"fillOpacity": 70, "lineWidth": 0}},
        options={
            "alignValue": "left",
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False},
            "mergeValues": True,
            "rowHeight": 0.9,
            "showValue": "auto",
            "tooltip": {"mode": "single", "sort": "none"},
        },
    )


def table(
    title: str,
    description: str,
    labels: Sequence[Label],
    *columns: Column,
    width: int = COLUMNS,
    height: int = 7,
) -> Panel:
    """One line per set of `labels`; at least two columns, for Grafana numbers the values only then."""
    headings = {label.name: label.title for label in labels}
    headings |= {f"Value #{ref}": column.title for ref, column in zip(_refs(columns), columns, strict=True)}
    organize: Json = {
        "excludeByName": {"Time": True},
        "indexByName": {name: place for place, name in enumerate(headings)},
        "renameByName": headings,
    }
    return Panel(
        type="table",
        title=title,
        description=description,
        targets=tuple(Target(column.expr) for column in columns),
        format="table",
        width=width,
        height=height,
        defaults={"custom": {"align": "auto", "cellOptions": {"type": "auto"}, "minWidth": 70}},
        options={"cellHeight": "sm", "showHeader": True},
        overrides=(*(own for label in labels for own in label.overrides()), *(column.override() for column in columns)),
        transformations=({"id": "merge", "options": {}}, {"id": "organize", "options": organize}),
    )


# --- parts of the model ----------------------------------------------------------------------------------------------

_DASH: Json = {"dash": [8, 6], "fill": "dash"}
_LAST: Json = {"calcs": ["lastNotNull"], "fields": "", "values": False}


def _refs(queries: Sequence[object]) -> str:
    """Grafana's names for the queries of a panel: a letter each."""
    return ascii_uppercase[: len(queries)]


def _values(unit: str, thresholds: Thresholds = (), texts: Sequence[Text] = ()) -> Json:
    settings: Json = {"color": {"mode": "thresholds"}, "thresholds": _thresholds(thresholds), "unit": unit}
    options = {str(t.value): {"color": t.color, "index": i, "text": t.text} for i, t in enumerate(texts)}
    return settings | ({"mappings": [{"options": options, "type": "value"}]} if texts else {})


def _thresholds(steps: Thresholds) -> Json:
    colors = steps or ((None, "text"),)
    return {"mode": "absolute", "steps": [{"color": color, "value": value} for value, color in colors]}


def _override(matcher: str, of: str, settings: Json) -> Json:
    properties = [{"id": key, "value": value} for key, value in settings.items()]
    return {"matcher": {"id": matcher, "options": of}, "properties": properties}
