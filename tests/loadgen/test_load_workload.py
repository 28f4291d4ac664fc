"""What is asked: lengths, prompts that share only what they should, conversations, mixes and files of prompts."""

import asyncio
import itertools
import json
import random
from collections import Counter
from statistics import fmean, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st
from load_servers import Got, answer, chunk, delta, event, head, measured

from loadgen.traffic import dataset, lengths
from loadgen.traffic.arrivals import Load
from loadgen.traffic.conversation import Files, Source
from loadgen.traffic.prompts import HEAD, WORDS, Kind, Texts
from loadgen.traffic.trace import Row
from loadgen.traffic.workload import Workload


def bodies(workload: Workload, number: int, files: Files | None = None) -> list[dict[str, object]]:
    """The first request of each of the first conversations."""
    source = Source(workload, "m", files)
    return [json.loads(source.conversation(i).next().body) for i in range(number)]


def prompts(workload: Workload, number: int, files: Files | None = None) -> list[str]:
    return [body["messages"][0]["content"] for body in bodies(workload, number, files)]  # type: ignore[index]


# --- lengths ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mean", "deviation"),
    [
        ("64", 64, 0),
        ("50..150", 100, 29.2),
        ("lognormal:200:100", 200, 100),
        ("histogram:10=1,110=1", 60, 50),
        ("histogram:1..99=3,101..199=1", 75, 52),
    ],
)
def test_lengths_have_the_mean_and_spread_they_claim(text: str, mean: float, deviation: float) -> None:
    """20 000 draws: mean within 2 %, standard deviation within 5 %, and the mean is known without drawing."""
    found, rng = lengths.parse(text), random.Random(1)
    drawn = [found.draw(rng) for _ in range(20_000)]
    assert found.mean == pytest.approx(mean)
    assert fmean(drawn) == pytest.approx(mean, rel=0.02)
    assert pstdev(drawn) == pytest.approx(deviation, rel=0.05)
    assert min(drawn) >= 1


@pytest.mark.parametrize(
    "text", ["", "0", "-5", "9..3", "x", "lognormal:5", "lognormal:0:3", "histogram:", "1.5", "1=0"]
)
def test_lengths_that_are_none_are_refused(text: str) -> None:
    """ValueError that says so, for the command line to show."""
    with pytest.raises(ValueError, match=r"length|log-normal"):
        lengths.parse(text)


def test_a_histogram_file_survives_the_header_of_a_record() -> None:
    """Lines with blanks, commas or equals signs, comments left out; its text gives the same distribution."""
    found = lengths.histogram(["# length weight\n", "64 3\n", "128..256,5\n", "300=0.5\n", "\n"])
    assert lengths.parse(lengths.to_text(found)) == found
    assert found.ranges == ((64, 64), (128, 256), (300, 300))


# --- synthetic prompts ------------------------------------------------------------------------------------------------


def test_words_are_different() -> None:
    """Two spellings of one word would give two numbers one beginning."""
    assert len(set(WORDS)) == len(WORDS)


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.sampled_from(Kind), st.sampled_from(Kind))
def test_texts_of_different_keys_begin_differently(one: int, other: int, kind: Kind, kind2: Kind) -> None:
    """Any two keys up to the largest run, of any kinds: the first eight words tell them apart."""
    texts = Texts(0, "s")
    same = (one, kind) == (other, kind2)
    assert (texts.text(kind, one, HEAD) == texts.text(kind2, other, HEAD)) is same


def test_prompts_are_distinct_within_and_between_runs() -> None:
    """No two prompts of a run, nor of two runs with one seed, share their first eight words."""
    both = [prompt for salt in ("a", "b") for prompt in prompts(Workload(seed=1, salt=salt, prompt_tokens=40), 300)]
    assert len({" ".join(prompt.split()[:HEAD]) for prompt in both}) == 600


@pytest.mark.parametrize("tokens", [1, 8, 64, 5_000, 100_000])
def test_a_word_is_a_token_unless_the_server_counts_otherwise(tokens: int) -> None:
    """Exactly as many words as tokens; with a scale, as many as give them."""
    assert len(prompts(Workload(prompt_tokens=tokens), 1)[0].split()) == tokens
    scaled = Workload(prompt_tokens=tokens, tokens_per_word=1.7, template_tokens=20)
    words = len(prompts(scaled, 1)[0].split())
    assert words == max(1, round((tokens - 20) / 1.7))


def test_shared_prefixes_are_shared_within_a_group_only() -> None:
    """Three groups: three different beginnings of 30 words, then a text of its own for each prompt."""
    found = prompts(Workload(prompt_tokens=50, prefix_tokens=30, prefix_groups=3), 200)
    assert len({" ".join(prompt.split()[:30]) for prompt in found}) == 3
    assert len({" ".join(prompt.split()[30:]) for prompt in found}) == 200
    assert {len(prompt.split()) for prompt in found} == {50}


def test_a_mix_has_its_weights() -> None:
    """Models and tenants are drawn by weight, independently, and repeat with the seed."""
    workload = Workload(models={"base": 3, "lora": 1}, tenants={"gold": 1, "free": 4})
    source = Source(workload, "unused")
    specs = [source.conversation(i).next() for i in range(4_000)]
    models, tenants = Counter(spec.model for spec in specs), Counter(spec.tenant for spec in specs)
    assert models["lora"] == pytest.approx(1_000, rel=0.1)
    assert tenants["gold"] == pytest.approx(800, rel=0.1)
    again = Source(workload, "unused")
    assert specs[:99] == [again.conversation(i).next() for i in range(99)]


def test_bodies_ask_for_exactly_the_tokens_and_for_usage() -> None:
    """Every endpoint in its own words, fields of one's own put in or left out."""
    chat, completion, response = (
        bodies(Workload(endpoint=e, output_tokens=9), 1)[0] for e in ("chat", "completions", "responses")
    )
    assert (chat["model"], chat["max_tokens"], chat["ignore_eos"], chat["stream"]) == ("m", 9, True, True)
    assert chat["stream_options"] == completion["stream_options"] == {"include_usage": True}
    assert isinstance(completion["prompt"], str)
    assert (response["max_output_tokens"], len(response["input"])) == (9, 1)  # type: ignore[arg-type]
    assert "stream_options" not in response
    own = bodies(Workload(body={"ignore_eos": None, "return_token_ids": True}), 1)[0]
    assert "ignore_eos" not in own
    assert own["return_token_ids"] is True


def test_token_ids_give_exact_lengths() -> None:
    """Prompts of ids that the server named, as distinct as words."""
    workload = Workload(endpoint="completions", prompt_tokens=33, token_ids=True)
    found = [tuple(body["prompt"]) for body in bodies(workload, 50, Files(token_ids=range(1000, 1100)))]  # type: ignore[arg-type]
    assert {len(prompt) for prompt in found} == {33}
    assert len({prompt[:HEAD] for prompt in found}) == 50
    assert all(1000 <= i < 1100 for prompt in found for i in prompt)


def test_equal_blocks_of_a_trace_are_equal_text() -> None:
    """Mooncake's ids: two prompts share exactly the blocks they share in the trace, and have the traced lengths."""
    rows = (Row(0, 1100, 5, (7, 8, 9)), Row(1, 1500, 6, (7, 8, 10)), Row(2, 600, 7, (11, 8)))
    workload = Workload(endpoint="chat", prompt_tokens=1)
    first, second, third = (p.split() for p in prompts(workload, 3, Files(rows=rows)))
    assert [len(first), len(second), len(third)] == [1100, 1500, 600]
    assert first[:1024] == second[:1024]
    assert first[1024:1100] != second[1024:1100]
    assert third[512:600] == first[512:600]
    assert third[:512] != first[:512]
    assert [b["max_tokens"] for b in bodies(workload, 3, Files(rows=rows))] == [5, 6, 7]


# --- files of prompts -------------------------------------------------------------------------------------------------


def test_prompts_come_from_files() -> None:
    """JSON lines with prompts or messages, and ShareGPT: what the user says, in order, around and around."""
    talk = {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "b"}]}
    lines = '{"prompt": "a", "output_tokens": 3}\n\n' + json.dumps(talk)
    found = bodies(Workload(output_tokens=5), 3, Files(dialogues=dataset.parse(lines)))
    assert [len(body["messages"]) for body in found] == [1, 2, 1]  # type: ignore[arg-type]
    assert [body["max_tokens"] for body in found] == [3, 5, 3]
    sharegpt = json.dumps([{"conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"},
                                              {"from": "human", "value": "z"}]}, {"conversations": []}])  # fmt: skip
    assert [dialogue.said for dialogue in dataset.parse(sharegpt)] == [("x", "z")]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "no prompt"),
        ('{"prompt": "a"}\n{broken', "line 2"),
        ('{"prompt": 5}', "line 1"),
        ('{"text": "a"}', "line 1"),
        ('{"messages": []}', "line 1"),
        ('[{"conversations": [{"from": "human"}]}]', "entry 1"),
        ('{"prompt": "a", "output_tokens": 0}', "output_tokens"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_files_that_hold_no_prompts_say_where(text: str, place: str) -> None:
    """One error type, with the line or the entry."""
    with pytest.raises(dataset.DatasetError, match=place):
        dataset.parse(text)


# --- conversations ----------------------------------------------------------------------------------------------------


def test_a_conversation_carries_what_was_said() -> None:
    """Three turns: each request has all messages before it, the model's own answers among them, after a think time."""
    seen: list[list[dict[str, str]]] = []

    async def handle(got: Got, writer: asyncio.StreamWriter) -> None:
        seen.append(json.loads(got.body)["messages"])
        words = [f" {len(seen)}", " \u00e9\n", ' "x"']
        writer.write(head() + b"".join(chunk(delta(content=w)) for w in words) + chunk(event("[DONE]")) + b"0\r\n\r\n")

    lines = measured(handle, Load(concurrency=1, requests=2), turns=3, think_time=0.05)
    assert [len(messages) for messages in seen] == [1, 3, 5, 1, 3, 5]
    assert [m["role"] for m in seen[2]] == ["user", "assistant", "user", "assistant", "user"]
    assert seen[2][:3] == seen[1]
    assert [m["content"] for m in seen[2] if m["role"] == "assistant"] == [' 1 \u00e9\n "x"', ' 2 \u00e9\n "x"']
    records = sorted(lines.records, key=lambda record: record.seq)
    assert [(r.session, r.turn) for r in records] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    for before, after in itertools.pairwise(records[:3]):
        assert after.scheduled_ns == before.done_ns + 50_000_000
    assert records[3].scheduled_ns == records[2].done_ns


@pytest.mark.parametrize("load", [Load(rate=50, arrivals="constant", requests=4), Load(concurrency=2, requests=4)])
def test_a_failed_turn_ends_its_conversation(load: Load) -> None:
    """Every second turn fails: no third turn is sent, the others go on, and the run ends."""

    async def handle(got: Got, writer: asyncio.StreamWriter) -> None:
        first = len(json.loads(got.body)["messages"]) == 1
        writer.write(answer(2) if first else head("500 Oops", content_length="0"))

    records = measured(handle, load, turns=3).records
    assert sorted((r.session, r.turn, r.error) for r in records) == [
        (i, turn, error) for i in range(4) for turn, error in ((0, None), (1, "http_5xx"))
    ]


def test_a_duration_ends_conversations_too() -> None:
    """Users who still think when time is up say nothing more."""

    async def handle(_got: Got, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(1))

    lines = measured(handle, Load(concurrency=3, duration=0.3), turns=100, think_time=0.04)
    assert max(record.scheduled_ns for record in lines.records) < 0.35e9
    assert lines.footer.seconds < 1
