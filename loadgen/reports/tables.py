"""Tables as text: aligned columns for a terminal, and Markdown."""

import re
import textwrap
from collections.abc import Sequence

Row = tuple[str, ...]

_NUMBER = re.compile(r"[-+]?[\d.,]+(?: ?%)?|-|")
# Text in less room than this is better left to the terminal.
_NARROWEST = 24


def columns(rows: Sequence[Row], width: int | None = None) -> str:
    """Rows in aligned columns, numbers to the right; with a `width` the last column is wrapped to fit in."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numbers = _numbers(rows)
    lines = []
    for row in rows:
        cells = [cell.rjust(w) if right else cell.ljust(w) for cell, w, right in zip(row, widths, numbers, strict=True)]
        lines.append(wrapped("  ".join(cells).rstrip(), width, len("  ".join(["", *cells[:-1], ""])) - 2))
    return "\n".join(lines)


def wrapped(text: str, width: int | None, indent: int = 0) -> str:
    """The text in lines that are not wider; from the second on they are indented."""
    if width is None or len(text) <= width or width - indent < _NARROWEST:
        return text
    lines = textwrap.wrap(text[indent:], width - indent, break_long_words=False, break_on_hyphens=False)
    return text[:indent] + f"\n{' ' * indent}".join(lines)


def markdown(rows: Sequence[Row]) -> str:
    """A Markdown table; the first row is its head."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    rule = "|" + "".join("---:|" if right else "---|" for right in _numbers(rows))
    return "\n".join([lines[0], rule, *lines[1:]])


def _numbers(rows: Sequence[Row]) -> list[bool]:
    """Which columns hold numbers below their heads."""
    return [len(rows) > 1 and all(map(_NUMBER.fullmatch, column[1:])) for column in zip(*rows, strict=True)]
