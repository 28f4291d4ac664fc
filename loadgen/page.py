"""The report as one HTML file: verdict, figures and charts."""

from collections.abc import Sequence
from html import escape
from itertools import accumulate

from loadgen.arrivals import NS
from loadgen.record import Recording, RequestRecord
from loadgen.report import check_rows, describe, facts, latencies
from loadgen.summary import Summary
from loadgen.verdict import Verdict, latency_conditions
from slo import catalog, html
from slo.catalog import Metric
from slo.charts import Point, chart
from slo.spec import Spec

_KINDS = {"PASS": "good", "FAIL": "bad", "INCONCLUSIVE": "warn"}


def page(recording: Recording, summary: Summary, spec: Spec | None = None, verdict: Verdict | None = None) -> str:
    """The whole page. Thresholds of the spec are drawn into the distributions."""
    charts = f'<div class="charts">{"".join(_charts(recording.records, spec))}</div>'
    return html.page(
        f"Load test of {recording.header.fingerprint.model}",
        describe(recording),
        *([_verdict(verdict)] if verdict else []),
        html.section("Latencies", _table(latencies(summary)), charts),
        html.section("Figures", _table([("figure", "value"), *facts(recording, summary)])),
    )


def _verdict(verdict: Verdict) -> str:
    doubts = "".join(f"<li>{escape(doubt)}</li>" for doubt in verdict.doubts)
    head, *checks = check_rows(verdict)
    rows = [f"<td>{_badge(outcome)}</td>" + "".join(map(html.cell, cells)) for outcome, *cells in checks]
    parts = f"<ul>{doubts}</ul>" if doubts else ""
    return f"<h2>{_badge(str(verdict.outcome))}</h2>" + parts + html.table_of(head, rows)


def _badge(outcome: str) -> str:
    return html.badge(outcome, _KINDS.get(outcome, ""))


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    return html.table(head, body)


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
