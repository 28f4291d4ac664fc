"""Exemplars: which span stands behind which bucket, and whether readers of OpenMetrics take it."""

import itertools
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from exporter_servers import Upstream, wait_for
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.core import Exemplar
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from exporters.collector import Snapshot
from exporters.engines.reader import EngineParser
from exporters.model import SpanBatch, SpanFacts
from exporters.serving import page
from exporters.spans import exemplars
from exporters.spans.exact import SpanMetrics
from slo import catalog

CAPTURES = Path(__file__).parents[1] / "captures"
PAGE = (CAPTURES / "vllm-0.32.0-cpu.metrics").read_bytes()
TWO_RANKS = (CAPTURES / "vllm-0.32.0-dp2.metrics").read_bytes()
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
numbers = itertools.count(1)


def span(**facts: Any) -> SpanFacts:
    return SpanFacts(trace_id=f"{next(numbers):032x}", start=0.0, **({"model_name": "tiny-llama"} | facts))


def openmetrics(body: bytes, *spans: SpanFacts) -> tuple[str, str]:
    """The page of an engine and some spans, in both formats."""
    registry = CollectorRegistry()
    SpanMetrics(registry).take(SpanBatch(len(spans), spans), "")
    snapshot = Snapshot((EngineParser().parse(body),))
    return page.render(snapshot, registry, OPENMETRICS)[0].decode(), page.render(snapshot, registry)[0].decode()


def linked(text: str) -> dict[tuple[str, str, str], str]:
    """The trace id of each bucket that has one, by family, engine and edge."""
    return {
        (family.name, sample.labels.get("engine", ""), sample.labels["le"]): sample.exemplar.labels["trace_id"]
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.exemplar
    }


def test_buckets_name_the_newest_span_that_fell_into_them() -> None:
    """A span's queue time is behind the engine's bucket and the span's; of two in a bucket the newer one is."""
    old, new, long = span(queue=0.1), span(queue=0.2), span(queue=0.4)
    found = linked(openmetrics(PAGE, old, long, new)[0])
    assert found[catalog.QUEUE_TIME.name, "0", "0.3"] == new.trace_id
    assert found[catalog.SPAN_QUEUE_TIME.name, "", "0.3"] == new.trace_id
    assert found[catalog.SPAN_QUEUE_TIME.name, "", "0.5"] == long.trace_id


def test_a_bucket_in_which_the_engine_saw_nothing_has_none() -> None:
    """The engine counted no queue of 0.4 s: the span is another's, and no exemplar of this engine."""
    assert (catalog.QUEUE_TIME.name, "0", "0.5") not in linked(openmetrics(PAGE, span(queue=0.4))[0])


def test_other_models_spans_are_not_linked() -> None:
    """A trace of another model does not explain this model's bucket."""
    text, _ = openmetrics(PAGE, span(queue=0.1, model_name="other"))
    assert not [key for key in linked(text) if key[0] == catalog.QUEUE_TIME.name]


def test_one_of_several_ranks_has_it() -> None:
    """No span says which data-parallel rank it is of: the trace is on the page once."""
    model = EngineParser().parse(TWO_RANKS).models[0]
    found = linked(openmetrics(TWO_RANKS, span(ttft=0.3, model_name=model))[0])
    assert [key[0] for key in found].count(catalog.TTFT.name) == 1


def test_the_plain_text_has_none() -> None:
    """Text 0.0.4 knows no exemplars: the engine's lines are as they were."""
    with_span, without = openmetrics(PAGE, span(queue=0.1))[1], openmetrics(PAGE)[1]
    assert " # " not in with_span.replace("# HELP", "").replace("# TYPE", "")
    assert [line for line in with_span.splitlines() if "llm_span_" not in line and "_spans_" not in line] == [
        line for line in without.splitlines() if "llm_span_" not in line and "_spans_" not in line
    ]


@given(st.lists(st.floats(0, 20), max_size=30), st.lists(st.floats(0.001, 10), min_size=1, max_size=8, unique=True))
def test_an_exemplar_lies_in_its_bucket(values: list[float], edges: list[float]) -> None:
    """Whatever edges the engine has, an exemplar's value is in the bucket it stands behind, and stands there once."""
    lines = [
        f'x_bucket{{engine="{engine}",le="{edge}",model_name="m{{,\\""}} {count}\n'
        for engine in range(2)
        for count, edge in enumerate([*sorted(edges), "+Inf"], start=1)
    ]
    waiting = {'m{,"': [Exemplar({"trace_id": f"{i:032x}"}, value, 1.0) for i, value in enumerate(values)]}
    attached = exemplars.attach("".join(lines).encode(), waiting).decode().splitlines()
    assert [line.partition(" # ")[0] + "\n" for line in attached] == lines
    lows = [float("-inf"), *sorted(edges)] * 2
    shown = [(low, line.partition(" # ")) for low, line in zip(lows, attached, strict=True) if " # " in line]
    for low, (head, _, exemplar) in shown:
        high, value = float(head.split('le="')[1].split('"')[0]), float(exemplar.split()[1])
        assert low < value <= high
    assert len(shown) + len(waiting['m{,"']) == len(values)


def test_labels_of_tenants_share_the_engines_bucket() -> None:
    """Spans of several tenants of a model: the engine's bucket names the newest of them all."""
    registry = CollectorRegistry()
    spans = SpanMetrics(registry, labels=["tenant"])
    newest = span(queue=0.2, labels=("b",))
    spans.take(SpanBatch(2, (span(queue=0.2, labels=("a",)), newest)), "")
    text = page.render(Snapshot((EngineParser().parse(PAGE),)), registry, OPENMETRICS)[0].decode()
    assert linked(text)[catalog.QUEUE_TIME.name, "0", "0.3"] == newest.trace_id


@contextmanager
def prometheus(home: Path, target: str) -> Iterator[httpx.Client]:
    """A real Prometheus that keeps exemplars and scrapes `target` every second."""
    (home / "prometheus.yml").write_text(
        f"scrape_configs: [{{job_name: x, scrape_interval: 1s, static_configs: [{{targets: ['{target}']}}]}}]"
    )
    with Upstream() as free:
        port = int(free.url.rpartition(":")[2])
    flags = {
        "config.file": home / "prometheus.yml",
        "storage.tsdb.path": home / "data",
        "web.listen-address": f"127.0.0.1:{port}",
        "enable-feature": "exemplar-storage",
    }
    command = ["prometheus", *(f"--{name}={value}" for name, value in flags.items())]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
                yield client
        finally:
            process.terminate()


@pytest.mark.prometheus
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")
def test_prometheus_stores_them(tmp_path: Path) -> None:
    """A real Prometheus scrapes the page and answers with the trace ids."""
    newest = span(queue=0.2, ttft=0.3)
    text, _ = openmetrics(PAGE, newest)
    with Upstream(text.encode()) as sidecar:
        sidecar.content_type = f"{OPENMETRICS}; charset=utf-8"
        with prometheus(tmp_path, sidecar.url.removeprefix("http://")) as client:

            def stored(family: str) -> set[str]:
                query = {"query": f"{family}_bucket", "start": 0, "end": time.time() + 60}
                try:
                    data = client.get("/api/v1/query_exemplars", params=query).json().get("data") or []
                except (httpx.HTTPError, ValueError):
                    return set()
                return {e["labels"]["trace_id"] for series in data for e in series["exemplars"]}

            for family in (catalog.QUEUE_TIME.name, catalog.SPAN_TTFT.name):
                wait_for(lambda family=family: stored(family) == {newest.trace_id})  # type: ignore[misc]
