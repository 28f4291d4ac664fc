"""Charts as inline SVG: axes, a grid and a path per series, coloured by the CSS of the page around them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10
from typing import Literal, TypeVar

T = TypeVar("T")
Point = tuple[float, float]
Style = Literal["line", "steps", "dots"]
_Scale = Callable[[float, float], Point]

_WIDTH, _HEIGHT = 460, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 16, 34, 40
# A path of more points than the chart has pixels only makes the page slow.
MOST_POINTS = 2_000
# An axis of nothing but zeros still needs a length.
_FLAT = 1e-9
_TIMELINE_WIDTH, _ROW = 940, 5
MOST_ROWS = 120
# So few points of a line are shown as such: they are measurements, and what is between them is not.
_FEW_POINTS = 20
# Pixels that a character of a legend takes at most, and those that it has beside the name of the axis.
_CHARACTER, _LEGEND = 7, 280
# A failure that took no time must still be seen.
_LEAST_WIDTH = 2.0


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


@dataclass(frozen=True, slots=True)
class Span:
    """An x axis that charts share: how far it goes at least, and from where to where it counts."""

    end: float
    begins: float
    ends: float


def chart(
    title: str,
    series: Sequence[Series],
    x_label: str,
    marks: Sequence[float] = (),
    levels: Sequence[float] = (),
    span: Span | None = None,
) -> str:
    """A chart of series, from 0 on both axes, with limits: `marks` of x and `levels` of y.

    A limit that lies beyond what was seen is told at the edge.
    """
    series = [one for one in series if one.points]
    if not series:
        return f"<p>{escape(title)}: no data</p>"
    points = [point for one in series for point in one.points]
    x_ticks = _ticks(max([x for x, _ in points] + [span.end if span else 0.0]))
    y_ticks = _ticks(max(y for _, y in points))
    place = _scale(x_ticks[-1], y_ticks[-1])
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">']
    parts.append(_text(_LEFT, 18, title, "title", "start"))
    parts.append(_text(_WIDTH - _RIGHT, _HEIGHT - 6, x_label, "label", "end"))
    parts += _shades(span, x_ticks[-1]) if span else ()
    parts += _grid(place, x_ticks, y_ticks)
    for number, one in enumerate(series):
        placed = [place(*point) for point in thinned(one.points, MOST_POINTS)]
        parts.append(f'<path class="{one.style} s{number}" d="{_path(placed, one.style)}"/>')
        if one.style == "line" and len(placed) <= _FEW_POINTS:
            parts.append(f'<path class="dots s{number}" d="{_path(placed, "dots")}"/>')
    parts += _marks(place, marks, x_ticks[-1], y_ticks[-1])
    parts += _levels(place, levels, x_ticks[-1], y_ticks[-1])
    parts += _legend([one.name for one in series]) if len(series) > 1 else ()
    return "".join([*parts, "</svg>"])


def _marks(place: _Scale, marks: Sequence[float], x_end: float, y_end: float) -> Iterator[str]:
    for mark in marks:
        if mark <= x_end:
            (x, y), top = place(mark, 0), place(mark, y_end)
            near_end = x > _WIDTH - _RIGHT - 40
            yield _line("mark", (x, y), top)
            yield _text(x + (-5 if near_end else 5), y - 6, f"{mark:g}", "mark-label", "end" if near_end else "start")
        else:
            x, y = place(x_end, 0)
            yield _text(x - 2, y - 6, f"limit {mark:g} \u2192", "mark-label", "end")


def _levels(place: _Scale, levels: Sequence[float], x_end: float, y_end: float) -> Iterator[str]:
    for level in levels:
        if level <= y_end:
            x, y = place(0, level)
            yield _line("mark", (x, y), place(x_end, level))
            yield _text(x + 4, y + (12 if y < _TOP + 12 else -4), f"{level:g}", "mark-label", "start")
        else:
            x, y = place(0, y_end)
            yield _text(x + 4, y + 12, f"limit {level:g} \u2191", "mark-label", "start")


def _shades(span: Span, x_end: float) -> Iterator[str]:
    """What does not count, before and after what does."""
    left, top = _scale(x_end, 1.0)(0, 1)
    for begin, end in ((0.0, span.begins), (span.ends, span.end)):
        width = (min(end, x_end) - begin) / x_end * (_WIDTH - _LEFT - _RIGHT)
        if width > 0:
            x = left + begin / x_end * (_WIDTH - _LEFT - _RIGHT)
            height = _HEIGHT - _TOP - _BOTTOM
            yield f'<rect class="cut" x="{x:.1f}" y="{top:g}" width="{width:.1f}" height="{height}"/>'


def _legend(names: Sequence[str]) -> Iterator[str]:
    """The names side by side below the axis, where no line can run; long ones below each other in the corner."""
    widths = [_CHARACTER * len(name) + 12 for name in names]
    for number, name in enumerate(names):
        if sum(widths) < _LEGEND:
            yield _text(_LEFT + sum(widths[:number]), _HEIGHT - 6, name, f"name s{number}", "start")
        else:
            yield _text(_WIDTH - _RIGHT, 18 + 13 * number, name, f"name s{number}", "end")


def timeline(title: str, bars: Sequence[Bar]) -> str:
    """A row per bar over time in seconds; of many bars every n-th. What a bar says shows under the pointer."""
    if not bars:
        return f"<p>{escape(title)}: no data</p>"
    bars = thinned(bars, MOST_ROWS)
    ticks = _ticks(max(bar.end for bar in bars))
    height, bottom = _TOP + _ROW * len(bars), _TOP + _ROW * len(bars) + 44
    scale = (_TIMELINE_WIDTH - 2 * _RIGHT) / ticks[-1]
    parts = [f'<svg viewBox="0 0 {_TIMELINE_WIDTH} {bottom}" role="img" aria-label="{escape(title)}">']
    parts += [_text(_RIGHT, 18, title, "title", "start"), *_keys()]
    parts.append(_text(_TIMELINE_WIDTH - _RIGHT, bottom - 8, "seconds", "label", "end"))
    for tick in ticks:
        x = round(_RIGHT + tick * scale, 1)
        parts.append(_line("grid", (x, _TOP), (x, height)) + _text(x, height + 14, f"{tick:,.10g}", "tick", "middle"))
    for number, bar in enumerate(bars):
        stamps = [round(_RIGHT + stamp * scale, 1) for stamp in (bar.begin, bar.change, bar.end)]
        y = _TOP + _ROW * number
        parts.append(f"<g><title>{escape(bar.text)}</title>")
        if bar.bad:
            x = min(stamps[0], _TIMELINE_WIDTH - _RIGHT - _LEAST_WIDTH)
            parts.append(_rect("bad", x, y, max(_LEAST_WIDTH, stamps[2] - x)))
        else:
            parts += [_rect("wait", stamps[0], y, stamps[1] - stamps[0])]
            parts += [_rect("stream", stamps[1], y, stamps[2] - stamps[1])]
        parts.append("</g>")
    return "".join([*parts, "</svg>"])


def _keys() -> Iterator[str]:
    """What the colours of a timeline mean."""
    x = _TIMELINE_WIDTH - 270
    for kind, name, width in (("wait", "until the first token", 136), ("stream", "tokens", 62), ("bad", "failed", 0)):
        yield _rect(kind, x, 13, 12) + _text(x + 16, 18, name, "tick", "start")
        x += width


def thinned(items: Sequence[T], most: int) -> Sequence[T]:
    """Every n-th, so that there are not more than so many."""
    return items[:: ceil(len(items) / most)] if items else items


def _scale(x_end: float, y_end: float) -> _Scale:
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


def _grid(place: _Scale, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> Iterator[str]:
    for tick in x_ticks:
        x, y = place(tick, 0)
        yield _line("grid", (x, y), place(tick, y_ticks[-1])) + _text(x, y + 16, f"{tick:,.10g}", "tick", "middle")
    for tick in y_ticks:
        x, y = place(0, tick)
        yield _line("grid", (x, y), place(x_ticks[-1], tick)) + _text(x - 6, y + 4, f"{tick:,.10g}", "tick", "end")


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
