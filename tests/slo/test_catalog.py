"""The catalogue against real vLLM output and against what Prometheus allows."""

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.utils import floatToGoString

from slo import catalog
from slo.catalog import Kind, Metric

CAPTURE = Path(__file__).parents[1] / "captures" / "vllm-0.32.0-cpu.metrics"
HANDWRITTEN = Path(__file__).parents[1] / "exporters" / "handwritten"
WITH_BUCKETS = [m for m in catalog.families() if m.buckets]


@pytest.mark.parametrize("metric", list(catalog.families()), ids=lambda m: m.name)
def test_names_follow_the_prometheus_conventions(metric: Metric) -> None:
    """Counters end in _total and nothing else does; no colons, which belong to recording rules."""
    assert re.fullmatch(r"llm_[a-z0-9_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)


@pytest.mark.parametrize("metric", WITH_BUCKETS, ids=lambda m: m.name)
def test_edge_text_is_what_prometheus_client_writes(metric: Metric) -> None:
    """The `le` of a threshold equals the exposition's, or the rule would silently select nothing."""
    assert [metric.edge(b) for b in metric.buckets] == [floatToGoString(b) for b in metric.buckets]


def captured_edges(page: Path = CAPTURE) -> dict[str, set[str]]:
    """Per upstream histogram the `le` values of a page: of the capture of a real vLLM 0.32."""
    edges: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(page.read_text()):
        for sample in family.samples:
            if "le" in sample.labels:
                edges.setdefault(family.name, set()).add(sample.labels["le"])
    return edges


@pytest.mark.parametrize("metric", [m for m in WITH_BUCKETS if "vllm" in m.upstream], ids=lambda m: m.name)
def test_buckets_are_those_of_the_real_engine(metric: Metric) -> None:
    """Every histogram of the catalogue has the edges that vLLM 0.32 really exposes."""
    upstream = metric.upstream["vllm"][0].name
    assert captured_edges()[upstream] == {*(metric.edge(b) for b in metric.buckets), "+Inf"}


def test_a_threshold_off_the_edges_names_its_neighbours() -> None:
    """300 ms is no TTFT bucket: the message says which are nearest."""
    with pytest.raises(ValueError, match=r"0\.3 is no bucket edge .* nearest are 0\.25 and 0\.5"):
        catalog.TTFT.edge(0.3)
    with pytest.raises(ValueError, match=r"nearest are 2560$"):
        catalog.TTFT.edge(9999)


def test_each_engine_has_edges_of_its_own() -> None:
    """250 ms is an edge of vLLM and none of SGLang; an edge that was computed is met by its six printed digits."""
    assert catalog.TTFT.edge(0.25, "vllm") == catalog.TTFT.edge(0.25) == "0.25"
    with pytest.raises(ValueError, match=r"llm_time_to_first_token_seconds of sglang; the nearest are 0\.2 and 0\.4"):
        catalog.TTFT.edge(0.25, "sglang")
    assert catalog.ITL.edge(0.025, "sglang") == "0.025"
    assert catalog.TPOT.edge(0.005, "lmdeploy") == "0.005"
    assert catalog.E2E.edge(0.748183, "tgi") == "0.7481827642679213"
    with pytest.raises(ValueError, match=r"the edges of llm_time_to_first_token_seconds of nim are not known"):
        catalog.TTFT.edge(0.25, "nim")


@pytest.mark.parametrize(
    ("page", "engine"),
    [("sglang-0.5.23", "sglang"), ("tgi-3", "tgi"), ("trtllm", "trtllm"), ("lmdeploy", "lmdeploy")],
)
def test_engine_edges_are_those_of_their_pages(page: str, engine: str) -> None:
    """What a table calls an edge is a bucket of the page, spelled as the sidecar and the rules spell it."""
    edges = captured_edges(HANDWRITTEN / f"{page}.metrics")
    for metric in WITH_BUCKETS:
        names = metric.upstream.get(engine, ())
        if names and names[0].name in edges:
            known = {metric.edge(b, engine) for b in metric.buckets_of(engine)}
            assert known <= {floatToGoString(float(edge)) for edge in edges[names[0].name]}, metric.name
