"""The types of panels: a function for each, which knows Grafana's options for it."""

from collections.abc import Sequence

from slo.boards.panel import (
    COLUMNS,
    Column,
    Json,
    Label,
    Panel,
    Target,
    Text,
    Thresholds,
    override,
    refs,
    steps,
    values,
)

_DASH: Json = {"dash": [8, 6], "fill": "dash"}
_LAST: Json = {"calcs": ["lastNotNull"], "fields": "", "values": False}


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
    decimals: int | None = None,
) -> Panel:
    """Lines over time. `zero` keeps 0 on the axis; `limits` are fixed values, dashed where the axis reaches them."""
    custom: Json = {"fillOpacity": 30 if stacked else 8, "lineWidth": 1, "showPoints": "auto"}
    custom |= {"stacking": {"group": "A", "mode": "normal" if stacked else "none"}}
    custom |= {"thresholdsStyle": {"mode": "dashed" if limits else "off"}}
    custom |= {"axisSoftMin": 0} if zero else {}
    defaults: Json = {"color": {"mode": "palette-classic"}, "custom": custom, "unit": unit}
    defaults |= {"thresholds": steps(((None, "transparent"), *((limit, "red") for limit in limits)))}
    defaults |= {} if maximum is None else {"max": maximum}
    defaults |= {} if decimals is None else {"decimals": decimals}
    return Panel(
        type="timeseries",
        title=title,
        description=description,
        targets=targets,
        width=width,
        height=7,
        defaults=defaults,
        options={
            "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        overrides=tuple(
            override("byFrameRefID", ref, {"custom.lineStyle": _DASH, "custom.fillOpacity": 0})
            for ref, target in zip(refs(targets), targets, strict=True)
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
    headings = {f"Value #{ref}": column.title for ref, column in zip(refs(columns), columns, strict=True)}
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
        overrides=tuple(override("byName", column.title, column.axis()) for column in columns),
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
    decimals: int | None = None,
) -> Panel:
    """The value of now, in large figures."""
    return Panel(
        type="stat",
        title=title,
        description=description,
        targets=(target,),
        width=width,
        height=4,
        defaults=values(unit, thresholds, texts, decimals),
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
        defaults=values(unit) | {"min": 0},
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
        defaults=values(unit, thresholds, texts) | {"custom": {"fillOpacity": 70, "lineWidth": 0}},
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
    lowest_first: str = "",
) -> Panel:
    """One line per set of `labels`, sorted by the column that is `lowest_first`.

    At least two columns, for Grafana numbers the values only then. What a line lacks is a dash.
    """
    headings = {label.name: label.title for label in labels}
    headings |= {f"Value #{ref}": column.title for ref, column in zip(refs(columns), columns, strict=True)}
    sort = [{"desc": False, "displayName": lowest_first}] if lowest_first else []
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
        defaults={"custom": {"align": "auto", "cellOptions": {"type": "auto"}, "minWidth": 70}, "noValue": "-"},
        options={"cellHeight": "sm", "showHeader": True, "sortBy": sort},
        overrides=(*(own for label in labels for own in label.overrides()), *(column.override() for column in columns)),
        transformations=({"id": "merge", "options": {}}, {"id": "organize", "options": organize}),
    )
