"""The catalogue against real vLLM output and against what Prometheus allows."""

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.utils import floatToGoString

from slo import catalog
from slo.catalog import Kind, Metric

CAPTURE = Path(__file__).parents[1] / "captures" / "vllm-0.32.0-cpu.metrics"
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


def captured_edges() -> dict[str, set[str]]:
    """Per upstream histogram the `le` values in the capture of a real vLLM 0.32."""
    edges: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(CAPTURE.read_text()):
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
