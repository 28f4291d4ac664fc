"""The look of every page that this project writes: one file that needs nothing else, light, dark or on paper.

A page is made of parts that are HTML already; everything here that takes plain text escapes it.
"""

import re
from collections.abc import Sequence
from html import escape

# Colours of words and lines keep a contrast of 4.5 to 1 on their ground, light and dark.
_CSS = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5a6475; --paper: #fff; --card: #f6f7f9; --rule: #d8dde6;
  --line: #2563c9; --second: #8a5200; --third: #7a3fb5; --wait: #b4bdca;
  --mark: #c2371f; --good: #17692f; --warn: #8a5200; --bad: #b3261e; }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e3e7ee; --soft: #a3adbd; --paper: #14181f; --card: #1c222c; --rule: #39414f;
    --line: #78a6ff; --second: #e0a33e; --third: #c39bf0; --wait: #59637a;
    --mark: #ff8a75; --good: #5fd07f; --warn: #f0b35a; --bad: #ff8f85; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1080px;
  margin: 2rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .25rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.lead { color: var(--soft); margin: 0 0 1.5rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { color: var(--soft); font-weight: 600; font-size: .85em; }
th, td { text-align: left; padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
.number { text-align: right; } .number, .name { white-space: nowrap; }
.badge { font-weight: 700; white-space: nowrap; }
.good { color: var(--good); } .warn { color: var(--warn); } .bad { color: var(--bad); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: .75rem; margin: 1rem 0; }
.tile { background: var(--card); border: 1px solid var(--rule); border-radius: 6px; padding: .6rem .9rem; }
.tile b { display: block; font-size: 1.45rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: .85em; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 1rem;
  margin: 1rem 0; }
.charts > * { background: var(--card); border: 1px solid var(--rule); border-radius: 6px; margin: 0; padding: .4rem; }
svg text { fill: var(--soft); font-size: 11px; } svg .title { fill: var(--ink); font-size: 13px; font-weight: 600; }
svg .grid { stroke: var(--rule); } svg .mark { stroke: var(--mark); stroke-dasharray: 4 3; }
svg .mark-label { fill: var(--mark); } svg .cut { fill: var(--rule); opacity: .45; }
path { fill: none; stroke: var(--line); stroke-width: 1.6; } path.dots { stroke-width: 3; stroke-linecap: round; }
path.line ~ path.dots { stroke-width: 6; }
path.s1 { stroke: var(--second); } path.s2 { stroke: var(--third); }
svg text.s0 { fill: var(--line); } svg text.s1 { fill: var(--second); } svg text.s2 { fill: var(--third); }
svg .wait { fill: var(--wait); } svg .stream { fill: var(--line); } svg .bad { fill: var(--bad); }
svg.bar { width: 80px; height: 10px; } .bar rect { fill: var(--rule); } .bar .good { fill: var(--good); }
.bar .warn { fill: var(--warn); } .bar .bad { fill: var(--bad); }
footer { color: var(--soft); font-size: .85em; margin-top: 2.5rem; }
@media print {
  body { max-width: none; margin: 0; padding: 0; font-size: 12px; } .charts { grid-template-columns: 1fr 1fr; }
  table { font-size: 10px; } th, td { padding-right: .6rem; } .scroll { overflow: visible; }
  svg.bar { width: 50px; }
  tr, .tile, .charts > * { break-inside: avoid; } h2 { break-after: avoid; }
}
"""
# Said together with the colour, for those who cannot tell colours apart and for black-and-white paper.
_SIGNS = {"good": "✓", "warn": "!", "bad": "✗", "": "·"}
_SHORT = 24
_NUMBER = re.compile(r"-?[\d.,]+ ?(%|ms|s|h|d|min)?|-")


def page(title: str, lead: str, *parts: str) -> str:
    """The whole file: a heading, a line below it, and the parts."""
    head = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_CSS}</style>"
    )
    return "\n".join([head, f'<h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>', *parts, "</html>\n"])


def section(title: str, *parts: str) -> str:
    """Parts under a heading of their own."""
    return f"<h2>{escape(title)}</h2>" + "".join(parts)


def cell(text: str) -> str:
    """Plain text as a table's cell; numbers stand right, and what is short stays on one line."""
    kind = "number" if _NUMBER.fullmatch(text) else "name" if len(text) < _SHORT else ""
    return f'<td class="{kind}">{escape(text)}</td>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of plain text."""
    return table_of(head, ["".join(map(cell, row)) for row in rows])


def table_of(head: Sequence[str], rows: Sequence[str]) -> str:
    """A table whose rows are HTML: the cells of each. A column of numbers has its heading on the right, too."""
    first = rows[0].split("<td")[1:] if rows else []
    kinds = [' class="number"' if start.startswith(' class="number"') else "" for start in first]
    kinds += [""] * (len(head) - len(kinds))
    titles = "".join(f"<th{kind}>{escape(title)}</th>" for kind, title in zip(kinds, head, strict=True))
    lines = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table></div>'


def tiles(figures: Sequence[tuple[str, str]]) -> str:
    """Large figures side by side, each with its name."""
    shown = (f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for name, value in figures)
    return f'<div class="tiles">{"".join(shown)}</div>'


def badge(text: str, kind: str) -> str:
    """A word with a sign and a colour; `kind` is good, warn, bad or empty."""
    return f'<span class="badge {kind}">{_SIGNS[kind]} {escape(text)}</span>'


def bar(share: float, kind: str) -> str:
    """A share of 0..1 as a bar; what is beyond is cut off."""
    filled = 100 * min(1.0, max(0.0, share))
    rects = f'<rect width="100" height="10"/><rect class="{kind}" width="{filled:.1f}" height="10"/>'
    return f'<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">{rects}</svg>'
