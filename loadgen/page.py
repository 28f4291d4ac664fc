"""The report as one HTML file that needs nothing else: verdict, figures and charts, light or dark as the reader's."""

from collections.abc import Sequence
from html import escape
from itertools import accumulate

from loadgen.arrivals import NS
from loadgen.charts import Point, chart
from loadgen.record import Recording, RequestRecord
from loadgen.report import Row, check_rows, describe, facts, latencies
from loadgen.summary import Summary
from loadgen.verdict import Verdict, latency_conditions
from slo import catalog
from slo.catalog import Metric
from slo.spec import Spec

_CSS = """
:root { color-scheme: light dark; --ink: #1c2330; --paper: #fff; --soft: #d8dde6; --line: #2f6fde; --mark: #d4472f; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e3e7ee; --paper: #14181f; --soft: #39414f; --line: #78a6ff; --mark: #ff8a75; }
}
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 960px;
  margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--soft); vertical-align: top; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(380px, 1fr)); gap: 1rem; }
svg text { fill: var(--ink); font-size: 11px; } svg .title { font-size: 13px; font-weight: 600; }
.grid { stroke: var(--soft); } .mark { stroke: var(--mark); stroke-dasharray: 4 3; }
path { fill: none; stroke: var(--line); stroke-width: 1.6; } path.dots { stroke-width: 3; stroke-linecap: round; }
.PASS { color: #1a7f37; } .FAIL { color: #d1242f; } .INCONCLUSIVE { color: #b26a00; }
"""


def page(recording: Recording, summary: Summary, spec: Spec | None = None, verdict: Verdict | None = None) -> str:
    """The whole page. Thresholds of the spec are drawn into the distributions."""
    title = f"Load test of {recording.header.fingerprint.model}"
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{_CSS}</style>',
        f"<h1>{escape(title)}</h1><p>{escape(describe(recording))}</p>",
    ]
    if verdict is not None:
        parts.append(_verdict(verdict))
    parts += [_table([("figure", "value"), *facts(recording, summary)]), _table(latencies(summary))]
    return "\n".join([*parts, f'<div class="charts">{"".join(_charts(recording.records, spec))}</div></html>\n'])


def _verdict(verdict: Verdict) -> str:
    doubts = "".join(f"<li>{escape(doubt)}</li>" for doubt in verdict.doubts)
    heading = f'<h2 class="{verdict.outcome}">{verdict.outcome}</h2>'
    return heading + (f"<ul>{doubts}</ul>" if doubts else "") + _table(check_rows(verdict))


def _table(rows: Sequence[Row]) -> str:
    head, *body = rows
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in body]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _charts(records: Sequence[RequestRecord], spec: Spec | None) -> list[str]:
    ttft, tpot = [[r.ttft for r in records], [r.tpot for r in records]]
    over_time = sorted((r.scheduled_ns / NS, r.ttft * 1000) for r in records if r.ttft is not None)
    return [
        chart("TTFT, share of requests", _distribution(ttft), "ms", "line", _threshold(spec, catalog.TTFT)),
        chart("TPOT, share of requests", _distribution(tpot), "ms", "line", _threshold(spec, catalog.TPOT)),
        chart("TTFT in ms, by intended start", over_time, "seconds", "dots"),
        chart("Requests in flight", _in_flight(records), "seconds", "steps"),
    ]


def _distribution(values: Sequence[float | None]) -> list[Point]:
    """The empirical distribution: each value in ms with the share of values not above it."""
    known = sorted(value * 1000 for value in values if value is not None)
    return [(value, rank / len(known)) for rank, value in enumerate(known, 1)]


def _in_flight(records: Sequence[RequestRecord]) -> list[Point]:
    changes = sorted([(r.sent_ns, 1) for r in records] + [(r.done_ns, -1) for r in records])
    levels = accumulate(change for _, change in changes)
    return [(stamp / NS, level) for (stamp, _), level in zip(changes, levels, strict=True)]


def _threshold(spec: Spec | None, metric: Metric) -> float | None:
    """The tightest threshold of the spec for a latency, in ms."""
    conditions = [c for slo in spec.slos for c in latency_conditions(slo.sli) if c.metric == metric] if spec else []
    return min((c.threshold * 1000 for c in conditions), default=None)
