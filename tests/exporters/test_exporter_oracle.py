"""The byte parser against prometheus_client's, on captures and on pages full of odd characters."""

from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import Metric as Exposed
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporters.engines.reader import EngineParser
from exporters.model import SourceError
from exporters.serving.page import engine_text
from slo import catalog
from slo.catalog import Kind, Metric

CAPTURES = Path(__file__).parents[1] / "captures"
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]
label_text = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    [
        '"',
        "\\",
        "\\n",
        "\n",
        '\\"',
        "{",
        "}",
        "a=b",
        'x{y="z"} 1',
        ",",
        " ",
        "# EOF",
        "ß",
        "日本",
        "\\\\n",
        'le="1"',
        "\r",
    ]
)


def series(families: Iterable[Exposed]) -> Series:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created") and sample.value == sample.value
    }


def renamed(found: Series, model: str) -> Series:
    """What the oracle read, under the catalogue's names: the newest upstream name present, the only model filled in."""
    wanted: Series = {}
    for metric in catalog.families():
        if metric is catalog.KV_CAPACITY:
            continue
        for upstream in metric.upstream.get("vllm", ()):
            of_name = {
                (metric.name + suffix, labels | model_label(labels, model)): value
                for (name, labels), value in found.items()
                for suffix in suffixes(metric)
                if name == upstream.name + suffix
            }
            if of_name:
                wanted |= of_name
                break
    return wanted


def suffixes(metric: Metric) -> tuple[str, ...]:
    return ("_bucket", "_sum", "_count") if metric.kind is Kind.HISTOGRAM else ("",)


def model_label(labels: frozenset[tuple[str, str]], model: str) -> set[tuple[str, str]]:
    return set() if "model_name" in dict(labels) else {("model_name", model)}


def ours(page: bytes) -> Series:
    """Two scrapes, as the second one goes another way; the capacity is no renaming and left out."""
    parser = EngineParser()
    first, second = (engine_text([parser.parse(page)]) for _ in range(2))
    assert first == second
    found = series(parse_text(second.decode()))
    return {key: value for key, value in found.items() if key[0] != catalog.KV_CAPACITY.name}


@pytest.mark.parametrize("capture", sorted(CAPTURES.glob("vllm-*.metrics")), ids=lambda path: path.stem)
def test_captures_hold_the_same_series_and_values(capture: Path) -> None:
    """Every family of a real page, read by prometheus_client and renamed, equals what is passed through."""
    page = capture.read_text()
    wanted = renamed(series(parse_text(page)), EngineParser().parse(page.encode()).models[0])
    assert len(wanted) > 200
    assert ours(page.encode()) == wanted


def a_page(model: str, handler: str, value: float) -> CollectorRegistry:
    registry = CollectorRegistry()
    labels = ("model_name", "engine")
    Gauge("vllm:num_requests_running", "", labels, registry=registry).labels(model, "0").set(value)
    Counter("vllm:prompt_tokens", "", labels, registry=registry).labels(model, handler).inc(value)
    ttft = Histogram("vllm:time_to_first_token_seconds", "", labels, registry=registry, buckets=(0.5, 1, 1e6))
    ttft.labels(model, handler).observe(value)
    http = Counter("http_requests", "", ("handler", "method", "status"), registry=registry)
    http.labels(handler, "POST", "2xx").inc()
    return registry


@given(model=label_text, handler=label_text, value=st.floats(min_value=0, allow_nan=False))
@example(model='a"} 5\n', handler="\\", value=float("inf"))
@example(model="\\n", handler="", value=0.0)
def test_any_label_value_survives(model: str, handler: str, value: float) -> None:
    """Escapes, quotes, braces, line feeds and UTF-8 in labels come out as they went in, from both text formats."""
    registry = a_page(model, handler, value)
    text, openmetrics = generate_latest(registry), generate_openmetrics(registry, "allow-utf-8")
    wanted = renamed(series(parse_text(text.decode())), model)
    assert len(wanted) == 9
    assert ours(text) == wanted
    assert ours(openmetrics) == wanted == renamed(series(parse_openmetrics(openmetrics.decode())), model)


@given(st.binary(max_size=200))
@example(b'vllm:num_requests_running{model_name="\\')
@example(b'vllm:num_requests_running{a="b",,} 1\n')
@example(b"vllm:num_requests_running{} 1\n")
def test_any_bytes_are_read_or_refused(tail: bytes) -> None:
    """Whatever stands behind a good line, the answer is a page that prometheus_client reads, or a SourceError."""
    try:
        scrape = EngineParser().parse(b'vllm:num_requests_waiting{model_name="m"} 1\n' + tail)
    except SourceError:
        return
    list(parse_text(engine_text([scrape]).decode()))
