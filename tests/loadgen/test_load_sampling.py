"""Samples of the server during a run: of real pages, on the run's clock, enough to judge what requests cannot."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from load_header import header
from load_records import footer, recording, request, save
from load_servers import Got, Handler, head, in_thread

from loadgen.judging.verdict import Outcome, judge
from loadgen.results.reading import read
from loadgen.results.record import Line, Recording, Sample
from loadgen.results.sampled import count_samples
from loadgen.running.provenance import commit
from loadgen.running.sampling import sampled, unread, values
from loadgen.traffic.arrivals import Load
from loadgen.wire.target import control, parse
from slo import catalog
from slo.sli import Count, ItlSli, SaturationSli, StallSli
from slo.spec.model import Slo, Spec

CAPTURES = Path(__file__).parents[1] / "captures"
PAGE = """\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="1",model_name="a b"} 3.0
vllm:num_requests_running{engine="0",model_name="a b"} 2.0
vllm:kv_cache_usage_perc{engine="0",model_name="a b"} 0.5
vllm:gpu_cache_usage_perc{engine="0",model_name="a b"} 0.4
vllm:generation_tokens_total{engine="0",model_name="a b"} 7.0 # {trace_id="1"} 1.0
DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-1"} 300.5
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-1"} 97
vllm:num_requests_waiting{engine="0" broken
"""


def test_a_page_is_read_under_any_known_name() -> None:
    """Series in the order of their labels, units as ours, one name per family, broken lines left out."""
    assert values(PAGE) == {
        catalog.RUNNING.name: (2.0, 3.0),
        catalog.KV_USAGE.name: (0.5,),
        catalog.GENERATION_TOKENS.name: (7.0,),
        catalog.GPU_POWER.name: (300.5,),
        catalog.GPU_UTILIZATION.name: (0.97,),
    }


def test_a_captured_page_of_two_engines_has_two_of_each() -> None:
    """vLLM 0.32 with data parallelism."""
    found = values((CAPTURES / "vllm-0.32.0-dp2.metrics").read_text())
    assert found[catalog.RUNNING.name] == (30.0, 19.0)
    assert found[catalog.WAITING.name] == (3.0, 4.0)


@pytest.fixture
def page() -> Iterator[str]:
    async def serve(got: Got, writer: asyncio.StreamWriter) -> None:
        body = b"" if got.path == "/empty" else PAGE.encode()
        writer.write(head("200 OK", "text/plain", content_length=str(len(body))) + body)

    with in_thread(serve) as port:
        yield f"http://127.0.0.1:{port}/metrics"


def test_samples_come_between_the_lines_on_the_clock_of_the_run(page: str, tmp_path: Path) -> None:
    """The header first, then samples as they come; a page that does not answer costs nothing but its values."""
    lines: list[Line] = []
    top = header(Load(rate=1.0, requests=1))
    pages = [page, "http://127.0.0.1:1/metrics"]
    with sampled(lines.append, pages, lambda: control(parse("http://127.0.0.1"), {})) as write:
        started = time.time_ns()
        write(replace(top, started_unix_ns=started))
        deadline = time.monotonic() + 10
        while not any(isinstance(line, Sample) for line in lines):
            assert time.monotonic() < deadline
            write(request(0))
            time.sleep(0.01)
        elapsed = time.time_ns() - started
    sample = next(line for line in lines if isinstance(line, Sample))
    assert 0 <= sample.at_ns <= elapsed
    assert sample.values[catalog.KV_USAGE.name] == (0.5,)
    assert read(save(tmp_path / "r", *lines)).samples[0] == sample


def test_pages_that_cannot_be_sampled_are_named(page: str) -> None:
    """A wrong port, a page without known families and what is no URL, each by its name; a good page is not."""
    broken = ["http://127.0.0.1:1/metrics", page.replace("/metrics", "/empty"), "no-url"]
    with control(parse(page), {}) as client:
        told = list(unread(client, [page, *broken]))
    assert [line.partition(": ")[0] for line in told] == broken


def test_the_key_goes_to_the_target_and_to_nobody_else() -> None:
    """A page of the target's own origin is asked for with the run's key, one of another server without it."""
    seen: dict[str, str | None] = {}

    def asked(name: str) -> Handler:
        async def serve(got: Got, writer: asyncio.StreamWriter) -> None:
            seen[name] = got.headers.get("authorization")
            writer.write(head("200 OK", "text/plain", content_length="0"))

        return serve

    with in_thread(asked("engine")) as engine, in_thread(asked("gpu exporter")) as other:
        key = {"Authorization": "Bearer k"}
        urls = [f"http://127.0.0.1:{port}/metrics" for port in (engine, other)]
        with sampled(lambda _: None, urls, lambda: control(parse(urls[0]), key)) as write:
            write(replace(header(Load(rate=1.0, requests=1)), started_unix_ns=time.time_ns()))
            deadline = time.monotonic() + 10
            while len(seen) < 2:
                assert time.monotonic() < deadline
                time.sleep(0.01)
    assert seen == {"engine": "Bearer k", "gpu exporter": None}


def series(**columns: list[float]) -> list[Sample]:
    """A sample a second; `a_0` is the value of engine 0 of the family `a`."""
    families = {"kv": catalog.KV_USAGE, "running": catalog.RUNNING, "waiting": catalog.WAITING,
                "tokens": catalog.GENERATION_TOKENS}  # fmt: skip
    number = len(next(iter(columns.values())))
    return [
        Sample(
            at_ns=i * 10**9,
            values={m.name: tuple(c[i] for n, c in sorted(columns.items()) if n.startswith(key))
                    for key, m in families.items() if any(n.startswith(key) for n in columns)},
        )
        for i in range(number)
    ]  # fmt: skip


def test_kv_cache_is_judged_by_samples() -> None:
    """Every sample of every engine; without samples nothing is known."""
    assert count_samples(SaturationSli(0.9), series(kv_0=[0.5, 0.95], kv_1=[0.2, 0.3])) == Count(3, 4)
    assert count_samples(SaturationSli(0.9), []) is None
    assert count_samples(SaturationSli(0.9), series(running_0=[1.0])) is None


def test_a_stall_is_seen_by_samples() -> None:
    """Requests in flight and no token for 3 s: bad; an idle engine and one that makes tokens are not."""
    stuck, moving, zeros = [5.0] * 10, [float(i) for i in range(10)], [0.0] * 10
    ones = [1.0] * 10
    columns = {"running_0": ones, "running_1": ones, "waiting_0": zeros, "waiting_1": zeros}
    assert count_samples(StallSli(3), series(**columns, tokens_0=stuck, tokens_1=moving)) == Count(7, 14)
    idle = series(running_0=zeros, waiting_0=zeros, tokens_0=stuck)
    assert count_samples(StallSli(3), idle) is None


def test_the_gate_judges_what_was_sampled() -> None:
    """The KV-cache SLO passes with samples, fails when they are full, and is skipped without any."""
    slo = Slo(service="t", name="kv", objective=0.9, sli=SaturationSli(0.95))
    requests = tuple(request(i) for i in range(100))
    for usage, outcome in ((0.5, Outcome.PASS), (0.99, Outcome.FAIL), (None, Outcome.INCONCLUSIVE)):
        samples = series(kv_0=[usage] * 20) if usage else []
        base = recording(requests)
        run = Recording(base.header, base.records, base.footer, samples=tuple(samples))
        verdict = judge(Spec(service="t", slos=(slo,)), run)
        assert verdict.outcome is outcome
        assert len(verdict.skipped) == (usage is None)


def test_a_page_that_fell_silent_passes_nothing() -> None:
    """The server answered in 20 of 60 seconds, while its cache was empty: the rest is not good, only unknown."""
    slo = Slo(service="t", name="kv", objective=0.9, sli=SaturationSli(0.95))
    for usage, seconds, outcome in ((0.5, 60.0, "INCONCLUSIVE"), (0.99, 60.0, "FAIL"), (0.5, 30.0, "PASS")):
        base = recording([request(i) for i in range(100)], footer(seconds=seconds))
        verdict = judge(Spec(service="t", slos=(slo,)), replace(base, samples=tuple(series(kv_0=[usage] * 20))))
        assert verdict.outcome == outcome
        assert ("in 20 of 60 seconds only" in verdict.checks[0].text) == (outcome == "INCONCLUSIVE")


def test_a_few_gaps_pass_nothing() -> None:
    """One answer of 15 gaps cannot show that 99.9 % are good: as many are needed as independent requests would be."""
    slo = Slo(service="t", name="itl", objective=0.999, sli=ItlSli(0.05))
    for answers, outcome in ((1, "INCONCLUSIVE"), (199, "INCONCLUSIVE"), (200, "PASS")):
        verdict = judge(Spec(service="t", slos=(slo,)), recording([request(i) for i in range(answers)]))
        assert verdict.outcome == outcome


def test_gaps_between_tokens_are_judged_by_the_client() -> None:
    """ITL: each gap of each answer counts."""
    slo = Slo(service="t", name="itl", objective=0.9, sli=ItlSli(0.05))
    slow = [request(i, tpot=0.02 if i % 2 else 0.2) for i in range(20)]
    verdict = judge(Spec(service="t", slos=(slo,)), recording(slow))
    assert verdict.checks[0].count == Count(150, 300)
    assert verdict.outcome is Outcome.FAIL


def test_the_commit_is_told_by_ci_or_found_in_the_checkout(tmp_path: Path) -> None:
    """CI's word first; a branch, a packed ref, a detached head; nothing outside a checkout."""
    sha = "0123456789abcdef"
    assert commit({"CI_COMMIT_SHA": sha}, tmp_path) == sha
    assert commit({}, tmp_path / "nowhere") is None
    git, inside = tmp_path / ".git", tmp_path / "a" / "b"
    (git / "refs" / "heads").mkdir(parents=True)
    inside.mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert commit({}, inside) is None
    (git / "packed-refs").write_text(f"# pack-refs\n{sha} refs/heads/main\n")
    assert commit({}, inside) == sha
    (git / "refs" / "heads" / "main").write_text("feed\n")
    assert commit({}, inside) == "feed"
    (git / "HEAD").write_text(f"{sha}\n")
    assert commit({}, inside) == sha
