"""SLIs: the PromQL they render, how they judge requests, and that PromQL is valid."""

import promql_parser
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slo import catalog
from slo.promql import Matcher, Scope, duration, quote
from slo.sli import (
    AvailabilitySli,
    Count,
    GoodputSli,
    ItlSli,
    LatencySli,
    PromqlSli,
    Request,
    SaturationSli,
    Sli,
    StallSli,
    ThroughputSli,
    exact,
)

TTFT = LatencySli(catalog.TTFT, 0.25)
TPOT = LatencySli(catalog.TPOT, 0.05)
GOODPUT = GoodputSli((TTFT, TPOT))
OWN = PromqlSli(
    'sum(rate(x{code!~"5..",{{selector}}}[{{window}}])) # mine', "sum(rate(x{ {{selector}} }[{{ .window }}]))"
)
EVERY_SLI: list[Sli] = [
    TTFT, TPOT, ItlSli(0.1), GOODPUT, AvailabilitySli(), ThroughputSli(200, 8), SaturationSli(0.95), StallSli(120), OWN
]  # fmt: skip


def test_latency_renders_bucket_over_count() -> None:
    """The good events are the bucket that ends at the threshold, in the scope's series."""
    scope = Scope(matchers=(Matcher("model_name", "=", "m"),), by=("model_name", "pod"))
    assert TTFT.good("5m", scope) == (
        'sum by (model_name, pod) (rate(llm_time_to_first_token_seconds_bucket{le="0.25",model_name="m"}[5m]))'
    )
    assert TTFT.total("1h", Scope(by=())) == "sum(rate(llm_time_to_first_token_seconds_count[1h]))"


def test_an_engine_source_uses_the_engines_own_names() -> None:
    """Without a sidecar the rules read vLLM; its HTTP counter knows no model, so no model is selected there."""
    scope = Scope("vllm", (Matcher("model_name", "=", "m"),))
    assert "vllm:time_to_first_token_seconds_bucket" in TTFT.good("5m", scope)
    assert "model_name" not in AvailabilitySli().total("5m", scope)
    with pytest.raises(ValueError, match="only the sidecar"):
        exact("chat-ttft", "5m", scope)


@pytest.mark.parametrize("sli", EVERY_SLI, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("source", ["exporter", "vllm"])
def test_every_sli_is_valid_promql(sli: Sli, source: str) -> None:
    """Prometheus' own grammar accepts what is rendered, under either source."""
    for text in (sli.good("5m", Scope(source)), sli.total("1h", Scope(source))):
        promql_parser.parse(text)


@given(st.text())
def test_any_label_value_is_quoted_safely(value: str) -> None:
    """A hostile label value stays a string literal: nothing after it becomes PromQL."""
    text = TTFT.total("5m", Scope(matchers=(Matcher("model_name", "=", value),)))
    parsed = promql_parser.parse(text)
    selector = parsed.expr.args[0].vector_selector
    assert [m.value for m in selector.matchers.matchers] == [value]


@pytest.mark.parametrize(
    ("sli", "request_", "verdict"),
    [
        (TTFT, Request(start=0, ttft=0.25), True),
        (TTFT, Request(start=0, ttft=0.2500001), False),
        (TTFT, Request(start=0, ttft=None), None),
        (TPOT, Request(start=0, ttft=9, tpot=0.01), True),
        (AvailabilitySli(), Request(start=0, ok=False), False),
        (AvailabilitySli(), Request(start=0, ok=None), None),
        (GOODPUT, Request(start=0, ttft=0.1, tpot=0.01), True),
        (GOODPUT, Request(start=0, ttft=0.1, tpot=0.06), False),
        (GOODPUT, Request(start=0, ttft=0.1, tpot=None), True),
        (GOODPUT, Request(start=0, ttft=0.1, tpot=0.01, ok=False), False),
        (GOODPUT, Request(start=0, ok=None), None),
    ],
)
def test_requests_are_judged(sli: LatencySli, request_: Request, verdict: bool | None) -> None:
    """At the threshold is good, above is bad, and what an SLI cannot see does not count."""
    assert sli.judge(request_) is verdict


@given(st.lists(st.tuples(st.floats(0, 1), st.one_of(st.none(), st.floats(0, 0.1)))))
def test_the_goodput_floor_never_exceeds_the_truth(pairs: list[tuple[float, float | None]]) -> None:
    """What the histograms' formula allows is at most what judging request by request finds."""
    requests = [Request(start=0, ttft=ttft, tpot=tpot) for ttft, tpot in pairs]
    ttft, tpot, both = TTFT.count(requests), TPOT.count(requests), GOODPUT.count(requests)
    assert ttft is not None
    assert tpot is not None
    assert both is not None
    assert max(0, ttft.good - (tpot.total - tpot.good)) <= both.good <= ttft.good


def steady(n: int, tokens: int) -> list[Request]:
    """`n` requests side by side for ten seconds, each making `tokens` output tokens evenly."""
    return [Request(start=100.0, ttft=0.0, e2e=10.0, output_tokens=tokens) for _ in range(n)]


def test_throughput_counts_only_seconds_under_demand() -> None:
    """Below the demand nothing counts; at it each second is good when it holds the floor."""
    sli = ThroughputSli(floor=30, demand=4)
    assert sli.count(steady(3, 1000)) == Count(0, 0)
    assert sli.count(steady(4, 100)) == Count(10, 10)
    assert sli.count(steady(4, 50)) == Count(0, 10)
    assert sli.count([]) == Count(0, 0)


def test_short_requests_in_turn_are_steady_demand() -> None:
    """Four slots that are refilled the moment they get free hold a demand of four, though no request lasts a second."""
    requests = [Request(start=i * 0.25, ttft=0.0, e2e=0.25, output_tokens=5) for i in range(40) for _ in range(4)]
    assert ThroughputSli(floor=60, demand=4).count(requests) == Count(10, 10)
    assert ThroughputSli(floor=60, demand=5).count(requests) == Count(0, 0)


def test_big_numbers_keep_their_digits() -> None:
    """A floor of 1234567 tokens a second is not rounded to six digits."""
    assert ">= bool 1234567)" in ThroughputSli(1_234_567, 1).good_slices(Scope())


def test_a_gap_in_demand_is_not_counted() -> None:
    """A second in which the service was idle for a moment does not count."""
    requests = [Request(start=s, ttft=0.0, e2e=0.9 if s == 4 else 1.0, output_tokens=10) for s in range(10)]
    assert ThroughputSli(floor=1, demand=1).count(requests) == Count(9, 9)


@given(st.integers(1, 40), st.integers(1, 300))
def test_no_token_is_lost_when_spread_over_seconds(n: int, tokens: int) -> None:
    """A floor at the mean of all tokens but the last of each, which end with the run, is met in some second."""
    sli = ThroughputSli(floor=n * (tokens - 1) / 10, demand=1)
    count = sli.count(steady(n, tokens))
    assert count is not None
    assert count.good >= 1


@pytest.mark.parametrize("sli", [SaturationSli(0.95), StallSli(120), ItlSli(0.1), OWN], ids=lambda s: type(s).__name__)
def test_what_requests_cannot_see_is_not_made_up(sli: Sli) -> None:
    """The cache, single engines, single gaps between tokens and a query of one's own are beyond requests: no number."""
    assert sli.count(steady(4, 10)) is None


def test_own_promql_is_narrowed_filled_in_and_stripped_of_labels() -> None:
    """The placeholders are replaced, only the scope's labels stay, and a comment cannot swallow what follows."""
    scope = Scope(matchers=(Matcher("namespace", "=", 'a"b'),), by=("tenant",))
    assert OWN.total("1h", scope) == 'sum by (tenant) (sum(rate(x{ namespace="a\\"b" }[1h])))'
    assert OWN.good("5m", scope).endswith("# mine\n)")


def test_a_stall_is_seen_engine_by_engine() -> None:
    """Engines behind one address are told apart, and a label to group by is not given twice."""
    text = StallSli(120).slices(Scope(by=("model_name", "instance")))
    assert text.startswith("sum by (model_name, instance) (")
    assert "sum by (model_name, instance, engine) (min_over_time(" in text


def test_literals() -> None:
    """Strings are escaped and durations take their largest exact unit."""
    assert quote('a"b\\c\n') == '"a\\"b\\\\c\\n"'
    assert [duration(s) for s in (30, 90, 300, 3600, 86400, 30 * 86400)] == ["30s", "90s", "5m", "1h", "1d", "30d"]
