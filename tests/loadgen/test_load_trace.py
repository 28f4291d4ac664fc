"""Traces of recorded traffic: every format read, every bad line named."""

import pytest

from loadgen.traffic.arrivals import NS
from loadgen.traffic.trace import Row, TraceError, parse

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:15:51.2224670,879,0
"""
AZURE_2024 = """TIMESTAMP,ContextTokens,GeneratedTokens
2024-05-10 00:00:00.009930+00:00,2162,5
2024-05-10 00:00:00.017335+00:00,2399,6
"""
BURSTGPT = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,GPT-4,1087,230,1317,API log
60,GPT-4,10,0,10,API log
44.5,ChatGPT,417,276,693,Conversation log
"""
MOONCAKE = """{"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47, 48]}
{"timestamp": 30535, "input_length": 6472, "output_length": 26, "hash_ids": [46, 49]}
"""
OWN = '{"at": 1.5, "prompt_tokens": 10, "output_tokens": 2}\n{"at": 1, "prompt_tokens": 11, "output_tokens": 3}\n'
RECORDS = (
    '{"format": "llm-slo-records", "version": 1, "header": {}}\n'
    '{"seq":0,"scheduled_ns":5,"prompt_tokens":7,"output_tokens":4}\n'
    '{"seq":1,"scheduled_ns":9,"error":"refused"}\n'
    '{"format": "llm-slo-records", "version": 1, "footer": {}}\n'
)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        pytest.param(AZURE, [(0, 374, 44), (4_314_579_000, 396, 109)], id="azure-2023"),
        pytest.param(AZURE_2024, [(0, 2162, 5), (7_405_000, 2399, 6)], id="azure-2024"),
        pytest.param(BURSTGPT, [(0, 472, 18), (39.5 * NS, 417, 276), (40 * NS, 1087, 230)], id="burstgpt"),
        pytest.param(OWN, [(0, 11, 3), (NS // 2, 10, 2)], id="own"),
        pytest.param(RECORDS, [(0, 7, 4)], id="records"),
    ],
)
def test_every_format_is_read(text: str, rows: list[tuple[int, int, int]]) -> None:
    """Offsets count from the first request, in order of time; requests without an answer are left out."""
    found = parse(text.splitlines())
    assert [(row.offset_ns, row.prompt_tokens, row.output_tokens) for row in found] == rows


def test_mooncake_keeps_its_blocks() -> None:
    """Times are milliseconds, block ids stay as they are."""
    assert parse(MOONCAKE.splitlines()) == (Row(0, 6955, 52, (46, 47, 48)), Row(3_053_000_000, 6472, 26, (46, 49)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("a,b,c\n1,2,3", "no known columns: a, b, c"),
        (AZURE.replace("374", "many"), "line 2"),
        (AZURE.replace("2023-11-16 18:15:50.9951690", "noon"), "line 3"),
        (BURSTGPT.replace("472", "-1").replace("5,C", "x,C"), "line 2"),
        (MOONCAKE + "[1]", "line 3: no JSON object"),
        (MOONCAKE + "{", "line 3: no JSON"),
        ('{"timestamp": 1, "input_length": 5}', "line 1: has no 'output_length'"),
        ('{"at": 1, "prompt_tokens": 0, "output_tokens": 5}', "line 1: lengths"),
        ('{"at": "now", "prompt_tokens": 1, "output_tokens": 5}', "line 1"),
        (AZURE.splitlines()[0], "not one answered"),
    ],
)
def test_what_is_no_trace_says_where(text: str, message: str) -> None:
    """TraceError, with the line's number."""
    with pytest.raises(TraceError, match=message):
        parse(text.splitlines())
