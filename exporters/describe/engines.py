"""`slo-exporter describe`: what every engine exposes of every signal, and why the rest is absent."""

import json
from collections.abc import Sequence

from exporters.describe import gpus as describe_gpus
from exporters.describe import summary as describe_summary
from slo import catalog, tables
from slo.arguments import Parser
from slo.catalog import Metric
from slo.engines import ENGINES
from slo.engines.table import Engine

NAME = "describe"
_FAMILIES = tuple(m for m in catalog.families() if m.labels[: len(catalog.ENGINE_LABELS)] == catalog.ENGINE_LABELS)


def main(argv: Sequence[str]) -> int:
    """Print the table of signals and engines; 0."""
    parser = Parser(
        prog=f"slo-exporter {NAME}", description="What every engine exposes, under which name, and what it does not."
    )
    forms = parser.add_mutually_exclusive_group()
    for flag, form, about in (
        ("--json", as_json, "print one JSON object"),
        ("--markdown", markdown, "one table of signals and engines, as in docs/engines.md"),
        ("--summary", describe_summary.table, "the signals that matter, at a glance, as in README.md"),
        ("--gpus", describe_gpus.table, "the table of GPU signals and sources, as in docs/gpu.md"),
    ):
        forms.add_argument(flag, dest="form", action="store_const", const=form, default=text, help=about)
    print(parser.parse_args(argv).form(), end="")
    return 0


def text() -> str:
    """Engine by engine, for people at a terminal."""
    lines: list[str] = []
    for engine in ENGINES.values():
        lines += [f"{engine.title}  (--engine {engine.kind}=URL; {engine.hint})"]
        lines += [f"  {metric.name:40}{_names(engine, metric) or '- ' + engine.why_absent(metric.name)}"
                  for metric in _FAMILIES]  # fmt: skip
        lines.append("")
    return "\n".join(lines)


def as_json() -> str:
    """Per engine and signal the names, the newest first, or the reason for their absence."""
    engines = {
        engine.kind: {
            "title": engine.title,
            "path": engine.path,
            "hint": engine.hint,
            "signals": {metric.name: _signal(engine, metric) for metric in _FAMILIES},
        }
        for engine in ENGINES.values()
    }
    return json.dumps({"engines": engines}) + "\n"


def markdown() -> str:
    """The page docs/engines.md: where engines serve their metrics, the table, and the reasons as notes to it."""
    reasons: dict[str, int] = {}
    rows = [
        [f"`{metric.name}`", *(_cell(engine, metric, reasons) for engine in ENGINES.values())] for metric in _FAMILIES
    ]
    parts = [
        "# Engines and their signals",
        "<!-- Written by `slo-exporter describe --markdown`; do not edit. -->",
        "The sidecar tells from an engine's metrics which engine it is; `--engine KIND=URL` states it. Of several\n"
        "names the newest that is there is used. What an engine does not expose is absent, never 0.",
        _table(["engine", "KIND", "metrics", "availability from"], [_place(engine) for engine in ENGINES.values()]),
        "## Signals",
        _table(["", *(engine.title for engine in ENGINES.values())], rows),
        "## Why absent",
        "\n".join(f"{number}. {reason}" for reason, number in reasons.items()),
    ]
    return "\n\n".join(parts) + "\n"


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(tables.markdown(head, rows))


def _place(engine: Engine) -> list[str]:
    """Where the engine's metrics are, and what there is of failures."""
    needed = (catalog.FAILED if engine.client_faults is not None else catalog.HTTP_REQUESTS).name
    return [engine.title, f"`{engine.kind}`", engine.hint, f"`{needed}`" if needed in engine.names else "-"]


def _cell(engine: Engine, metric: Metric, reasons: dict[str, int]) -> str:
    if names := [str(upstream) for upstream in engine.names.get(metric.name, ())]:
        return ", ".join(f"`{name}`" for name in names)
    reason = engine.why_absent(metric.name)
    return f"absent ({reasons.setdefault(reason, len(reasons) + 1)})"


def _names(engine: Engine, metric: Metric) -> str:
    return ", ".join(f"{upstream}{_releases(upstream)}" for upstream in engine.names.get(metric.name, ()))


def _releases(upstream: catalog.Upstream) -> str:
    if upstream.until:
        return f" (until {upstream.until})"
    return f" (since {upstream.since})" if upstream.since else ""


def _signal(engine: Engine, metric: Metric) -> dict[str, object]:
    upstreams = engine.names.get(metric.name, ())
    if not upstreams:
        return {"absent": engine.why_absent(metric.name)}
    return {
        "names": [{"name": str(u), "since": u.since, "until": u.until} for u in upstreams],
        "buckets": metric.buckets_of(engine.kind),
    }
