"""The report as one HTML file: verdict, figures, charts and a timeline, in the look that all pages share."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from html import escape

from loadgen.arrivals import NS
from loadgen.charts import MOST_POINTS, MOST_ROWS, Bar, Point, Series, chart, thinned, timeline
from loadgen.doubts import latency_conditions
from loadgen.record import Recording, RequestRecord
from loadgen.report import check_rows, describe, facts, latencies, notes, server
from loadgen.sampled import lanes
from loadgen.steady import Rule, steady
from loadgen.summary import Quantiles, Summary, Tally, summarize, tokens_between
from loadgen.verdict import Verdict
from slo import catalog, html
from slo.catalog import Metric
from slo.spec import Spec

_KINDS = {"PASS": "good", "FAIL": "bad", "INCONCLUSIVE": "warn"}
_LATENCIES = (
    ("TTFT", "ttft", catalog.TTFT),
    ("TPOT", "tpot", catalog.TPOT),
    ("ITL", "itl", catalog.ITL),
    ("e2e", "e2e", catalog.E2E),
)


def page(
    runs: Sequence[Recording], rule: Rule, summary: Summary, spec: Spec | None = None, verdict: Verdict | None = None
) -> str:
    """The page of the first run's steady part. Thresholds of the spec are drawn; several runs give curves by rate."""
    run = steady(runs[0], rule)[0]
    return html.page(
        f"Load test of {run.header.fingerprint.model}",
        describe(run),
        *([_verdict(verdict)] if verdict else []),
        html.tiles(list(_headlines(summary))),
        html.section("Latencies", _table(latencies(summary)), _grid(_distributions(run.records, spec))),
        *([html.section("Latency by rate", _grid(_by_rate(runs, rule)))] if len(runs) > 1 else []),
        html.section("Over time", _grid(_over_time(run)), _grid([timeline("Requests", _bars(run.records))])),
        html.section("Figures", *map(_table, filter(None, _figures(run, summary)))),
    )


def _headlines(summary: Summary) -> Iterator[tuple[str, str]]:
    yield "requests", f"{summary.requests:,}"
    if summary.requests_per_second is not None and summary.output_tokens_per_second is not None:
        yield "answers per second", f"{summary.requests_per_second:.1f}"
        yield "output tokens per second", f"{summary.output_tokens_per_second:,.0f}"
    for name, field, _ in _LATENCIES:
        if found := getattr(summary, field):
            yield f"{name} p95, ms", f"{found.p95 * 1000:,.1f}"


def _figures(run: Recording, summary: Summary) -> Iterator[Sequence[Sequence[str]]]:
    yield [("figure", "value"), *facts(run, summary)]
    yield server(run)


def _verdict(verdict: Verdict) -> str:
    head, *checks = check_rows(verdict)
    rows = [f"<td>{_badge(outcome)}</td>" + "".join(map(html.cell, cells)) for outcome, *cells in checks]
    return "".join(
        [
            f"<h2>{_badge(str(verdict.outcome))}</h2>",
            _list([f"in doubt: {doubt}" for doubt in verdict.doubts]),
            html.table_of(head, rows),
            _list(notes(verdict)),
        ]
    )


def _badge(outcome: str) -> str:
    return html.badge(outcome, _KINDS.get(outcome, ""))


def _list(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>" if lines else ""


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    return html.table(head, body)


def _grid(charts: Sequence[str]) -> str:
    return f'<div class="charts">{"".join(charts)}</div>'


# --- charts -----------------------------------------------------------------------------------------------------------


def _distributions(records: Sequence[RequestRecord], spec: Spec | None) -> list[str]:
    return [
        chart(f"{name}, share not above", [Series(_distribution(_ordered(records, field)))], "ms", _marks(spec, metric))
        for name, field, metric in _LATENCIES
    ]


def _ordered(records: Sequence[RequestRecord], field: str) -> Sequence[float]:
    """Of every request that has the latency; of ITL every gap."""
    if field == "itl":
        return Tally(record.gaps_ns for record in records)
    return sorted(value for record in records if (value := getattr(record, field)) is not None)


def _distribution(ordered: Sequence[float]) -> list[Point]:
    """The empirical distribution: values in ms, the largest among them, with the share of values not above each."""
    ranks = [*thinned(range(len(ordered) - 1), MOST_POINTS - 1), len(ordered) - 1] if ordered else []
    return [(ordered[rank] * 1000, (rank + 1) / len(ordered)) for rank in ranks]


def _marks(spec: Spec | None, metric: Metric) -> list[float]:
    """The thresholds of the spec for a latency, in ms."""
    conditions = [c for slo in spec.slos for c in latency_conditions(slo.sli) if c.metric == metric] if spec else []
    return sorted({c.threshold * 1000 for c in conditions})


def _by_rate(runs: Sequence[Recording], rule: Rule) -> list[str]:
    """The knee: quantiles of every run at the rate that it sent, or came to."""
    summaries = [(run.header.load.rate, summarize(steady(run, rule)[0])) for run in runs]
    points = sorted(((rate or summary.requests_per_second or 0.0), summary) for rate, summary in summaries)
    return [
        chart(f"{name} in ms, against the rate", list(_quantile_series(points, field)), "requests/s")
        for name, field, _ in _LATENCIES[:2]
    ]


def _quantile_series(points: Sequence[tuple[float, Summary]], field: str) -> Iterator[Series]:
    for quantile in ("p50", "p90", "p99"):
        found: list[tuple[float, Quantiles]] = [(rate, q) for rate, s in points if (q := getattr(s, field))]
        yield Series([(rate, getattr(q, quantile) * 1000) for rate, q in found], "line", quantile)


def _over_time(run: Recording) -> list[str]:
    served = thinned([record for record in run.records if record.token_ns], MOST_POINTS)
    ttft = [(record.scheduled_ns / NS, record.ttft * 1000) for record in served if record.ttft is not None]
    return [
        chart("TTFT in ms, by intended start", [Series(ttft, "dots")], "seconds"),
        chart("Requests in flight", [Series(_in_flight(run.records), "steps")], "seconds"),
        chart("Output tokens per second", [Series(_tokens(run.records), "steps")], "seconds"),
        *(chart(lane.title, [Series(lane.points, "steps")], "seconds") for lane in lanes(run.samples)),
    ]


def _in_flight(records: Sequence[RequestRecord]) -> list[Point]:
    sent, done = sorted(record.sent_ns for record in records), sorted(record.done_ns for record in records)
    changes = thinned(sorted([*sent, *done]), MOST_POINTS)
    return [(stamp / NS, bisect_right(sent, stamp) - bisect_right(done, stamp)) for stamp in changes]


def _tokens(records: Sequence[RequestRecord]) -> list[Point]:
    """Tokens by the second in which they came; a chunk of several counts them all."""
    last = max((record.token_ns[-1] for record in records if record.token_ns), default=0)
    edges = range(0, last + 1, NS)  # the last second is not whole
    return list(enumerate(tokens_between(records, edges)))


def _bars(records: Sequence[RequestRecord]) -> list[Bar]:
    """A bar per request: waiting up to the first token, then streaming."""
    return [
        Bar(
            begin=record.scheduled_ns / NS,
            change=(record.token_ns[0] if record.token_ns else record.done_ns) / NS,
            end=record.done_ns / NS,
            bad=record.error is not None,
            text=f"request {record.seq}: {record.error or record.finish_reason or 'ok'}",
        )
        for record in thinned(records, MOST_ROWS)
    ]
