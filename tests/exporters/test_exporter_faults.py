"""What engines and other containers do wrong, over real sockets: each costs its own part of the page, and shows."""

import asyncio
import gzip
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from exporter_servers import Upstream
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporters import engine_sources, engines, fetch, page
from exporters.collector import Collector
from slo import catalog

TESTS = Path(__file__).parents[1]
PAGE = (TESTS / "captures" / "vllm-0.32.0-cpu.metrics").read_bytes()
SGLANG = (Path(__file__).parent / "handwritten" / "sglang-0.5.23.metrics").read_bytes()
PROXY = b'# TYPE queue_requests_total counter\nqueue_requests_total{code="200"} 7\n'
Values = dict[str, dict[frozenset[tuple[str, str]], float]]
Step = Callable[[], None]


def scrapes(
    urls: Sequence[str], *steps: Step, merge: Sequence[str] = (), passthrough: str = "", deadline: float = 2.0
) -> list[Values]:
    """One reading of the sidecar's page at first and one after each step, each checked in both formats."""

    async def scenario() -> list[Values]:
        pages = fetch.Pages()
        pattern = re.compile(passthrough) if passthrough else None
        sources = engine_sources.engines(pages, [engine_sources.engine_url(url) for url in urls], "", pattern)
        collector = Collector(sources, extras=engine_sources.merged(pages, merge))
        found = []
        for step in (lambda: None, *steps):
            step()
            snapshot = await collector.collect(deadline)
            list(
                parse_openmetrics(
                    page.render(snapshot, CollectorRegistry(), "application/openmetrics-text")[0].decode()
                )
            )
            found.append(values(page.render(snapshot, CollectorRegistry())[0]))
        await pages.close()
        return found

    return asyncio.run(scenario())


def values(body: bytes) -> Values:
    found: Values = {}
    for family in parse_text(body.decode()):
        for sample in family.samples:
            series = found.setdefault(sample.name, {})
            assert frozenset(sample.labels.items()) not in series, "a series twice"
            series[frozenset(sample.labels.items())] = sample.value
    return found


def up(found: Values) -> dict[str, float]:
    return {dict(labels)["source"]: value for labels, value in found[catalog.SOURCE_UP.name].items()}


def only(found: Values, metric: catalog.Metric) -> float:
    (value,) = found[metric.name].values()
    return value


def test_slow_engine(caplog: pytest.LogCaptureFixture) -> None:
    """A page that drips in is given up at the deadline, however steadily it comes."""
    with Upstream(PAGE) as engine:
        engine.drip = 0.01
        started = time.monotonic()
        (found,) = scrapes([engine.url], deadline=0.4)
        assert time.monotonic() - started < 2.0
    assert up(found) == {"engine": 0}
    assert "no answer within 0.4 s" in caplog.text


def test_fifty_megabytes_of_metrics(caplog: pytest.LogCaptureFixture) -> None:
    """A page that never ends is given up at the limit of size, long before it is all here."""
    with Upstream(PAGE + b'vllm:prompt_tokens_total{model_name="m"} 1\n' * 1_200_000) as engine:
        assert len(engine.body) > 50e6
        (found,) = scrapes([engine.url], deadline=4.0)
    assert up(found) == {"engine": 0}
    assert f"a page of more than {fetch.MAX_PAGE >> 20} MiB" in caplog.text


def test_compressed_though_not_asked(caplog: pytest.LogCaptureFixture) -> None:
    """What may be a bomb is not unpacked: nobody asked for compression."""
    with Upstream(gzip.compress(bytes(10_000_000))) as engine:
        engine.encoding = "gzip"
        (found,) = scrapes([engine.url])
    assert up(found) == {"engine": 0}
    assert "compressed with gzip" in caplog.text


def test_duplicate_families() -> None:
    """A family that comes twice on a page is exposed once, with its first values."""
    block = b'# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{model_name="m"} %d\n'
    with Upstream(block % 3 + block % 9) as engine:
        (found,) = scrapes([engine.url])
    assert only(found, catalog.RUNNING) == 3


def test_nan_and_negative_values() -> None:
    """No quantity of an engine is negative or not a number: such a series is absent, the rest stands."""
    with Upstream(
        b'vllm:num_requests_running{model_name="m"} -1\nvllm:num_requests_waiting{model_name="m"} NaN\n'
        b'vllm:prompt_tokens_total{model_name="m"} -5.0\nvllm:prompt_tokens_total{model_name="n"} 5e-05\n'
        b'vllm:generation_tokens_total{model_name="m"} +Inf\n'
    ) as engine:
        (found,) = scrapes([engine.url])
    assert found.keys() & {catalog.RUNNING.name, catalog.WAITING.name} == set()
    assert only(found, catalog.PROMPT_TOKENS) == 5e-05
    assert only(found, catalog.GENERATION_TOKENS) == float("inf")


def test_counter_reset_is_passed_on() -> None:
    """After a restart counters fall, as they must for rate() to see it."""
    line = b'vllm:prompt_tokens_total{engine="0",model_name="m"} %d\n'
    with Upstream(line % 5000) as engine:
        before, after = scrapes([engine.url], lambda: setattr(engine, "body", line % 12))
    assert (only(before, catalog.PROMPT_TOKENS), only(after, catalog.PROMPT_TOKENS)) == (5000, 12)


def test_another_version_another_model_another_engine() -> None:
    """Whatever is started at the same address: names, models and engine follow, and nothing of before remains."""
    old = (Path(__file__).parent / "handwritten" / "vllm-0.6.6.metrics").read_bytes()
    other_model = PAGE.replace(b"tiny-llama", b"big-llama")
    bodies = (PAGE, other_model, SGLANG)
    with Upstream(old) as engine:
        found = scrapes([engine.url], *(lambda body=body: setattr(engine, "body", body) for body in bodies))
    models = [{dict(labels).get("model_name") for labels in page[catalog.RUNNING.name]} for page in found]
    assert models == [{"m"}, {"tiny-llama"}, {"big-llama"}, {"m"}]
    assert [len(page.get(catalog.TPOT.name + "_count", {})) for page in found] == [0, 1, 1, 2]


def test_label_explosion(caplog: pytest.LogCaptureFixture) -> None:
    """A family with a runaway label is left out whole, once in the log and as a number on the page; others stay."""
    size = engines.MAX_SERIES + 1
    rows = b"".join(b'http_requests_total{handler="/%d",method="GET",status="2xx"} 1\n' % i for i in range(size))
    with Upstream(PAGE + rows) as engine:
        first, second = scrapes([engine.url], lambda: None, deadline=4.0)
    assert catalog.HTTP_REQUESTS.name not in first
    assert first[catalog.SERIES_DROPPED.name] == second[catalog.SERIES_DROPPED.name]
    assert dict(*first[catalog.SERIES_DROPPED.name]) == {"family": catalog.HTTP_REQUESTS.name}
    assert only(first, catalog.SERIES_DROPPED) > size
    assert only(first, catalog.RUNNING) == 0
    assert caplog.text.count("and is left out") == 1


def test_several_kinds_of_engines_side_by_side() -> None:
    """A vLLM and an SGLang behind one sidecar share families, told apart by their endpoints; one may go."""
    with Upstream(PAGE) as vllm, Upstream(SGLANG) as sglang:
        found, without = scrapes([vllm.url, f"sglang={sglang.url}"], lambda: setattr(sglang, "status", 500))
    endpoints = {dict(labels)["endpoint"] for labels in found[catalog.RUNNING.name]}
    assert endpoints == {f"{vllm.url}/metrics", f"{sglang.url}/metrics"}
    assert {dict(labels)["endpoint"] for labels in without[catalog.RUNNING.name]} == {f"{vllm.url}/metrics"}


def test_other_containers_are_merged_in() -> None:
    """Their families stand as they were given, beside the engine's; what two of them share is there once."""
    with Upstream(PAGE) as engine, Upstream(PROXY) as proxy, Upstream(PROXY + b"agent_up 1\n") as agent:
        (found,) = scrapes([engine.url], merge=[proxy.url + "/metrics", agent.url + "/metrics"])
    assert found["queue_requests_total"] == {frozenset({("code", "200")}): 7}
    assert found["agent_up"] == {frozenset(): 1}
    assert found["llm_requests_running"]
    assert set(up(found).values()) == {1}


def break_down(extra: Upstream, way: str) -> None:
    """Make a merged page fail in one way."""
    if way == "hanging":
        extra.gate.clear()
    elif way == "half a body":
        extra.claimed = 1000
    elif way == "500":
        extra.status = 500
    else:
        extra.body = {"garbage": b"\x00\xff\xfe\n", "html": b"<html>\n", "no number": b"a many\n"}[way]


@pytest.mark.parametrize("way", ["hanging", "half a body", "500", "garbage", "html", "no number"])
def test_a_dead_extra_hurts_nobody(way: str) -> None:
    """However a merged page fails, the engine and the other pages are there in time, and the failure shows."""
    with Upstream(PAGE) as engine, Upstream(PROXY) as bad, Upstream(b"agent_up 1\n") as good:
        break_down(bad, way)
        (found,) = scrapes([engine.url], merge=[bad.url + "/metrics", good.url + "/metrics"], deadline=0.5)
        bad.gate.set()
    assert found["agent_up"]
    assert found["llm_requests_running"]
    assert "queue_requests_total" not in found
    shown = {(labels["source"], labels["endpoint"]): value for labels, value in rows(found[catalog.SOURCE_UP.name])}
    assert shown[("merge", f"{bad.url}/metrics")] == 0
    assert sorted(shown.values()) == [0, 1, 1]


def rows(series: dict[frozenset[tuple[str, str]], float]) -> list[tuple[dict[str, str], float]]:
    return [(dict(labels), value) for labels, value in series.items()]


def test_an_empty_extra_is_no_failure() -> None:
    """A container that has nothing to say yet is up."""
    with Upstream(PAGE) as engine, Upstream(b"") as extra:
        (found,) = scrapes([engine.url], merge=[extra.url + "/metrics"])
    assert up(found) == {"engine": 1, "merge": 1}


def test_families_of_the_engines_pass_by_name() -> None:
    """Two engines' own families come along with the label that tells the engines apart."""
    with Upstream(PAGE) as a, Upstream(PAGE) as b:
        (found,) = scrapes([a.url, b.url], passthrough="vllm:request_params_n|process_.*")
    endpoints = {labels["endpoint"] for labels, _ in rows(found["vllm:request_params_n_count"])}
    assert endpoints == {f"{a.url}/metrics", f"{b.url}/metrics"}
    assert "process_cpu_seconds_total" in found
    assert "vllm:num_requests_running" not in found
