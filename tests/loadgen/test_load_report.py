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

from loadgen import report, tabular
from loadgen.arrivals import Load
from loadgen.charts import Bar, Series, chart, timeline
from loadgen.page import page
from loadgen.record import Recording, RequestRecord, Sample
from loadgen.summary import quantile, summarize
from loadgen.verdict import Verdict, judge
from slo import catalog
from slo.sli import AvailabilitySli, GoodputSli, LatencySli, SaturationSli, ThroughputSli
from slo.spec import Slo, Spec

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
    """Well-nested, four distributions, three lanes, a timeline, verdict first, no scripts, nothing fetched."""
    run = recording(MIXED)
    html = page([run], "none", summarize(run), CHAT, judge(CHAT, run))
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    assert tags.seen.count("svg") == 8
    assert not {"script", "link", "img"} & set(tags.seen)
    assert "http" not in html.replace("http://test", "")
    assert html.index("FAIL") < html.index("<svg")
    assert html.count('class="mark"') == 1  # the TTFT threshold of 250 ms; all TPOT lie far below theirs


@given(
    st.lists(st.tuples(st.floats(0, 1e9), st.floats(0, 1e9)), max_size=50).map(sorted),
    st.sampled_from(["line", "steps", "dots"]),
)
def test_charts_stay_inside_their_frame(points: list[tuple[float, float]], style: str) -> None:
    """Any values, also all zero or none: well-formed SVG with every coordinate inside the picture."""
    svg = ElementTree.fromstring(chart("<title> & all", [Series(points, style)], "x"))  # type: ignore[arg-type]
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
    """With two rates there are two more charts, with a legend of three quantiles."""
    other = Recording(header(Load(rate=5.0, requests=400)), tuple(GOOD), footer())
    html = page([recording(MIXED), other], "none", summarize(recording(MIXED)))
    assert html.count("against the rate") == 4  # a title and a label for each
    assert html.count('class="name s2"') == 2


def test_what_was_sampled_is_shown() -> None:
    """KV cache and power: lanes on the page, rows in the text; two engines' queues add up."""
    values = {catalog.KV_USAGE.name: (0.25, 0.5), catalog.WAITING.name: (1.0, 2.0), catalog.GPU_POWER.name: (300.0,)}
    run = replace(recording(GOOD), samples=tuple(Sample(at_ns=i * 10**9, values=values) for i in range(5)))
    assert "GPU power, W" in page([run], "none", summarize(run))
    text = report.text(run, summarize(run))
    assert re.search(r"KV cache in use, share, fullest engine +0\.5 +0\.5\b", text)
    assert re.search(r"requests waiting +3 +3\b", text)


def test_csv_has_a_row_per_request() -> None:
    """Times in seconds, absent ones empty."""
    first, *rest = csv.DictReader(tabular.csv(recording(MIXED)).splitlines())
    assert len(rest) == 399
    assert (first["error"], first["ttft_s"], first["e2e_s"]) == ("timeout", "", "")
    assert (rest[0]["ttft_s"], rest[0]["output_tokens"], rest[0]["scheduled_s"]) == ("0.100000", "16", "0.050000")


@pytest.mark.parametrize(("q", "value"), [(0, 1), (0.5, 2.5), (0.25, 1.75), (0.9, 3.7), (1, 4)])
def test_quantiles_interpolate_between_ranks(q: float, value: float) -> None:
    """As numpy.quantile([1, 2, 3, 4], q) does."""
    assert quantile([1, 2, 3, 4], q) == pytest.approx(value)


@given(st.lists(st.floats(0, 1e6), min_size=1).map(sorted), st.floats(0, 1), st.floats(0, 1))
def test_quantiles_lie_between_the_extremes_and_rise(values: list[float], p: float, q: float) -> None:
    """The laws of a quantile, up to rounding."""
    low, high = quantile(values, min(p, q)), quantile(values, max(p, q))
    assert values[0] <= low <= high * (1 + 1e-12) <= values[-1] * (1 + 1e-9)
