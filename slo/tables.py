"""Tables as text: aligned columns for a terminal, or Markdown."""

from collections.abc import Sequence


def text(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with aligned columns, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in (header, *rows)]


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    cells = (header, ["---"] * len(header), *rows)
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]
