"""Spans judged one by one against the SLOs of a spec, and the histograms beside them."""

import itertools
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from exporters.model import SpanBatch, SpanFacts
from exporters.spans.exact import MAX_LABEL_SETS, OTHER, SpanMetrics
from slo import catalog
from slo.sli import AvailabilitySli, GoodputSli, LatencySli
from slo.spec.model import Slo

TTFT = LatencySli(catalog.TTFT, 0.3)  # no bucket ends there: only spans can count it
TPOT = LatencySli(catalog.TPOT, 0.05)
SLOS = (
    Slo(service="chat", name="ttft", objective=0.99, sli=TTFT),
    Slo(service="chat", name="goodput", objective=0.9, sli=GoodputSli((TTFT, TPOT))),
    Slo(service="chat", name="up", objective=0.9, sli=AvailabilitySli()),
)
ids = itertools.count()


def span(**facts: object) -> SpanFacts:
    return SpanFacts(trace_id=f"{next(ids):032x}", start=0.0, **facts)  # type: ignore[arg-type]


def batch(*spans: SpanFacts) -> SpanBatch:
    return SpanBatch(len(spans), spans)


class Counted:
    """Span metrics with a look into their registry."""

    def __init__(self, slos: Sequence[Slo] = SLOS) -> None:
        self.registry = CollectorRegistry()
        self.metrics = SpanMetrics(self.registry, slos)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    def slo(self, slo: str, model: str = "m") -> tuple[float | None, float | None]:
        labels = {"slo": slo, "model_name": model}
        return (
            self.value(catalog.SLO_GOOD_EVENTS.name, **labels),
            self.value(catalog.SLO_EVENTS.name, **labels),
        )


def test_series_of_a_known_model_start_at_zero() -> None:
    """Before the first request there is a 0 that rate() can rise from; availability is not told by spans."""
    counted = Counted()
    assert counted.slo("chat-ttft") == (None, None)
    counted.metrics.know(["m"])
    assert counted.slo("chat-ttft") == counted.slo("chat-goodput") == (0, 0)
    assert counted.slo("chat-up") == (None, None)


def test_requests_are_judged_by_the_slis_themselves() -> None:
    """A threshold off the bucket edges is exact, both conditions meet in one request, the absent is not counted."""
    counted = Counted()
    spans = batch(
        span(model_name="m", ttft=0.3, tpot=0.02),
        span(model_name="m", ttft=0.300001, tpot=0.02),
        span(model_name="m", ttft=0.1, tpot=0.06),
        span(model_name="m", ttft=0.1),
        span(model_name="m", e2e=1.0),
    )
    counted.metrics.take(spans, "")
    assert counted.slo("chat-ttft") == (3, 4)
    assert counted.slo("chat-goodput") == (2, 4)


@given(st.lists(st.tuples(st.none() | st.floats(0, 1), st.none() | st.floats(0, 0.1)), max_size=30))
def test_counters_equal_the_domains_count(latencies: list[tuple[float | None, float | None]]) -> None:
    """What the sidecar counts is what Sli.count says of the same requests."""
    counted = Counted()
    spans = [span(model_name="m", ttft=ttft, tpot=tpot) for ttft, tpot in latencies]
    counted.metrics.know(["m"])
    counted.metrics.take(batch(*spans), "")
    requests = [each.to_request() for each in spans]
    for slo in SLOS[:2]:
        wanted = slo.sli.count(requests)
        assert wanted is not None
        assert counted.slo(slo.id) == (wanted.good, wanted.total)


def test_histograms_and_tokens() -> None:
    """Every duration that a span tells is one sample; every token is counted."""
    counted = Counted(())
    counted.metrics.take(batch(span(model_name="m", ttft=0.26, e2e=2.0, prompt_tokens=512, output_tokens=100)), "")
    bucket = catalog.SPAN_TTFT.name + "_bucket"
    assert counted.value(bucket, model_name="m", le="0.25") == 0
    assert counted.value(bucket, model_name="m", le="0.5") == 1
    assert counted.value(catalog.SPAN_E2E.name + "_sum", model_name="m") == 2.0
    assert counted.value(catalog.SPAN_TPOT.name + "_count", model_name="m") is None
    assert counted.value(catalog.SPAN_PROMPT_TOKENS.name, model_name="m") == 512
    assert counted.value(catalog.SPAN_GENERATION_TOKENS.name, model_name="m") == 100


def test_nameless_spans_belong_to_the_model_given() -> None:
    """vLLM's spans name no model: they count for the one the engine serves, those that do name one for theirs."""
    counted = Counted()
    counted.metrics.take(batch(span(ttft=0.1), span(ttft=0.1, model_name="other")), "only")
    assert counted.slo("chat-ttft", "only") == (1, 1)
    assert counted.slo("chat-ttft", "other") == (1, 1)


def test_made_up_model_names_do_not_multiply_series() -> None:
    """From some number of models on, the rest is one."""
    counted = Counted()
    spans = [span(model_name=f"model-{i}", ttft=0.1) for i in range(MAX_LABEL_SETS + 50)]
    counted.metrics.take(batch(*spans), "")
    assert counted.slo("chat-ttft", f"model-{MAX_LABEL_SETS}") == (None, None)
    assert counted.slo("chat-ttft", OTHER) == (50, 50)
    counted.metrics.know(["the engine's own"])  # which may always have its series
    assert counted.slo("chat-ttft", "the engine's own") == (0, 0)
    series = sum(sample.name == catalog.SLO_EVENTS.name for f in counted.registry.collect() for sample in f.samples)
    assert series == 2 * (MAX_LABEL_SETS + 2)


def test_intake_counts_itself() -> None:
    """Spans of any name are received; what could not be used is counted by reason."""
    counted = Counted()
    counted.metrics.take(SpanBatch(7, (span(ttft=0.1),), {"bad_value": 2}), "")
    counted.metrics.reject("malformed")
    assert counted.value(catalog.SPANS_RECEIVED.name) == 7
    assert counted.value(catalog.SPANS_REJECTED.name, reason="bad_value") == 2
    assert counted.value(catalog.SPANS_REJECTED.name, reason="malformed") == 1
