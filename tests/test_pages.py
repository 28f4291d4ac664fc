"""The pages that commands write, as a person sees them: opened in headless Chromium, which measures what it drew."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from loadgen.judging.verdict import judge
from loadgen.reports.page import page as report_page
from loadgen.results.record import Client, Fingerprint, Footer, Header, Recording, RequestRecord, Sample
from loadgen.results.steady import steady
from loadgen.results.summary import summarize
from loadgen.traffic.arrivals import Load
from loadgen.traffic.workload import Workload
from slo import catalog
from slo.live.status import Status
from slo.live.status_page import page as status_page
from slo.sli import GoodputSli
from slo.spec.model import load

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: chromium)"),
]

SPEC = load(Path(__file__).parents[1] / "slo" / "specs" / "chat.yaml")
GOODPUT = next(slo.sli for slo in SPEC.slos if isinstance(slo.sli, GoodputSli))
MS = 1_000_000
# What it costs nothing to leave out, and Chromium would else ask the network for.
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip

MEASURE = f"<script>{Path(__file__).with_name('pages.js').read_text(encoding='utf-8')}</script>"


def seen(html: str, home: Path, *flags: str) -> Any:
    """What Chromium drew of the page."""
    (home / "page.html").write_text(html + MEASURE, encoding="utf-8")
    command = [CHROMIUM, *FLAGS, *flags, f"--user-data-dir={home / 'profile'}", "--dump-dom", home / "page.html"]
    done = subprocess.run(map(str, command), capture_output=True, text=True, timeout=60, check=True)
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    return json.loads(unescape(found[1]))


def recording() -> Recording:
    """80 requests a quarter of a second apart, TTFT 60 to 139 ms, 20 tokens each; every tenth failed."""
    header = Header(
        started_unix_ns=0,
        target="http://test",
        timeout=5.0,
        workload=Workload(),
        load=Load(rate=4.0, arrivals="constant", requests=80),
        fingerprint=Fingerprint(model="a-model-with-a-rather-long-name <&>", engine="vllm", engine_version="0.32.0"),
        client=Client(version="1", python="3", event_loop="uvloop", cores=2),
    )
    footer = Footer(interrupted=False, seconds=20.0, sent=80, achieved_rate=4.0, cpu_share=0.1)
    return Recording(header, tuple(request(i) for i in range(80)), footer)


def sweep() -> Recording:
    """20 requests in ten seconds, then 60; a second GPU and a second engine, sampled each second."""
    run = recording()
    values = {
        catalog.KV_USAGE.name: (0.4, 0.2), catalog.WAITING.name: (0.0, 3.0), catalog.GPU_POWER.name: (300.0, 310.0),
        catalog.GPU_SM_ACTIVE.name: (0.5, 0.9),
    }  # fmt: skip
    return replace(
        run,
        header=replace(run.header, load=Load(rate=4.0, arrivals="constant", stages="2:10,6:10")),
        records=tuple(request(i, i * 500 if i < 20 else 10_000 + (i - 20) * 166) for i in range(80)),
        samples=tuple(Sample(at_ns=second * 1000 * MS, values=values) for second in range(21)),
    )


def request(seq: int, due_ms: int | None = None) -> RequestRecord:
    """One request; due a quarter of a second after the one before unless it is told."""
    due, ttft = (seq * 250 if due_ms is None else due_ms) * MS, (60 + seq) * MS
    tokens = tuple(due + ttft + i * 20 * MS for i in range(20))
    whole = RequestRecord(seq=seq, trace_id=f"{seq + 1:032x}", scheduled_ns=due, sent_ns=due, done_ns=tokens[-1] + MS,
                          token_ns=tokens, prompt_tokens=16, output_tokens=20, status=200)  # fmt: skip
    return replace(whole, error="timeout", token_ns=(), output_tokens=None) if seq % 10 == 3 else whole


def report() -> str:
    run = recording()
    return report_page([run], "none", summarize(run), SPEC, judge(SPEC, run))


def sweep_report() -> str:
    run = sweep()
    return report_page([run], 3.0, summarize(steady(run, 3.0)[0], GOODPUT), SPEC)


def statuses() -> list[Status]:
    """An SLO in each state."""
    model = {"model_name": "a-model-with-a-rather-long-name"}
    burn = {"1h": 14.4, "6h": 6.0, "1d": 2.1, "3d": 1.0}
    met, risk, broken, paging, unknown = SPEC.slos[:5]
    return [
        Status(slo=paging, group=model, budget_left=0.5, burn=burn, exhausted_in=7200.0, firing="page"),
        Status(slo=unknown, group={}, budget_left=None, burn={}),
        Status(slo=broken, group=model, budget_left=-0.4, burn=burn, exhausted_in=0.0),
        Status(slo=risk, group=model, budget_left=0.2, burn=burn, exhausted_in=86400.0 * 5),
        Status(slo=met, group=model, budget_left=0.9, burn=burn),
    ]


PAGES = {
    "report": report(),
    "sweep": sweep_report(),
    "status": status_page(statuses(), "http://prometheus:9090", 1_763_640_000),
}
each_page = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())


@each_page
@pytest.mark.parametrize("flags", [["--window-size=1280,900"], ["--window-size=1280,900", "--force-dark-mode",
                         "--blink-settings=preferredColorScheme=0"], ["--window-size=500,900"]],
                         ids=["light", "dark", "narrow"])  # fmt: skip
def test_everything_can_be_read(page: str, flags: list[str], tmp_path: Path) -> None:
    """Light, dark and narrow: text stands out, nothing sticks out of page or chart, nothing was fetched."""
    found = seen(page, tmp_path, *flags)
    assert found["dark"] == ("--force-dark-mode" in flags)
    assert found["faint"] == []
    assert found["outside"] == []
    assert found["overflow"] <= 0
    assert found["fetched"] == []


@each_page
@pytest.mark.parametrize("paper", [False, True], ids=["laptop", "paper"])
def test_no_column_is_cut_off(page: str, paper: bool, tmp_path: Path) -> None:
    """On a laptop's screen and on upright A4 (718 pixels within its margins) every column of every table is there."""
    on_paper = page.replace("@media print", "@media all").replace("@media screen and", "@media print and")
    found = seen(on_paper if paper else page, tmp_path, f"--window-size={718 if paper else 1366},768")
    assert found["cut"] == []


def test_the_report_tells_the_run(tmp_path: Path) -> None:
    """Verdict in a word before all figures, what failed, each chart drawn, names as they are written."""
    found = seen(PAGES["report"], tmp_path, "--window-size=1280,900")
    text = found["text"]
    assert "Load test of a-model-with-a-rather-long-name <&>" in text
    assert text.index("✗ FAIL") < text.index("Latencies")
    assert re.search(r"80 \(72 ok, 8 timeout\)", text)
    titles = [title for title, drawn in found["charts"] if drawn]
    assert [title for title, _ in found["charts"]] == titles
    assert titles[0] == "TTFT, % of answers within"
    assert {"TTFT in ms, by intended start", "Requests in flight", "Requests"} <= set(titles)
    assert "Grey: warm-up and cool-down." not in text  # nothing was cut


def test_the_report_of_a_sweep_shows_where_it_bends(tmp_path: Path) -> None:
    """Figures against the rate, lanes of engines and GPUs, what is cut said in words, all charts drawn."""
    found = seen(PAGES["sweep"], tmp_path, "--window-size=1280,900")
    titles = [title for title, drawn in found["charts"] if drawn]
    assert [title for title, _ in found["charts"]] == titles
    assert {
        "TTFT in ms, against the rate",
        "Answers per second, against the rate",
        "Answers per second, by their end",
        "Requests waiting",
        "KV cache in use, %, fullest engine",
        "GPU power, W, all GPUs",
        "SMs active, %, mean of GPUs",
    } <= set(titles)
    for told in ("kept 3.0 s to", "Grey: warm-up and cool-down.", "good answers per second", "stages 2:10,6:10: mean"):
        assert told in found["text"]


def test_the_status_tells_every_state_in_words(tmp_path: Path) -> None:
    """Worst first, a sign and a word for each state, and bars as long as what is left of the budget."""
    found = seen(PAGES["status"], tmp_path, "--window-size=1280,900")
    states = re.findall(r"^([✓!✗·] [a-z ]+)\t(\S+(?: page)?)", found["text"], re.MULTILINE)
    assert states == [("✓ met", "✗ page"), ("· no data", "-"), ("✗ broken", "-"), ("! at risk", "-"), ("✓ met", "-")]
    half, none, fifth, most = found["bars"]
    assert (none, half / most, fifth / most) == (0, pytest.approx(5 / 9, abs=0.02), pytest.approx(2 / 9, abs=0.02))
    for told in ("2 h", "5 d", "spent", "-40.0%", "2025-11-20 12:00 UTC, from http://prometheus:9090"):
        assert told in found["text"]


@each_page
def test_it_prints(page: str, tmp_path: Path) -> None:
    """On paper it is a few pages, and dark screens do not make dark paper."""
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    printed = tmp_path / "page.pdf"
    command = [CHROMIUM, *FLAGS, "--force-dark-mode", f"--user-data-dir={tmp_path / 'profile'}",
               f"--print-to-pdf={printed}", tmp_path / "page.html"]  # fmt: skip
    subprocess.run(map(str, command), capture_output=True, timeout=60, check=True)
    assert 1 <= len(re.findall(rb"/Type ?/Page\b", printed.read_bytes())) <= 4
