"""Families that pass through as they stand: other containers' pages, and an engine's by name."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporters.engines.verbatim import RawParser, render
from exporters.model import RawFamilies, SourceError

TESTS = Path(__file__).parents[1]
VLLM = (TESTS / "captures" / "vllm-0.32.0-cpu.metrics").read_bytes()
PROXY = b"""# HELP queue_requests_total Requests of the proxy.
# TYPE queue_requests_total counter
queue_requests_total{code="200"} 7 1795166043000
queue_requests_created{code="200"} 1.7e9
# TYPE queue_depth gauge
queue_depth 2
# TYPE queue_seconds histogram
queue_seconds_bucket{le="1"} 3
queue_seconds_bucket{le="+Inf"} 4
queue_seconds_sum 2.5
queue_seconds_count 4
# TYPE gc_seconds summary
gc_seconds{quantile="0.5"} NaN
gc_seconds_sum 0.1
gc_seconds_count 12
without_a_type 5
"""


def everything(body: bytes) -> RawFamilies:
    return RawParser(lambda _: True).parse(body)


def samples(page: bytes, openmetrics: bool = False) -> dict[tuple[str, str], float]:
    parse = parse_openmetrics if openmetrics else parse_text
    text = page.decode() + ("# EOF\n" if openmetrics else "")
    found = [(s.name, str(sorted(s.labels.items())), s.value) for family in parse(text) for s in family.samples]
    assert len(found) == len({key[:2] for key in found})
    return {(name, labels): value for name, labels, value in found}


def test_a_page_comes_out_as_it_went_in() -> None:
    """Every series with its value, its kind and its help, in both formats; timestamps and _created are left behind."""
    for openmetrics in (False, True):
        page = render([everything(PROXY)], openmetrics)
        found = samples(page, openmetrics)
        assert found["queue_requests_total", "[('code', '200')]"] == 7
        assert found["queue_seconds_bucket", "[('le', '1')]" if b'le="1"' in page else "[('le', '1.0')]"] == 3
        assert len(found) == 10
        assert b"Requests of the proxy." in page
        assert b"_created" not in page
        assert b"1795166043000" not in page


def test_a_real_page_loses_nothing() -> None:
    """What prometheus_client reads of a real page, it reads of ours, after a first scrape and after a second."""
    wanted = {key: value for key, value in samples(VLLM).items() if not key[0].endswith("_created")}
    parser = RawParser(lambda _: True)
    for _ in range(2):
        assert samples(render([parser.parse(VLLM)], False)) == wanted
    assert samples(render([parser.parse(VLLM)], True), True).keys() == wanted.keys()


def test_openmetrics_in_text_out() -> None:
    """A counter whose TYPE lacks _total, as OpenMetrics has it, is the same family in both formats."""
    page = b'# TYPE jobs counter\njobs_total{a="b"} 3 # {trace_id="x"} 1\njobs_created{a="b"} 1\n# EOF'
    assert render([everything(page)], False) == b'# TYPE jobs_total counter\njobs_total{a="b"} 3\n'
    assert render([everything(page)], True) == b'# TYPE jobs counter\njobs_total{a="b"} 3\n'


def test_families_by_regex_with_the_engines_label() -> None:
    """Only families whose whole name matches, whatever their samples are called; other labels are added to theirs."""
    parser = RawParser(re.compile("vllm:(iteration_tokens_total|request_params_n)").fullmatch, {"endpoint": "http://a"})
    families = parser.parse(VLLM)
    assert families.keys() == {b"vllm:iteration_tokens_total", b"vllm:request_params_n"}
    assert all(b'endpoint="http://a"' in head for family in families.values() for head in family.samples)


def test_nothing_is_there_twice() -> None:
    """Of two pages with the same family it is written once, of a series the first counts, and ours are never passed."""
    second = PROXY.replace(b"queue_depth 2", b'queue_depth 9\nqueue_depth{of="b"} 4')
    ours = b"# TYPE llm_requests_running gauge\nllm_requests_running 1\nllm_request_queue_seconds_bucket 1\n"
    page = render([everything(PROXY), everything(second), everything(ours)], False)
    assert page.count(b"# TYPE queue_depth ") == 1
    assert (samples(page)["queue_depth", "[]"], samples(page)["queue_depth", "[('of', 'b')]"]) == (2, 4)
    assert b"llm_" not in page


def test_a_kind_that_differs_does_not_mix() -> None:
    """A gauge and a counter of one name cannot stand under one TYPE: the first page has it."""
    page = render(
        [everything(b"# TYPE a gauge\na 1\n"), everything(b'# TYPE a histogram\na_bucket{le="1"} 1\n')], False
    )
    assert page == b"# TYPE a gauge\na 1\n"


@pytest.mark.parametrize("page", [b"<html>\n", b"a b c d\n", b"a nope\n", b'a{b="\xff"} 1\n', b"a 1", b"a\n"])
def test_a_broken_page_is_refused(page: bytes) -> None:
    """What would break the page of the sidecar is refused as a whole, in a first scrape and in a later one."""
    parser = RawParser(lambda _: True)
    parser.parse(PROXY)
    for _ in range(2):
        with pytest.raises(SourceError):
            parser.parse(page)
    assert parser.parse(PROXY) == everything(PROXY)


@given(st.lists(st.sampled_from(PROXY.splitlines()) | st.binary(max_size=40), max_size=30))
def test_any_lines_are_passed_or_refused(lines: list[bytes]) -> None:
    """Whatever lines come in whatever order, what is written can be read."""
    try:
        families = everything(b"\n".join(lines) + b"\n")
    except SourceError:
        return
    list(parse_text(render([families], False).decode()))
