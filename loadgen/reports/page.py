"""The report as one HTML file: verdict, figures, charts and a timeline, in the look that all pages share."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from math import ceil

from loadgen.judging.doubts import latency_conditions
from loadgen.judging.verdict import Verdict
from loadgen.reports.charts import MOST_POINTS, MOST_ROWS, Bar, Point, Series, Span, chart, thinned, timeline
from loadgen.reports.report import check_rows, describe, facts, latencies, notes, server
from loadgen.results.levels import levels
from loadgen.results.record import Recording, RequestRecord
from loadgen.results.sampled import lanes
from loadgen.results.steady import Cut, Rule, steady
from loadgen.results.summary import OK, Quantiles, Summary, Tally, summarize, tokens_between
from loadgen.traffic.arrivals import NS
from slo import catalog, html
from slo.catalog import Metric
from slo.sli import GoodputSli
from slo.spec.model import Spec

_KINDS = {"PASS": "good", "FAIL": "bad", "INCONCLUSIVE": "warn"}
_LATENCIES = (
    ("TTFT", "ttft", catalog.TTFT),
    ("TPOT", "tpot", catalog.TPOT),
    ("ITL", "itl", catalog.ITL),
    ("e2e", "e2e", catalog.E2E),
)
_GREY = "<p>Grey: warm-up and cool-down. They are shown here and count in no figure above.</p>"
# Distributions are drawn up to here.
_SHOWN = 0.999


def page(
    runs: Sequence[Recording], rule: Rule, summary: Summary, spec: Spec | None = None, verdict: Verdict | None = None
) -> str:
    """The page of the first run's steady part. Thresholds of the spec are drawn; several runs give curves by rate."""
    run, cut = steady(runs[0], rule)
    by_rate = list(_by_rate(runs, rule, spec))
    return html.page(
        f"Load test of {run.header.fingerprint.model}",
        describe(run),
        _verdict(verdict) if verdict else _list([str(cut)]),
        html.tiles(list(_headlines(summary))),
        html.section("Latencies", _table(latencies(summary)), _grid(_distributions(run.records, spec))),
        *([html.section("By rate", _grid(by_rate))] if by_rate else []),
        html.section(
            "Over time",
            _GREY if cut.before + cut.after else "",
            _grid(_over_time(runs[0], cut, spec)),
            _grid([_requests(runs[0].records)]),
        ),
        html.section("Figures", *_figures(run, summary)),
    )


def _headlines(summary: Summary) -> Iterator[tuple[str, str]]:
    yield "requests", f"{summary.requests:,}"
    if failed := summary.requests - summary.outcomes.get(OK, 0):
        yield "of them failed", f"{failed / summary.requests:.2%}"
    if summary.requests_per_second is not None and summary.output_tokens_per_second is not None:
        yield "answers per second", f"{summary.requests_per_second:.1f}"
        yield "output tokens per second", f"{summary.output_tokens_per_second:,.0f}"
    if summary.goodput is not None:
        yield "good answers per second", f"{summary.goodput:.1f}"
    for name, field, _ in _LATENCIES[:2]:
        if found := getattr(summary, field):
            yield f"{name} p95, ms", f"{found.p95 * 1000:,.1f}"


def _figures(run: Recording, summary: Summary) -> Iterator[str]:
    rows = [f"<td>{escape(name)}</td><td>{escape(value)}</td>" for name, value in facts(run, summary)]
    yield html.table_of(("figure", "value"), rows)
    if sampled := server(run):
        yield _table(sampled)


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


def _grid(charts: Iterable[str]) -> str:
    return f'<div class="charts">{"".join(charts)}</div>'


# --- charts -----------------------------------------------------------------------------------------------------------


def _distributions(records: Sequence[RequestRecord], spec: Spec | None) -> Iterator[str]:
    for name, field, metric in _LATENCIES:
        points, highest = _distribution(_ordered(records, field))
        what = "gaps" if field == "itl" else "answers"
        beyond = f"ms; highest {highest:,.0f}" if points and points[-1][0] < highest else "ms"
        yield chart(f"{name}, % of {what} within", [Series(points)], beyond, _limits(spec, metric))


def _ordered(records: Sequence[RequestRecord], field: str) -> Sequence[float]:
    """Of every request that has the latency; of ITL every gap."""
    if field == "itl":
        return Tally(record.gaps_ns for record in records)
    return sorted(value for record in records if (value := getattr(record, field)) is not None)


def _distribution(ordered: Sequence[float]) -> tuple[list[Point], float]:
    """Values in ms up to the 99.9th percentile, with the percentage of values not above each; and the highest one.

    One request in a thousand would else take the chart for itself.
    """
    if not ordered:
        return [], 0.0
    last = ceil(_SHOWN * len(ordered)) - 1
    ranks = [*thinned(range(last), MOST_POINTS - 1), last]
    return [(ordered[rank] * 1000, 100 * (rank + 1) / len(ordered)) for rank in ranks], ordered[-1] * 1000


def _limits(spec: Spec | None, metric: Metric) -> list[float]:
    """The thresholds of the spec for a latency, in ms."""
    conditions = [c for slo in spec.slos for c in latency_conditions(slo.sli) if c.metric == metric] if spec else []
    return sorted({c.threshold * 1000 for c in conditions})


def _by_rate(runs: Sequence[Recording], rule: Rule, spec: Spec | None) -> Iterator[str]:
    """The knee: quantiles and answers of every run, or of every level of one, at the rate that was asked for."""
    goodput = _goodput(spec)
    points = sorted(_rates(runs, rule, goodput), key=lambda point: point[0])
    if len(points) < 2:
        return
    for name, field, metric in _LATENCIES[:2]:
        series = list(_quantile_series(points, field))
        yield chart(f"{name} in ms, against the rate", series, "requests/s", levels=_limits(spec, metric))
    answers = [Series([(rate, s.requests_per_second or 0.0) for rate, s in points], name="answers")]
    if goodput:
        answers.append(Series([(rate, s.goodput or 0.0) for rate, s in points], name="good answers"))
    yield chart("Answers per second, against the rate", answers, "requests/s")
    tokens = [(rate, s.output_tokens_per_second or 0.0) for rate, s in points]
    yield chart("Output tokens per second, against the rate", [Series(tokens)], "requests/s")


def _rates(runs: Sequence[Recording], rule: Rule, goodput: GoodputSli | None) -> Iterator[tuple[float, Summary]]:
    for run in runs:
        stages = list(levels(run)) if len(runs) == 1 else []
        if stages:
            yield from (((s.start + s.end) / 2, summarize(part, goodput)) for s, part in stages if part.records)
        else:
            summary = summarize(steady(run, rule)[0], goodput)
            yield run.header.load.rate or summary.requests_per_second or 0.0, summary


def _goodput(spec: Spec | None) -> GoodputSli | None:
    return next((slo.sli for slo in spec.slos if isinstance(slo.sli, GoodputSli)), None) if spec else None


def _quantile_series(points: Sequence[tuple[float, Summary]], field: str) -> Iterator[Series]:
    for quantile in ("p50", "p90", "p99"):
        found: list[tuple[float, Quantiles]] = [(rate, q) for rate, s in points if (q := getattr(s, field))]
        yield Series([(rate, getattr(q, quantile) * 1000) for rate, q in found], "line", quantile)


def _over_time(run: Recording, cut: Cut, spec: Spec | None) -> Iterator[str]:
    """The whole run on one axis, what does not count in grey."""
    records = sorted(run.records, key=lambda record: record.scheduled_ns)
    end = max([r.done_ns for r in records] + [s.at_ns for s in run.samples], default=0) / NS
    span = Span(end, cut.begin, cut.end) if cut.before + cut.after else Span(end, 0.0, end)
    served = thinned([record for record in records if record.token_ns], MOST_POINTS)
    ttft = [(record.scheduled_ns / NS, record.ttft * 1000) for record in served if record.ttft is not None]
    limits = _limits(spec, catalog.TTFT)
    yield chart("TTFT in ms, by intended start", [Series(ttft, "dots")], "seconds", levels=limits, span=span)
    yield chart("Answers per second, by their end", list(_answers(run, _goodput(spec))), "seconds", span=span)
    lines = [
        ("Requests in flight", _in_flight(records)),
        ("Output tokens per second", _tokens(records)),
        *((lane.title, lane.points) for lane in lanes(run.samples)),
    ]
    for title, points in lines:
        yield chart(title, [Series(points, "steps")], "seconds", span=span)


def _answers(run: Recording, goodput: GoodputSli | None) -> Iterator[Series]:
    """Complete answers by the second in which they ended, and those of them that were good."""
    ended = [record for record in run.records if record.error is None]
    yield Series(_by_second(record.done_ns for record in ended), "steps", "all")
    if goodput:
        good = (r.done_ns for r in ended if goodput.judge(r.to_request(run.header.started_unix_ns)))
        yield Series(_by_second(good), "steps", "good")


def _by_second(stamps: Iterable[int]) -> list[Point]:
    counts = Counter(stamp // NS for stamp in stamps)
    return [(second, counts[second]) for second in range(max(counts, default=-1) + 1)]


def _in_flight(records: Sequence[RequestRecord]) -> list[Point]:
    sent, done = sorted(record.sent_ns for record in records), sorted(record.done_ns for record in records)
    changes = thinned(sorted([*sent, *done]), MOST_POINTS)
    return [(stamp / NS, bisect_right(sent, stamp) - bisect_right(done, stamp)) for stamp in changes]


def _tokens(records: Sequence[RequestRecord]) -> list[Point]:
    """Tokens by the second in which they came; a chunk of several counts them all."""
    last = max((record.token_ns[-1] for record in records if record.token_ns), default=0)
    seconds = range(last // NS)  # the last one is not whole
    return list(zip(seconds, tokens_between(records, [s * NS for s in (*seconds, len(seconds))]), strict=True))


def _requests(records: Sequence[RequestRecord]) -> str:
    every = ceil(len(records) / MOST_ROWS)
    shown = thinned(sorted(records, key=lambda record: record.scheduled_ns), MOST_ROWS)
    return timeline(f"Requests, one in {every}" if every > 1 else "Requests", list(_bars(shown)))


def _bars(records: Sequence[RequestRecord]) -> Iterator[Bar]:
    """A bar per request: waiting up to the first token, then streaming."""
    for record in records:
        yield Bar(
            begin=record.scheduled_ns / NS,
            change=(record.token_ns[0] if record.token_ns else record.done_ns) / NS,
            end=record.done_ns / NS,
            bad=record.error is not None,
            text=f"request {record.seq}: {record.error or record.finish_reason or 'ok'}",
        )
