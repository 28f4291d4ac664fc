"""What the baselines of a folder say, side by side: a Markdown table, and the capacity searches as a plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loadgen.arguments import save
from loadgen.baselining import files
from loadgen.reports.charts import Series, chart

NONE = "No baseline ships yet: none was made on a GPU so far."
_HEAD = ("GPU", "model", "engine", "tokens", "capacity, 1/s", "run at, 1/s", "output tokens/s", "TTFT p50 / p90, ms",
         "TPOT p50 / p90, ms", "J per output token")  # fmt: skip
# The charts take their colours from the page around them; a file of its own brings a few.
_COLOURS = ("#2563eb", "#dc2626", "#16a34a", "#9333ea", "#d97706", "#0891b2")
_STYLE = "text{font:11px sans-serif;fill:#666}.title{font-size:13px;fill:#333}.grid{stroke:#ddd}path{fill:none;" \
         "stroke-width:2}path.dots{stroke-width:6;stroke-linecap:round}"  # fmt: skip


def show(folder: Path, plot: Path | None) -> int:
    """Print the table of the baselines in `folder`, and draw their searches into `plot`; 0. Raises RunError."""
    places = sorted(path.parent for path in folder.glob("*/*/summary.json"))
    found = {place: files.load(place / "summary.json") for place in places}
    print(table(folder, found))
    curves = [(_name(summary), levels) for place, summary in found.items() if (levels := _levels(place))]
    if plot and curves:
        save(plot, svg(curves))
    return 0


def table(folder: Path, summaries: Mapping[Path, Mapping[str, Any]]) -> str:
    """A row per baseline, its model linked to its report; one sentence where there is none."""
    if not summaries:
        return NONE
    rows = [_HEAD, *(_row(place.relative_to(folder.parent), one) for place, one in summaries.items())]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(_HEAD), *lines[1:]])


def _row(link: Path, summary: Mapping[str, Any]) -> tuple[str, ...]:
    found, figures, energy, capacity = (summary[key] for key in ("fingerprint", "summary", "energy", "capacity"))
    return (
        ", ".join(found.get("gpus", ())) or summary["hardware"],
        f"[{found['model']}]({link.as_posix()}/report.md)",
        " ".join(found[name] for name in ("engine", "engine_version") if found.get(name)),
        f"{summary['workload']['prompt_tokens']} -> {summary['workload']['output_tokens']}",
        f"{capacity['passed']:.3g}" if capacity and capacity["passed"] else "-",
        f"{summary['run']['requests_per_second']:g}",
        f"{figures['output_tokens_per_second']:.0f}",
        _milliseconds(figures.get("ttft")),
        _milliseconds(figures.get("tpot")),
        f"{energy['joules_per_output_token']:.3g}" if energy else "-",
    )


def _milliseconds(quantiles: Mapping[str, float] | None) -> str:
    return f"{quantiles['p50'] * 1000:.1f} / {quantiles['p90'] * 1000:.1f}" if quantiles else "-"


def svg(curves: Sequence[tuple[str, Sequence[tuple[float, float]]]]) -> str:
    """TTFT p90 over the rate, a line per capacity search, as a file that stands alone."""
    drawn = chart("TTFT p90, ms", [Series(points, name=name) for name, points in curves], "requests per second")
    colours = "".join(f"path.s{i}{{stroke:{c}}}text.s{i}{{fill:{c}}}" for i, c in enumerate(_COLOURS))
    return drawn.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(
        ">", f"><style>{_STYLE}{colours}</style>", 1
    )


def _name(summary: Mapping[str, Any]) -> str:
    return f"{summary['fingerprint']['model']}, {summary['hardware']}"


def _levels(place: Path) -> list[tuple[float, float]]:
    """Rate and TTFT p90 in ms of what a search tried; nothing where none was made."""
    path = place / "capacity.json"
    levels = files.load(path)["levels"] if path.exists() else []
    return sorted((level["rate"], level["ttft"]["p90"] * 1000) for level in levels if level.get("ttft"))
