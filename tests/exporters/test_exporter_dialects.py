"""Every engine's page, with literal names as witnesses: what is told apart, renamed, needed, and not made up."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporters.engines.dialects import DIALECTS, detect
from exporters.engines.reader import EngineParser
from exporters.model import EngineScrape, SourceError
from exporters.serving.page import engine_text
from slo import catalog
from slo.engines import ENGINES
from slo.engines.table import Engine

TESTS = Path(__file__).parents[1]
HANDWRITTEN = Path(__file__).parent / "handwritten"
KINDS = {
    "sglang-0.5.23": "sglang",
    "sglang-0.5.2": "sglang",
    "tgi-3": "tgi",
    "trtllm": "trtllm",
    "triton-trtllm": "triton",
    "nim-1": "nim",
    "llamacpp": "llamacpp",
    "ray-2.60": "ray",
    "lmdeploy": "lmdeploy",
    "vllm-0.33-rust": "vllm",
}


def page(name: str) -> bytes:
    return (HANDWRITTEN / f"{name}.metrics").read_bytes()


def exposed(scrape: EngineScrape) -> set[str]:
    """The sample lines as we write them."""
    return {line for line in engine_text([scrape]).decode().splitlines() if not line.startswith("#")}


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_an_engine_shows_in_its_page(name: str, kind: str) -> None:
    """The kind is told from the names alone, and stating it gives the same reading."""
    body = page(name)
    found = EngineParser().parse(body)
    assert found.kind == kind
    assert found == EngineParser(kind=kind).parse(body)


def test_every_engine_has_a_page_and_is_found() -> None:
    """No engine's table is without a page that proves it."""
    assert {*KINDS.values()} == {*ENGINES} == {*DIALECTS}


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "sglang-0.5.23",
            [
                'llm_http_requests_total{handler="/v1/chat/completions",method="POST",model_name="m",status="503"} 1.0',
                'llm_prompt_tokens_cached_total{cache_source="host",engine_type="unified",model_name="m"} 16.0',
                'llm_request_prefill_seconds_sum{engine_type="unified",model_name="m",moe_ep_rank="0",pp_rank="0",'
                'tp_rank="0"} 1.9',
            ],
        ),
        ("sglang-0.5.2", ['llm_request_queue_seconds_count{model_name="m"} 9.0']),
        (
            "tgi-3",
            [
                "llm_prompt_tokens_total 350",
                "llm_request_prompt_tokens_sum 350",
                'llm_requests_failed_total{reason="overloaded"} 2',
                "llm_requests_finished_total 7",
                'llm_request_duration_seconds_bucket{le="0.00015000000000000001"} 0',
            ],
        ),
        (
            "trtllm",
            [
                'llm_requests_failed_total{model_name="m",reason="500"} 1.0',
                'llm_requests_finished_total{finished_reason="length",model_name="m"} 3.0',
                'llm_kv_cache_usage_ratio{model_name="m"} 0.42',
            ],
        ),
        (
            "triton-trtllm",
            [
                'llm_requests_running{model_name="tensorrt_llm"} 3',
                'llm_requests_waiting{model_name="tensorrt_llm"} 1',
                'llm_kv_cache_usage_ratio{model_name="tensorrt_llm"} 0.42',
            ],
        ),
        ("nim-1", ['llm_requests_failed_total{model_name="m"} 1.0', 'llm_kv_cache_usage_ratio{model_name="m"} 0.4']),
        ("llamacpp", ["llm_generation_tokens_total 90", "llm_spec_decode_accepted_tokens_total 12"]),
        (
            "ray-2.60",
            ['llm_requests_running{ReplicaId="b2",WorkerId="wb2",engine="0",model_name="m"} 0.0'],
        ),
        (
            "lmdeploy",
            [
                'llm_requests_waiting{engine="0",model_name="m"} 1.0',
                'llm_requests_finished_total{engine="0",finished_reason="ResponseType.LENGTH",model_name="m"} 1.0',
            ],
        ),
    ],
)
def test_names_labels_and_values(name: str, lines: list[str]) -> None:
    """Each engine's own words become ours: other names, labels, counters without _total, sums that are counters."""
    assert {*lines} <= exposed(EngineParser().parse(page(name)))


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("llamacpp", [catalog.TTFT, catalog.TPOT, catalog.PREFILL_TIME, catalog.KV_CAPACITY]),
        ("tgi-3", [catalog.TTFT, catalog.ITL, catalog.PREFILL_TIME, catalog.KV_USAGE, catalog.HTTP_REQUESTS]),
        ("triton-trtllm", [catalog.GENERATION_TOKENS, catalog.FINISHED, catalog.E2E]),
        ("trtllm", [catalog.ITL, catalog.HTTP_REQUESTS, catalog.PREEMPTIONS]),
        ("sglang-0.5.23", [catalog.PREFIX_HITS, catalog.DRAFT_TOKENS]),
        ("sglang-0.5.2", [catalog.TTFT]),
    ],
)
def test_nothing_is_made_up(name: str, absent: list[catalog.Metric]) -> None:
    """What an engine only hints at (a mean, a batch, a gauge of events) is absent."""
    assert not {metric.name for metric in absent} & {
        metric.name for metric in EngineParser().parse(page(name)).families
    }


def test_both_of_rays_spellings() -> None:
    """Ray wrote vLLM's colon before, and an underscore now."""
    body = page("ray-2.60")
    assert exposed(EngineParser().parse(body)) == exposed(
        EngineParser().parse(body.replace(b"ray_vllm_", b"ray_vllm:"))
    )


def test_nim_2_is_vllm_even_when_nim_is_stated() -> None:
    """NIM 2.x serves vLLM's own names: stated as NIM they are read all the same."""
    body = (TESTS / "captures" / "vllm-0.32.0-cpu.metrics").read_bytes()
    assert exposed(EngineParser(kind="nim").parse(body)) == exposed(EngineParser().parse(body))


def test_model_name_is_given_where_the_engine_has_none() -> None:
    """TGI does not know its model's name: the one given is on every series, and one that an engine says wins."""
    scrape = EngineParser(model="mine").parse(page("tgi-3"))
    assert scrape.models == ("mine",)
    assert all('model_name="mine"' in line for line in exposed(scrape))
    assert EngineParser(model="mine").parse(page("trtllm")).models == ("m",)


def test_a_stated_engine_is_the_only_one_read() -> None:
    """Another engine's page is refused, with what to look at for the one that was stated."""
    with pytest.raises(SourceError, match=r"without any metric of SGLang: usually http://HOST:30000; start it with"):
        EngineParser(kind="sglang").parse(page("trtllm"))


def test_another_engine_at_the_same_address() -> None:
    """Whatever comes back after a restart is told anew, and leaves nothing of the former behind."""
    parser = EngineParser()
    for name, kind in KINDS.items():
        body = page(name)
        for _ in range(2):
            scrape = parser.parse(body)
            assert scrape.kind == kind
            assert exposed(scrape) == exposed(EngineParser().parse(body))


@pytest.mark.parametrize("old", ["vllm-0.6.6", "vllm-0.9.2"])
def test_restart_with_a_new_versions_names(old: str) -> None:
    """An upgrade in place moves to the new names with the first scrape, and back with a downgrade."""
    new = (TESTS / "captures" / "vllm-0.32.0-cpu.metrics").read_bytes()
    parser = EngineParser()
    for body in (page(old), new, page(old)):
        assert exposed(parser.parse(body)) == exposed(EngineParser().parse(body))


@given(name=st.sampled_from(sorted(KINDS)), data=st.data())
def test_bent_pages_are_read_or_refused(name: str, data: st.DataObject) -> None:
    """Lines lost, doubled, moved and bent: what is read can be read again, by a parser that has seen much, alike."""
    lines = page(name).split(b"\n")[:60]
    bent = data.draw(st.lists(st.sampled_from(lines) | st.binary(max_size=30), max_size=60))
    body = b"\n".join(bent) + b"\n"
    old = EngineParser(kind=KINDS[name])
    old.parse(page(name))
    try:
        scrape = old.parse(body)
    except SourceError:
        return
    text = engine_text([scrape])
    list(parse_text(text.decode()))
    assert text == engine_text([old.parse(body)])


def test_a_web_servers_counter_is_no_engine() -> None:
    """What any server exposes does not decide which engine it is."""
    assert detect(b'http_requests_total{handler="/x"} 7.0\npython_info 1\n') is None


def test_values_pass_as_text() -> None:
    """No engine's table asks for arithmetic on values: they are copied, not converted."""
    names = (names for engine in ENGINES.values() for names in engine.names.values())
    assert {upstream.scale for upstreams in names for upstream in upstreams} == {1.0}


@pytest.mark.parametrize("engine", ENGINES.values(), ids=lambda engine: engine.kind)
def test_tables_speak_of_families_that_exist(engine: Engine) -> None:
    """A name or a reason for a family that the catalogue lacks would never be found out; nor one with both."""
    families = {metric.name for metric in catalog.families()}
    reasons = [family for of_reason in engine.absent.values() for family in of_reason]
    assert {*engine.names, *reasons} <= families
    assert not engine.names.keys() & set(reasons)
    assert len(reasons) == len(set(reasons))
