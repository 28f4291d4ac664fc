"""Dashboards as data: rows of panels on a grid, the variables above them, links and annotations."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from slo.boards.panel import COLUMNS, DATASOURCE, Json, Panel

# Grafana reads its classic model of any age and migrates it forward; 39 is Grafana 10.3's.
SCHEMA_VERSION = 39


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
class Annotation:
    """Marks on the time axis of every panel: where `expr` has samples. `title` and `text` may name labels."""

    name: str
    expr: str
    color: str
    title: str
    text: str

    def model(self) -> Json:
        return {
            "datasource": DATASOURCE,
            "enable": True,
            "expr": self.expr,
            "iconColor": self.color,
            "name": self.name,
            "step": "60s",
            "textFormat": self.text,
            "titleFormat": self.title,
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
    annotations: tuple[Annotation, ...]
    since: str = "now-1h"

    def model(self, datasource: str | None = None) -> Json:
        """The dashboard as Grafana's classic JSON model, opening on the data source of that uid where one is given."""
        return {
            "annotations": {"list": [annotation.model() for annotation in self.annotations]},
            "description": self.description,
            "editable": False,
            "graphTooltip": 1,
            "links": [_links(self.tag)],
            "panels": list(_panels(self.rows)),
            "refresh": "30s",
            "schemaVersion": SCHEMA_VERSION,
            "tags": [self.tag],
            "templating": {
                "list": [_datasource_variable(datasource), *(variable.model() for variable in self.variables)]
            },
            "time": {"from": self.since, "to": "now"},
            "title": self.title,
            "uid": self.uid,
        }


def _panels(rows: Sequence[Row]) -> Iterator[Json]:
    ids, top = count(1), 0
    for row in rows:
        grid = {"h": 1, "w": COLUMNS, "x": 0, "y": top}
        yield {"collapsed": False, "gridPos": grid, "id": next(ids), "panels": [], "title": row.title, "type": "row"}
        top += 1
        for panel, x, y in row.place(top):
            yield panel.model(next(ids), x, y)
            top = max(top, y + panel.height)


def _datasource_variable(uid: str | None) -> Json:
    return {
        **({"current": {"text": uid, "value": uid}} if uid else {}),
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
