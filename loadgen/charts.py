"""Charts as inline SVG: axes, a grid and one path, coloured by the CSS of the page around them."""

from collections.abc import Callable, Iterator, Sequence
from html import escape
from math import ceil, floor, log10
from typing import Literal

Point = tuple[float, float]
Style = Literal["line", "steps", "dots"]

_WIDTH, _HEIGHT = 460, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 16, 34, 40
# A path of more points than the chart has pixels only makes the page slow.
_MOST_POINTS = 2_000
# An axis of nothing but zeros still needs a length.
_FLAT = 1e-9


def chart(title: str, points: Sequence[Point], x_label: str, style: Style, mark: float | None = None) -> str:
    """A chart of points in order of x, from 0 on both axes. `mark` is an x at which to draw a vertical line."""
    if not points:
        return f"<p>{escape(title)}: no data</p>"
    points = points[:: ceil(len(points) / _MOST_POINTS)]
    x_ticks, y_ticks = _ticks(max(x for x, _ in points)), _ticks(max(y for _, y in points))
    place = _scale(x_ticks[-1], y_ticks[-1])
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">']
    parts.append(_text(_LEFT, 18, title, "title", "start"))
    parts.append(_text(_WIDTH - _RIGHT, _HEIGHT - 6, x_label, "label", "end"))
    parts += _grid(place, x_ticks, y_ticks)
    if mark is not None and mark <= x_ticks[-1]:
        parts.append(_line("mark", place(mark, 0), place(mark, y_ticks[-1])))
    parts.append(f'<path class="{style}" d="{_path([place(*point) for point in points], style)}"/></svg>')
    return "".join(parts)


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


def _text(x: float, y: float, text: str, kind: str, anchor: str) -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'
