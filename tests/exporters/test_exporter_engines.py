"""vLLM pages of several versions -> canonical families. `python tests/exporters/test_exporter_engines.py` rewrites the
goldens; read their diff before it is committed."""

import tracemalloc
from pathlib import Path

import pytest

from exporters.engines.reader import EngineParser
from exporters.model import EngineScrape, SourceError
from exporters.serving.page import engine_text
from slo import catalog
from slo.catalog import Metric

TESTS = Path(__file__).parents[1]
HANDWRITTEN = Path(__file__).parent / "handwritten"
GOLDEN = TESTS / "golden" / "exporters"
PAGES = [*sorted((TESTS / "captures").glob("vllm-*.metrics")), *sorted(HANDWRITTEN.glob("*.metrics"))]
RUNNING = b'vllm:num_requests_running{engine="0",model_name="m"} 1.0\n'


def parse(*pages: bytes, parser: EngineParser | None = None) -> EngineScrape:
    """The reading of the last of several pages, read one after another."""
    parser = parser or EngineParser()
    *_, scrape = [parser.parse(page) for page in pages]
    return scrape


def lines(scrape: EngineScrape, metric: Metric) -> list[str]:
    return scrape.families[metric].samples.decode().splitlines()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_becomes_its_golden(page: Path) -> None:
    """Every page gives the canonical exposition that was read and found right, in the first and in a later scrape."""
    body = page.read_bytes()
    golden = (GOLDEN / page.name).read_text()
    assert engine_text([parse(body)]).decode() == golden
    assert engine_text([parse(body, body, body)]).decode() == golden


def test_newest_name_wins_and_the_old_is_never_added() -> None:
    """Of a family under two names the newer is passed, once, and HELP says which."""
    scrape = parse((HANDWRITTEN / "vllm-0.11.metrics").read_bytes())
    assert scrape.families[catalog.ITL].upstream == "vllm:inter_token_latency_seconds"
    assert len(lines(scrape, catalog.ITL)) == 4
    assert b"(vllm:inter_token_latency_seconds)" in engine_text([scrape])


def test_old_name_alone_is_itl_and_never_tpot() -> None:
    """vLLM's old time_per_output_token_seconds held gaps between tokens: without a real TPOT there is none."""
    scrape = parse((HANDWRITTEN / "vllm-0.6.6.metrics").read_bytes())
    assert scrape.families[catalog.ITL].upstream == "vllm:time_per_output_token_seconds"
    assert catalog.TPOT not in scrape.families


def test_largest_of_the_processes_is_the_gauge() -> None:
    """A gauge that comes once per pid is one series, the largest: the others are stale."""
    scrape = parse((HANDWRITTEN / "vllm-0.9.2.metrics").read_bytes())
    assert lines(scrape, catalog.KV_USAGE) == ['llm_kv_cache_usage_ratio{engine="0",model_name="m"} 0.5']


@pytest.mark.parametrize(
    ("labels", "tokens"),
    [
        ('block_size="16",kv_cache_size_tokens="4096",num_gpu_blocks="9"', "4096"),
        ('block_size="16",kv_cache_size_tokens="None",num_gpu_blocks="9"', "144"),
        ('block_size="16",num_gpu_blocks="9"', "144"),
        ('block_size="16",kv_cache_size_tokens="None",num_gpu_blocks="None"', None),
    ],
)
def test_kv_capacity_comes_from_the_labels(labels: str, tokens: str | None) -> None:
    """Tokens, else blocks x block size, else absent: vLLM writes None before it has profiled the memory."""
    scrape = parse(RUNNING + f'vllm:cache_config_info{{engine="0",{labels}}} 1.0\n'.encode())
    if tokens is None:
        assert catalog.KV_CAPACITY not in scrape.families
    else:
        series = f'llm_kv_cache_capacity_tokens{{engine="0",model_name="m"}} {tokens}'
        assert lines(scrape, catalog.KV_CAPACITY) == [series]


def test_only_model_is_given_to_families_without_one() -> None:
    """HTTP counters carry no model; with one model on the page it is theirs, with two it is unknown."""
    http = b'http_requests_total{handler="/v1/completions",method="POST",status="2xx"} 7.0\n'
    one = parse(http + RUNNING)
    assert 'model_name="m"' in lines(one, catalog.HTTP_REQUESTS)[0]
    two = parse(http + RUNNING + RUNNING.replace(b'"m"', b'"n"'))
    assert two.models == ("m", "n")
    assert "model_name" not in lines(two, catalog.HTTP_REQUESTS)[0]


def test_model_change_and_restart_between_scrapes() -> None:
    """Another model after a restart leaves nothing of the old one behind, and counters fall as they did upstream."""
    page = RUNNING + b"http_requests_total 90\n" + b'vllm:prompt_tokens_total{engine="0",model_name="m"} 5000.0\n'
    after = page.replace(b'"m"', b'"other"').replace(b"5000.0", b"12.0")
    scrape = parse(page, page, after)
    assert scrape.models == ("other",)
    assert b'"m"' not in engine_text([scrape])
    assert lines(scrape, catalog.PROMPT_TOKENS) == ['llm_prompt_tokens_total{engine="0",model_name="other"} 12.0']
    assert lines(scrape, catalog.HTTP_REQUESTS) == ['llm_http_requests_total{model_name="other"} 90']


def test_le_is_written_as_python_clients_write_it() -> None:
    """Go and Rust write le="1": rules match the catalogue's "1.0"."""
    bucket = 'vllm:time_to_first_token_seconds_bucket{{model_name="m",le="{}"}} 3\n'
    page = "".join(bucket.format(le) for le in ("0.25", "1", "2.50", "+Inf")).encode()
    edges = [line.split('"')[1] for line in lines(parse(RUNNING + page), catalog.TTFT)]
    assert edges == ["0.25", "1.0", "2.5", "+Inf"]


def test_openmetrics_with_exemplars_and_timestamps() -> None:
    """What stands behind the value is cut off, in every scrape; the page may end in # EOF without a line feed."""
    page = (
        RUNNING
        + b'vllm:prompt_tokens_total{engine="0",model_name="m"} 17 1795166043.1\n'
        + b'vllm:e2e_request_latency_seconds_bucket{le="+Inf",model_name="m"} 4 # {trace_id="a b"} 0.67 1795166043\n'
        + b"# EOF"
    )
    for scrape in (parse(page), parse(page, page)):
        assert lines(scrape, catalog.PROMPT_TOKENS) == ['llm_prompt_tokens_total{engine="0",model_name="m"} 17']
        assert lines(scrape, catalog.E2E)[0].endswith('model_name="m"} 4')


def test_first_of_a_duplicate_and_nothing_that_cannot_be() -> None:
    """A series given twice keeps its first value; NaN and what is below zero are no values; infinity is one."""
    scrape = parse(
        RUNNING
        + RUNNING.replace(b" 1.0", b" 9.0")
        + b'vllm:num_requests_waiting{model_name="m"} NaN\n'
        + b'vllm:prompt_tokens_total{model_name="m"} NaN\nvllm:prompt_tokens_total{model_name="n"} +Inf\n'
        + b'vllm:generation_tokens_total{model_name="m"} -3\nvllm:generation_tokens_total{model_name="n"} 3\n'
    )
    assert lines(scrape, catalog.RUNNING) == ['llm_requests_running{engine="0",model_name="m"} 1.0']
    assert catalog.WAITING not in scrape.families
    assert lines(scrape, catalog.PROMPT_TOKENS) == ['llm_prompt_tokens_total{model_name="n"} +Inf']
    assert lines(scrape, catalog.GENERATION_TOKENS) == ['llm_generation_tokens_total{model_name="n"} 3']


@pytest.mark.parametrize(
    ("page", "said"),
    [
        (b"", "an empty page"),
        (b"\n", "an empty page"),
        (b"<!doctype html><title>Grafana</title>\n", r"a web page \(HTML\)"),
        (b'{"detail": "Not Found"}\n', "JSON"),
        (b"go_goroutines 7\n", "starts with 'go_goroutines 7'"),
        (b'http_requests_total{handler="/x"} 7.0\n', "without any metric of a known engine: point --engine at"),
        (RUNNING[:-3], "cut short in its last line"),
        (RUNNING.replace(b" 1.0", b" many"), "'many' stands where a number belongs"),
        (RUNNING.replace(b" 1.0", b" 1_0"), "'1_0' stands where a number belongs"),
        (RUNNING.replace(b" 1.0", b" 1.0\r"), "no sample line"),
        (RUNNING.replace(b" 1.0", b" 1.0\t17"), "no sample line"),
        (RUNNING.replace(b" 1.0", b" \t1.0"), "no sample line"),
        (RUNNING.replace(b'"m"', b'"m'), "no sample line"),
        (RUNNING.replace(b"engine=", b"engine:"), "labels that cannot be read"),
        (RUNNING.replace(b'engine="0"', b'model_name="m"'), "labels that cannot be read"),
        (RUNNING.replace(b'"m"', b'"\xff"'), "utf-8"),
        (b'vllm:request_success_total{model_name="m"}\n', "no sample line"),
        (b'vllm:time_to_first_token_seconds_bucket{le="soon"} 1\n', "soon"),
    ],
)
def test_what_is_no_engine_page_is_refused(page: bytes, said: str) -> None:
    """Anything but an engine's whole page is one error that says what came."""
    with pytest.raises(SourceError, match=said):
        parse(page)


def test_what_is_broken_stays_broken() -> None:
    """A line without a value is refused in a later scrape as in the first, behind blank lines too."""
    parser = EngineParser()
    parser.parse(RUNNING + b"\n\n")
    for _ in range(2):
        with pytest.raises(SourceError, match="no sample line"):
            parser.parse(RUNNING + b'\n\nvllm:request_success_total{model_name="m"}\n')
        with pytest.raises(SourceError, match="'' stands where a number belongs"):
            parser.parse(RUNNING.replace(b"1.0", b""))


def test_broken_page_does_not_spoil_the_next() -> None:
    """After an error the parser reads on as if nothing had been."""
    parser = EngineParser()
    with pytest.raises(SourceError):
        parser.parse(RUNNING.replace(b" 1.0", b" many"))
    assert parser.parse(RUNNING).models == ("m",)


def test_labels_given_to_the_parser_are_on_every_series() -> None:
    """Two engines of one page are told apart by what the parser stamps on them."""
    scrape = parse(RUNNING, parser=EngineParser({"endpoint": 'http://a"b'}))
    series = r'llm_requests_running{endpoint="http://a\"b",engine="0",model_name="m"} 1.0'
    assert lines(scrape, catalog.RUNNING) == [series]


def test_memory_does_not_grow_with_series_that_come_and_go() -> None:
    """New label values in every scrape do not pile up."""
    parser = EngineParser()
    row = b'http_requests_total{handler="/%d/%d",method="GET",status="2xx"} 1.0\n'

    def used_after(scrapes: range) -> int:
        for scrape in scrapes:
            parser.parse(RUNNING + b"".join(row % (scrape, i) for i in range(100)))
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        assert used_after(range(10, 100)) < 4 * used_after(range(10))
    finally:
        tracemalloc.stop()


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for written in PAGES:
        (GOLDEN / written.name).write_bytes(engine_text([parse(written.read_bytes())]))
