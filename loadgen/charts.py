"""Charts as inline SVG: axes, a grid and a path per series, coloured by the CSS of the page around them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10
from typing import Literal, TypeVar

T = TypeVar("T")
Point = tuple[float, float]
Style = Literal["line", "steps", "dots"]

_WIDTH, _HEIGHT = 460, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 16, 34, 40
# A path of more points than the chart has pixels only makes the page slow.
MOST_POINTS = 2_000
# An axis of nothing but zeros still needs a length.
_FLAT = 1e-9
_TIMELINE_WIDTH, _ROW = 940, 5
MOST_ROWS = 120


@dataclass(frozen=True, slots=True)
class Series:
    """Points in order of x, and how they are drawn. `name` is told in the legend when there are several."""

    points: Sequence[Point]
    style: Style = "line"
    name: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """A span of a timeline: from `begin` over `change` (where its colour changes) to `end`, and what it says."""

    begin: float
    change: float
    end: float
    bad: bool = False
    text: str = ""


def chart(title: str, series: Sequence[Series], x_label: str, marks: Sequence[float] = ()) -> str:
    """A chart of series, from 0 on both axes. `marks` are x at which to draw a vertical line."""
    series = [one for one in series if one.points]
    if not series:
        return f"<p>{escape(title)}: no data</p>"
    points = [point for one in series for point in one.points]
    x_ticks, y_ticks = _ticks(max(x for x, _ in points)), _ticks(max(y for _, y in points))
    place = _scale(x_ticks[-1], y_ticks[-1])
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">']
    parts.append(_text(_LEFT, 18, title, "title", "start"))
    parts.append(_text(_WIDTH - _RIGHT, _HEIGHT - 6, x_label, "label", "end"))
    parts += _grid(place, x_ticks, y_ticks)
    for mark in marks:
        if mark <= x_ticks[-1]:
            (x, y), top = place(mark, 0), place(mark, y_ticks[-1])
            parts += [_line("mark", (x, y), top), _text(x + 5, y - 6, f"{mark:g}", "mark-label", "start")]
    for number, one in enumerate(series):
        path = _path([place(*point) for point in thinned(one.points, MOST_POINTS)], one.style)
        parts.append(f'<path class="{one.style} s{number}" d="{path}"/>')
        if len(series) > 1:
            parts.append(_text(_WIDTH - _RIGHT, 18 + 13 * number, one.name, f"name s{number}", "end"))
    return "".join([*parts, "</svg>"])


def timeline(title: str, bars: Sequence[Bar]) -> str:
    """A row per bar over time in seconds; of many bars every n-th. What a bar says shows under the pointer."""
    if not bars:
        return f"<p>{escape(title)}: no data</p>"
    bars = thinned(bars, MOST_ROWS)
    ticks = _ticks(max(bar.end for bar in bars))
    height, bottom = _TOP + _ROW * len(bars), _TOP + _ROW * len(bars) + 30
    scale = (_TIMELINE_WIDTH - 2 * _RIGHT) / ticks[-1]
    parts = [f'<svg viewBox="0 0 {_TIMELINE_WIDTH} {bottom}" role="img" aria-label="{escape(title)}">']
    parts.append(_text(_RIGHT, 18, title, "title", "start"))
    for tick in ticks:
        x = round(_RIGHT + tick * scale, 1)
        parts.append(_line("grid", (x, _TOP), (x, height)) + _text(x, height + 14, f"{tick:.4g}", "tick", "middle"))
    for number, bar in enumerate(bars):
        stamps = [round(_RIGHT + stamp * scale, 1) for stamp in (bar.begin, bar.change, bar.end)]
        y = _TOP + _ROW * number
        kinds = ("bad", "bad") if bar.bad else ("wait", "stream")
        parts.append(f"<g><title>{escape(bar.text)}</title>")
        parts += [_rect(kind, x, y, end - x) for kind, x, end in zip(kinds, stamps, stamps[1:], strict=False)]
        parts.append("</g>")
    return "".join([*parts, "</svg>"])


def thinned(items: Sequence[T], most: int) -> Sequence[T]:
    """Every n-th, so that there are not more than so many."""
    return items[:: ceil(len(items) / most)] if items else items


def _scale(x_end: float, y_end: float) -> Callable[[float, float], Point]:
    """A function from values to pixels."""
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    return lambda x, y: (round(_LEFT + x / x_end * width, 1), round(_TOP + (1 - y / y_end) * height, 1))


def _ticks(highest: float) -> list[float]:
    """Round values from 0 to the first one not below `highest`, four to ten steps of 1, 2 or 5 times a power of ten."""
    if highest < _FLAT:
        return [0.0, 1.0]
    power = 10.0 ** floor(log10(highest / 4))
    step = max(factor * power for factor in (1, 2, 5) if factor * power <= highest / 4)
    return [i * step for i in range(ceil(highest / step - 1e-9) + 1)]


def _grid(place: Callable[[float, float], Point], x_ticks: Sequence[float], y_ticks: Sequence[float]) -> Iterator[str]:
    for tick in x_ticks:
        x, y = place(tick, 0)
        yield _line("grid", (x, y), place(tick, y_ticks[-1])) + _text(x, y + 16, f"{tick:.4g}", "tick", "middle")
    for tick in y_ticks:
        x, y = place(0, tick)
        yield _line("grid", (x, y), place(x_ticks[-1], tick)) + _text(x - 6, y + 4, f"{tick:.4g}", "tick", "end")


def _path(points: Sequence[Point], style: Style) -> str:
    first = "M{:g} {:g}".format(*points[0])
    if style == "dots":  # a line of no length with round ends is a dot
        return "".join(f"M{x:g} {y:g}h0" for x, y in points)
    if style == "steps":
        return first + "".join(f"H{x:g}V{y:g}" for x, y in points[1:])
    return first + "".join(f"L{x:g} {y:g}" for x, y in points[1:])


def _line(kind: str, begin: Point, end: Point) -> str:
    return f'<line class="{kind}" x1="{begin[0]:g}" y1="{begin[1]:g}" x2="{end[0]:g}" y2="{end[1]:g}"/>'


def _rect(kind: str, x: float, y: float, width: float) -> str:
    return f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{max(0.0, width):.1f}" height="{_ROW - 1}"/>'


def _text(x: float, y: float, text: str, kind: str, anchor: str) -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'
