"""Grafana's words as data: panels, rows, variables and dashboards, each with the classic JSON model it stands for.

Plain dicts, because grafana-foundation-sdk has a builder class per panel type and no common base: wrapping those six
took more code than the keys below, and eleven megabytes in every image.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from string import ascii_uppercase

COLUMNS = 24
# Grafana 10.3 and every later one read this model and migrate it forward.
SCHEMA_VERSION = 39
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

Json = dict[str, object]
# Colours from a value up; None is the lowest value.
Thresholds = tuple[tuple[float | None, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A choice above the panels, filled from `label_values`. `all_value` is the regular expression of "All"."""

    name: str
    label: str
    query: str
    all_value: str = ".*"
    multi: bool = True
    hidden: bool = False

    def model(self) -> Json:
        every: Json = {"allValue": self.all_value, "current": {"text": ["All"], "value": ["$__all"]}}
        return {
            "datasource": DATASOURCE,
            "definition": self.query,
            "hide": 2 if self.hidden else 0,
            "includeAll": self.multi,
            "label": self.label,
            "multi": self.multi,
            "name": self.name,
            "query": self.query,
            "refresh": 2,  # on a new time range too: a model may have stopped since
            "sort": 1,
            "type": "query",
            **(every if self.multi else {}),
        }


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
        colored = bool(self.thresholds or self.texts)
        settings: Json = {"unit": self.unit}
        if colored:
            settings |= {"color": {"mode": "thresholds"}, "custom.cellOptions": {"type": "color-text"}}
            settings |= {"mappings": _mappings(self.texts), "thresholds": _thresholds(self.thresholds)}
        return _override("byName", self.title, settings)


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
            "targets": [self._target(ref, target) for ref, target in zip(ascii_uppercase, self.targets, strict=False)],
            "title": self.title,
            "transformations": list(self.transformations),
            "type": self.type,
        }

    def _target(self, ref: str, target: Target) -> Json:
        # Tables and single values show now: over a range they would show the last value there ever was.
        instant = self.type in ("stat", "table", "bargauge")
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


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading, laid out from left to right."""

    title: str
    panels: tuple[Panel, ...]

    def place(self, top: int) -> Iterator[tuple[Panel, int, int]]:
        """Each panel with its column and line, starting at line `top`; a panel that does not fit starts a new one."""
        x, y, height = 0, top, 0
        for panel in self.panels:
            if x + panel.width > COLUMNS:
                x, y, height = 0, y + height, 0
            yield panel, x, y
            x, height = x + panel.width, max(height, panel.height)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """One board. Boards that share a tag link to each other, and the links carry variables and time range."""

    uid: str
    title: str
    description: str
    tag: str
    variables: tuple[Variable, ...]
    rows: tuple[Row, ...]
    annotations: Mapping[str, str]
    since: str = "now-1h"

    def model(self) -> Json:
        """The dashboard as Grafana's classic JSON model."""
        return {
            "annotations": {"list": [_annotation(name, expr) for name, expr in self.annotations.items()]},
            "description": self.description,
            "editable": False,
            "graphTooltip": 1,
            "links": [_links(self.tag)],
            "panels": list(_panels(self.rows)),
            "refresh": "30s",
            "schemaVersion": SCHEMA_VERSION,
            "tags": [self.tag],
            "templating": {"list": [_datasource_variable(), *(variable.model() for variable in self.variables)]},
            "time": {"from": self.since, "to": "now"},
            "title": self.title,
            "uid": self.uid,
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
            "legend": {"calcs": ["lastNotNull"], "displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        overrides=tuple(
            _override("byFrameRefID", ref, {"custom.lineStyle": _DASH, "custom.fillOpacity": 0})
            for ref, target in zip(ascii_uppercase, targets, strict=False)
            if target.dashed
        ),
    )


def heatmap(title: str, description: str, unit: str, buckets: str, *, rate_unit: str) -> Panel:
    """The buckets of a histogram over time; `unit` is the unit of their bounds, `rate_unit` that of their counts."""
    return Panel(
        type="heatmap",
        title=title,
        description=description,
        targets=(Target(buckets, "{{le}}"),),
        format="heatmap",
        width=8,
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
    colored = bool(thresholds or texts)
    return Panel(
        type="stat",
        title=title,
        description=description,
        targets=(target,),
        width=width,
        height=4,
        defaults=_single_value(unit, thresholds) | ({"mappings": _mappings(texts)} if texts else {}),
        options={
            "colorMode": "value" if colored else "none",
            "graphMode": "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "reduceOptions": _LAST,
            "textMode": "auto",
        },
    )


def bargauge(title: str, description: str, unit: str, target: Target, *, width: int = 8) -> Panel:
    """Values of now, side by side as bars from 0."""
    return Panel(
        type="bargauge",
        title=title,
        description=description,
        targets=(target,),
        width=width,
        height=7,
        defaults=_single_value(unit, ()) | {"min": 0},
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
    height: int = 6,
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
        height=height,
        defaults=_single_value(unit, thresholds)
        | {"custom": {"fillOpacity": 70, "lineWidth": 0}, "mappings": _mappings(texts)},
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
    height: int = 7,
) -> Panel:
    """One line per set of `labels`; at least two columns, for Grafana numbers the values only then."""
    headings = {label.name: label.title for label in labels}
    headings |= {f"Value #{ref}": column.title for ref, column in zip(ascii_uppercase, columns, strict=False)}
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
        width=COLUMNS,
        height=height,
        defaults={"custom": {"align": "auto", "cellOptions": {"type": "auto"}, "minWidth": 70}},
        options={"cellHeight": "sm", "showHeader": True},
        overrides=(*(own for label in labels for own in label.overrides()), *(column.override() for column in columns)),
        transformations=({"id": "merge", "options": {}}, {"id": "organize", "options": organize}),
    )


# --- parts of the model ----------------------------------------------------------------------------------------------

_DASH: Json = {"dash": [8, 6], "fill": "dash"}
_LAST: Json = {"calcs": ["lastNotNull"], "fields": "", "values": False}


def _single_value(unit: str, thresholds: Thresholds) -> Json:
    return {"color": {"mode": "thresholds"}, "thresholds": _thresholds(thresholds), "unit": unit}


def _thresholds(steps: Thresholds) -> Json:
    colors = steps or ((None, "text"),)
    return {"mode": "absolute", "steps": [{"color": color, "value": value} for value, color in colors]}


def _mappings(texts: Sequence[Text]) -> list[Json]:
    options = {str(t.value): {"color": t.color, "index": i, "text": t.text} for i, t in enumerate(texts)}
    return [{"options": options, "type": "value"}] if texts else []


def _override(matcher: str, of: str, settings: Json) -> Json:
    properties = [{"id": key, "value": value} for key, value in settings.items()]
    return {"matcher": {"id": matcher, "options": of}, "properties": properties}


def _panels(rows: Sequence[Row]) -> Iterator[Json]:
    ids, top = count(1), 0
    for row in rows:
        grid = {"h": 1, "w": COLUMNS, "x": 0, "y": top}
        yield {"collapsed": False, "gridPos": grid, "id": next(ids), "panels": [], "title": row.title, "type": "row"}
        for panel, x, y in row.place(top + 1):
            yield panel.model(next(ids), x, y)
            top = max(top, y + panel.height)


def _datasource_variable() -> Json:
    return {
        "hide": 0,
        "includeAll": False,
        "label": "Data source",
        "multi": False,
        "name": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "type": "datasource",
    }


def _links(tag: str) -> Json:
    return {
        "asDropdown": False,
        "icon": "external link",
        "includeVars": True,
        "keepTime": True,
        "tags": [tag],
        "targetBlank": False,
        "title": "",
        "type": "dashboards",
    }


def _annotation(name: str, expr: str) -> Json:
    return {
        "datasource": DATASOURCE,
        "enable": True,
        "expr": expr,
        "iconColor": "red",
        "name": name,
        "step": "60s",
        "textFormat": "{{severity}} {{slo}} {{model_name}}",
        "titleFormat": "{{alertname}}",
    }
