"""The whole path on a real vLLM: names, counters, spans, rules, verdict and alert all say the same."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx
import pytest
from conftest import BIN, SPEC, Stack, eventually, scraped
from prometheus_client.parser import text_string_to_metric_families

from loadgen.results import reading, record
from loadgen.results.exposition import Interval, Reading, read
from slo import catalog
from slo.catalog import Kind, Metric
from slo.promql import Selector
from slo.sli import Count, LatencySli, RequestSli, exact_terms
from slo.spec.model import Slo, load

pytestmark = pytest.mark.engine

REQUESTS = 200
# Families that vLLM 0.32 exposes only when asked to by flags that the test engine does not set.
OPT_IN = {catalog.CORRUPTED, catalog.DRAFT_TOKENS, catalog.ACCEPTED_TOKENS}
ENGINE_METRICS = [m for m in catalog.families() if "vllm" in m.upstream]
# Seconds between two readings of one moment: a stamp is taken a little before or after what it stamps.
STAMP = 0.001


def page(url: str) -> str:
    return httpx.get(f"{url}/metrics", timeout=10).raise_for_status().text


def series(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def exposed(text: str) -> set[str]:
    """The TYPE lines' names: what is exposed, even without a sample."""
    return set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))


def upstream_names(metric: Metric) -> set[str]:
    """How vLLM may spell a family in a TYPE line: Python clients say counters without _total there or with."""
    names = {u.name for u in metric.upstream["vllm"]}
    return names | {n.removesuffix("_total") for n in names}


@dataclass(frozen=True)
class Run:
    """One load test against the live engine, and the sidecar's pages before and after."""

    recording: record.Recording
    interval: Interval
    gate: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def run(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """200 requests at 20 a second, some of them wrong, after a warm-up that makes every series exist."""
    home = tmp_path_factory.mktemp("run")
    _drive(stack, home / "warm-up.jsonl", "--requests", "5", "--rate", "5")
    _wrong_request(stack)
    eventually("spans of all that came before", lambda: _settled(stack))
    eventually("a scrape before the run", lambda: _scraped(stack))
    before = read(page(stack.sidecar))
    _drive(stack, home / "records.jsonl", "--requests", str(REQUESTS), "--rate", "20")
    for _ in range(3):
        _wrong_request(stack)
    eventually("all spans", lambda: _spans(read(page(stack.sidecar))) - _spans(before) >= REQUESTS and _settled(stack))
    sent = {r.trace_id for r in reading.read(home / "records.jsonl").records}
    eventually("all spans in the tracing backend", lambda: sent <= stack.collector.requests.keys())
    gate = [BIN / "slo-load", "gate", home / "records.jsonl", "--slo", SPEC, "--steady", "none", "--json"]
    return Run(
        reading.read(home / "records.jsonl"),
        Interval(before, read(page(stack.sidecar))),
        subprocess.run(gate, capture_output=True, text=True, check=False),
    )


def _drive(stack: Stack, records: Path, *load: str) -> None:
    command = [BIN / "slo-load", "run", "--target", stack.engine, "--model", "tiny-llama", "--records", records,
               "--prompt-tokens", "100", "--output-tokens", "24", "--seed", "1", *load]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)


def _wrong_request(stack: Stack) -> None:
    answer = httpx.post(f"{stack.engine}/v1/chat/completions", json={"model": "tiny-llama", "messages": "?"})
    assert answer.status_code == 400


def _settled(stack: Stack) -> bool:
    """Whether the spans, which come in batches, have caught up with the requests that the engine finished."""
    reading = read(page(stack.sidecar))
    return _spans(reading) == reading.sum(Selector(catalog.E2E, "_count"))


def _scraped(stack: Stack) -> bool:
    """Whether Prometheus, where there is one, has seen the series that the run will raise."""
    return stack.prometheus is None or scraped(stack.prometheus, f"{catalog.E2E.name}_count")


def _spans(reading: Reading) -> float:
    return reading.sum(Selector(catalog.SPAN_TTFT, "_count")) or 0.0


@pytest.mark.parametrize("metric", ENGINE_METRICS, ids=lambda m: m.name)
def test_every_family_of_the_catalogue_is_found(stack: Stack, run: Run, metric: Metric) -> None:
    """The real engine exposes what the catalogue claims of it, and the sidecar passes it on under our name."""
    assert bool(upstream_names(metric) & exposed(page(stack.engine))) == (metric not in OPT_IN)
    assert (metric.name in exposed(page(stack.sidecar))) == (metric not in OPT_IN)


def test_counters_equal_the_engines(stack: Stack, run: Run) -> None:
    """Every counter and histogram value is the engine's own, to the last digit."""
    engine, sidecar = series(page(stack.engine)), series(page(stack.sidecar))
    compared = 0
    for metric in ENGINE_METRICS:
        if metric.kind is Kind.GAUGE or metric in OPT_IN:
            continue
        upstream = metric.upstream["vllm"][0].name
        for (name, labels), value in engine.items():
            if re.fullmatch(re.escape(upstream) + r"(_bucket|_sum|_count)?", name):
                ours = labels | {("model_name", "tiny-llama")}
                assert sidecar[metric.name + name.removeprefix(upstream), ours] == value
                compared += 1
    assert compared > 200


@pytest.mark.parametrize(
    ("histogram", "span"),
    [(catalog.TTFT, catalog.SPAN_TTFT), (catalog.E2E, catalog.SPAN_E2E), (catalog.QUEUE_TIME, catalog.SPAN_QUEUE_TIME)],
    ids=lambda m: m.name,
)
def test_spans_agree_with_histograms_bucket_by_bucket(run: Run, histogram: Metric, span: Metric) -> None:
    """The latencies in the spans fall into the very buckets that vLLM counted."""
    for edge in histogram.buckets:
        ((_, theirs),) = LatencySli(histogram, edge).good_terms()
        ours = Selector(span, "_bucket", theirs.matchers)
        assert run.interval.growth(ours) == run.interval.growth(theirs), edge
    assert run.interval.growth(Selector(span, "_count")) == REQUESTS


def test_token_counts_agree_exactly(run: Run) -> None:
    """Client, engine counter and spans count the same prompt and output tokens."""
    records = run.recording.records
    assert all(r.error is None for r in records)
    for field, counter, span in (
        ("prompt_tokens", catalog.PROMPT_TOKENS, catalog.SPAN_PROMPT_TOKENS),
        ("output_tokens", catalog.GENERATION_TOKENS, catalog.SPAN_GENERATION_TOKENS),
    ):
        said = sum(getattr(r, field) for r in records)
        assert run.interval.growth(Selector(counter)) == said
        assert run.interval.growth(Selector(span)) == said
    assert sum(r.output_tokens or 0 for r in records) == REQUESTS * 24


def test_client_and_engine_agree_request_by_request(stack: Stack, run: Run) -> None:
    """Every request has its span under the trace id it was sent with. The engine's clock starts when a request has
    arrived and stops before an answer leaves, so the client never sees anything earlier; tokens are the same."""
    seen = [(client, stack.collector.requests[r.trace_id])
            for r, client in zip(run.recording.records, run.recording.requests(), strict=True)]  # fmt: skip
    for client, engine in seen:
        assert client.output_tokens == engine.output_tokens
        for latency in ("ttft", "e2e"):
            assert getattr(engine, latency) <= getattr(client, latency) + STAMP
    later = [(client.ttft or 0) - (engine.ttft or 0) for client, engine in seen]
    print(f"TTFT of the client less the engine's: median {median(later) * 1e3:.1f} ms, most {max(later) * 1e3:.1f} ms")
    assert median(later) < 0.25  # some ms on a quiet machine; two busy cores delay whoever waits for a token


@contextmanager
def _prometheus(stack: Stack) -> Iterator[httpx.Client]:
    if stack.prometheus is None:
        pytest.skip("prometheus and prometheus-alertmanager are not installed")
    with httpx.Client(base_url=stack.prometheus) as client:
        yield client


def _query(client: httpx.Client, expr: str) -> float | None:
    result = client.get("/api/v1/query", params={"query": expr}).raise_for_status().json()["data"]["result"]
    return float(result[0]["value"][1]) if result else None


REQUEST_SLOS = [slo for slo in load(SPEC).slos if isinstance(slo.sli, RequestSli)]


def _judged(stack: Stack, slo: Slo, since: float) -> Count:
    """What the spans say of all requests that ended since then."""
    assert isinstance(slo.sli, RequestSli)
    count = slo.sli.count([r for r in stack.collector.requests.values() if r.start + (r.e2e or 0) >= since])
    assert count is not None
    return count


@pytest.mark.parametrize("slo", REQUEST_SLOS, ids=lambda s: s.name)
def test_the_recorded_ratio_is_what_the_spans_say(stack: Stack, run: Run, slo: Slo) -> None:
    """The rules' good share of five minutes is that of the requests judged one by one, whoever sent them.

    rate() extrapolates both series alike, but for requests within a scrape of the window's ends: 3 % covers them.
    """
    with _prometheus(stack) as client:
        ratio = f'slo:good:rate5m{{slo="{slo.id}"}} / slo:total:rate5m{{slo="{slo.id}"}}'

        def agree() -> bool:
            said, judged = _query(client, ratio), _judged(stack, slo, time.time() - 300)
            total = _query(client, f'300 * slo:total:rate5m{{slo="{slo.id}"}}')
            print(f"{slo.id}: Prometheus {said} of {total}, spans {judged.good}/{judged.total}")
            return said is not None and abs(said - judged.good / judged.total) <= 0.03

        eventually(f"{slo.id} in Prometheus", agree)


@pytest.mark.parametrize("slo", REQUEST_SLOS, ids=lambda s: s.name)
def test_the_gate_judges_what_the_client_saw(run: Run, slo: Slo) -> None:
    """The verdict counts the client's requests by the same definition."""
    assert isinstance(slo.sli, RequestSli)
    check = next(c for c in json.loads(run.gate.stdout)["checks"] if c["name"] == slo.id)
    count = slo.sli.count(run.recording.requests())
    assert count is not None
    assert check["count"] == {"good": count.good, "total": count.total}


def test_availability_is_exact(stack: Stack, run: Run) -> None:
    """Answered requests count one by one in the engine's HTTP counter; the wrong ones count for nobody."""
    slo = next(s for s in REQUEST_SLOS if s.name == "availability")
    assert isinstance(slo.sli, RequestSli)
    assert run.interval.count(slo.sli.good_terms(), slo.sli.total_terms()) == slo.sli.count(run.recording.requests())
    with _prometheus(stack) as client:
        eventually("availability", lambda: _query(client, f'slo:burn_rate:5m{{slo="{slo.id}"}}') == 0)


def test_goodput_from_spans_is_exact(stack: Stack, run: Run) -> None:
    """The sidecar's counters are the spans of the run judged one by one."""
    slo = next(s for s in REQUEST_SLOS if s.name == "goodput")
    assert isinstance(slo.sli, RequestSli)
    spans = [stack.collector.requests[r.trace_id] for r in run.recording.records]
    assert run.interval.count(*exact_terms(slo.id)) == slo.sli.count(spans)


def test_a_broken_promise_pages_through_alertmanager(stack: Stack, run: Run) -> None:
    """No engine answers in 1 ms: Prometheus fires the page and the real Alertmanager holds it, named after its SLO."""
    if stack.alertmanager is None:
        pytest.skip("prometheus and prometheus-alertmanager are not installed")
    url = f"{stack.alertmanager}/api/v2/alerts"

    def pages() -> set[str]:
        alerts = httpx.get(url).raise_for_status().json()
        return {a["labels"]["slo"] for a in alerts if a["labels"].get("severity") == "page"}

    eventually("the page", lambda: "agreement-impossible" in pages())
    assert "agreement-availability" not in pages()
    assert "agreement-goodput" not in pages()
