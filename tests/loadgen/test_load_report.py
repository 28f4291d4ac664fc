"""Reports: what a terminal, a pull request, a CI system and a browser get to see."""

import csv
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from load_header import header
from load_records import footer, recording, request

from loadgen.judging.verdict import Verdict, judge
from loadgen.reports import report, tabular
from loadgen.reports.charts import Bar, Series, Span, chart, timeline
from loadgen.reports.page import page
from loadgen.results.levels import levels
from loadgen.results.record import Recording, RequestRecord, Sample
from loadgen.results.summary import quantile, summarize
from loadgen.traffic.arrivals import Load
from slo import catalog
from slo.sli import AvailabilitySli, GoodputSli, LatencySli, SaturationSli, ThroughputSli
from slo.spec.model import Slo, Spec

TTFT, TPOT = LatencySli(catalog.TTFT, 0.25), LatencySli(catalog.TPOT, 0.05)
CHAT = Spec(
    service="chat",
    slos=tuple(
        Slo(service="chat", name=name, objective=objective, sli=sli)
        for name, objective, sli in (
            ("ttft", 0.95, TTFT),
            ("tpot", 0.95, TPOT),
            ("throughput", 0.9, ThroughputSli(200, 8)),
            ("kv-cache", 0.99, SaturationSli(0.95)),
            ("availability", 0.99, AvailabilitySli()),
            ("goodput", 0.9, GoodputSli((TTFT, TPOT))),
        )
    ),
)
GOOD = [request(i) for i in range(400)]
MIXED = [request(i, ttft=0.4 if i % 10 == 0 else 0.1, error="timeout" if i % 50 == 0 else None) for i in range(400)]


def verdict_on(records: list[RequestRecord]) -> Verdict:
    return judge(CHAT, recording(records))


def test_junit_has_a_case_per_slo_and_inconclusive_is_an_error() -> None:
    """Counts agree with the cases; a CI system that knows only JUnit sees red for everything but PASS."""
    suite = ElementTree.fromstring(report.junit(verdict_on(MIXED), "chat"))
    kinds = {case.get("name"): [child.tag for child in case] for case in suite.iter("testcase")}
    assert kinds == {
        "client": [],
        "chat-ttft": ["failure"],
        "chat-tpot": ["system-out"],
        "chat-throughput": ["error"],
        "chat-kv-cache": ["skipped"],
        "chat-availability": ["error"],
        "chat-goodput": ["error"],
    }
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "7", "failures": "1", "errors": "3", "skipped": "1",
    }  # fmt: skip


def test_junit_shows_a_client_in_doubt_as_an_error() -> None:
    """Even though every SLO passes."""
    verdict = judge(CHAT, recording(GOOD, footer(interrupted=True)))
    suite = ElementTree.fromstring(report.junit(verdict, "chat"))
    client = suite.find("testcase[@name='client']/error")
    assert client is not None
    assert client.get("message") == "the run was interrupted"


def test_junit_survives_any_text() -> None:
    """What a server puts into an error message cannot break the XML."""
    bad = RequestRecord(
        seq=0, trace_id="", scheduled_ns=0, sent_ns=0, done_ns=1, error="client_error", detail="\x00<&\ud800\uffff"
    )
    ElementTree.fromstring(report.junit(verdict_on([*GOOD, bad]), "chat").encode())


def test_text_and_markdown_lead_with_the_outcome() -> None:
    """First the verdict, then its checks and what was skipped, then the figures."""
    run = recording(MIXED)
    summary, verdict = summarize(run), judge(CHAT, run)
    for text, lead in (
        (report.text(run, summary, verdict), "FAIL\n"),
        (report.markdown(run, summary, verdict), "## FAIL\n"),
    ):
        assert text.startswith(lead)
        assert re.search(r"FAIL\W+chat-ttft\W+ttft ≤ 250 ms: 91\.84% good", text)
        assert re.search(r"skipped\W+chat-kv-cache", text)
        assert re.search(r"requests\W+400 \(392 ok, 8 timeout\)", text)
        assert re.search(r"TTFT\W+392\W+100\.0\W", text)


def test_what_is_absent_has_no_row() -> None:
    """A run in which nothing was answered shows no latency of zero."""
    run = recording([request(i, error="refused") for i in range(5)])
    text = report.text(run, summarize(run))
    assert "TTFT" not in text
    assert "5 (5 refused)" in text
    assert "CUT SHORT" in report.text(Recording(header(Load(concurrency=1)), ()), summarize(Recording(run.header, ())))


class Tags(HTMLParser):
    """Collects the tags of a page and checks that they nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_stands_alone() -> None:
    """Well-nested, four distributions, four lanes, a timeline, verdict first, no scripts, nothing fetched."""
    run = recording(MIXED)
    html = page([run], "none", summarize(run), CHAT, judge(CHAT, run))
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    assert tags.seen.count("svg") == 9
    assert not {"script", "link", "img"} & set(tags.seen)
    assert "http" not in html.replace("http://test", "")
    assert html.index("FAIL") < html.index("<svg")
    assert html.count('class="mark"') == 2  # TTFT has one of 250 ms: across its distribution and its course
    assert html.count("limit 50 →") == 1  # all TPOT lie far below theirs


@given(
    st.lists(st.tuples(st.floats(0, 1e9), st.floats(0, 1e9)), max_size=50).map(sorted),
    st.sampled_from(["line", "steps", "dots"]),
)
def test_charts_stay_inside_their_frame(points: list[tuple[float, float]], style: str) -> None:
    """Any values, also all zero or none, and limits anywhere: well-formed SVG, every coordinate inside the picture."""
    series, span = [Series(points, style)] * 2, Span(7.5, 2.0, 5.0)  # type: ignore[arg-type]
    svg = ElementTree.fromstring(chart("<title> & all", series, "x", [5.0, 1e12], [5.0, 1e12], span))
    for rect in svg.iter("rect"):
        assert 52 <= float(rect.get("x") or 0) <= float(rect.get("x") or 0) + float(rect.get("width") or 0) <= 444.1
    for line in svg.iter("line"):
        assert 0 <= float(line.get("x1") or -1) <= 460
        assert 0 <= float(line.get("y1") or -1) <= 240
    for path in svg.iter("path"):
        assert "nan" not in (path.get("d") or "nan")


@given(st.lists(st.tuples(*[st.floats(0, 1e6)] * 3).map(sorted), max_size=300))
def test_timelines_stay_inside_their_frame(spans: list[list[float]]) -> None:
    """Of many bars a part is drawn, each within the picture, whatever it says."""
    bars = [Bar(begin, change, end, bad=end > 10, text="<&>") for begin, change, end in spans]
    svg = ElementTree.fromstring(timeline("all", bars))
    boxes = list(svg.iter("rect"))
    assert len(boxes) <= 240
    for box in boxes:
        assert 0 <= float(box.get("x") or -1) <= float(box.get("x") or 0) + float(box.get("width") or 0) <= 941


def test_several_runs_show_where_latency_rises() -> None:
    """With two rates there are four more charts, two of them with a legend of three quantiles."""
    other = Recording(header(Load(rate=5.0, requests=400)), tuple(GOOD), footer())
    html = page([recording(MIXED), other], "none", summarize(recording(MIXED)))
    assert html.count("against the rate") == 8  # a title and a label for each
    assert html.count('class="name s2"') == 2


def test_a_sweep_shows_where_latency_rises() -> None:
    """The stages of one run are its rates: each has the requests that were due in it."""
    load = Load(rate=20, arrivals="constant", stages="10:8,20:8,30:4")
    run = Recording(header(load), tuple(GOOD), footer())
    assert [(stage.start, len(part.records)) for stage, part in levels(run)] == [(10, 160), (20, 160), (30, 80)]
    assert page([run], "none", summarize(run)).count("TTFT in ms, against the rate") == 2


def test_one_slow_answer_does_not_hide_the_others() -> None:
    """A distribution ends at its 99.9th percentile and says where the highest value lies."""
    run = recording([request(i, ttft=60.0 if i == 7 else 0.1 + i / 1e5) for i in range(2_000)])
    assert "ms; highest 60,000" in page([run], "none", summarize(run))


def test_what_was_cut_is_grey() -> None:
    """The course of a run is shown whole, with what counts in no figure on a ground of its own."""
    run = recording(GOOD)
    html = page([run], 5.0, summarize(run))
    assert "Grey: warm-up and cool-down." in html
    assert html.count('class="cut"') == 2 * 4  # before and after, in four charts
    assert "kept 5.0 s to 14.9 s" in html


def test_what_was_sampled_is_shown() -> None:
    """KV cache and power: lanes on the page, rows in the text; two engines' queues add up."""
    values = {catalog.KV_USAGE.name: (0.25, 0.5), catalog.WAITING.name: (1.0, 2.0), catalog.GPU_POWER.name: (300.0,)}
    run = replace(recording(GOOD), samples=tuple(Sample(at_ns=i * 10**9, values=values) for i in range(5)))
    assert "GPU power, W" in page([run], "none", summarize(run))
    text = report.text(run, summarize(run))
    assert re.search(r"KV cache in use, %, fullest engine +50\.0 +50\.0\b", text)
    assert re.search(r"Requests waiting +3\.0 +3\.0\b", text)


def test_every_stage_has_its_figures() -> None:
    """A sweep: requests by the stage in which they were due, in text and Markdown; a steady load has no such rows."""
    run = Recording(header(Load(rate=20.0, stages="10..30/3:5,20..5:5")), tuple(GOOD), footer(coalesced=0.125))
    text = report.text(run, summarize(run))
    assert re.search(r"10/s for 5 s +100 +0 +\S+ +\S+ +100\.0 +100\.0 +20\.0 +20\.0", text)
    assert re.search(r"20\.\.5/s for 5 s +100 ", text)
    assert re.search(r"chunks read with the one before +12\.5%", text)
    assert "| 30/s for 5 s | 100 |" in report.markdown(run, summarize(run))
    assert "for 5 s" not in report.text(recording(GOOD), summarize(recording(GOOD)))


def test_csv_has_a_row_per_request() -> None:
    """Times in seconds, absent ones empty."""
    first, *rest = csv.DictReader(tabular.csv(recording(MIXED)).splitlines())
    assert len(rest) == 399
    assert (first["error"], first["ttft_s"], first["e2e_s"]) == ("timeout", "", "")
    assert (rest[0]["ttft_s"], rest[0]["output_tokens"], rest[0]["scheduled_s"]) == ("0.100000", "16", "0.050000")
    part = replace(GOOD[0], session=3, turn=1, model="a", tenant="b", tokens_from="chunks")
    (row,) = csv.DictReader(tabular.csv(recording([part])).splitlines())
    assert [row[name] for name in ("session", "turn", "model", "tenant", "tokens_from")] == [
        "3",
        "1",
        "a",
        "b",
        "chunks",
    ]


@pytest.mark.parametrize(("q", "value"), [(0, 1), (0.5, 2.5), (0.25, 1.75), (0.9, 3.7), (1, 4)])
def test_quantiles_interpolate_between_ranks(q: float, value: float) -> None:
    """As numpy.quantile([1, 2, 3, 4], q) does."""
    assert quantile([1, 2, 3, 4], q) == pytest.approx(value)


@given(st.lists(st.floats(0, 1e6), min_size=1).map(sorted), st.floats(0, 1), st.floats(0, 1))
def test_quantiles_lie_between_the_extremes_and_rise(values: list[float], p: float, q: float) -> None:
    """The laws of a quantile, up to rounding."""
    low, high = quantile(values, min(p, q)), quantile(values, max(p, q))
    assert values[0] <= low <= high * (1 + 1e-12) <= values[-1] * (1 + 1e-9)
