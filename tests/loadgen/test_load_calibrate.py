"""Prompts have the length that was asked for, as the server counts: by /tokenize, by usage, or by neither."""

import asyncio
import json
from collections.abc import Callable

import httpx
import pytest
from load_servers import Got, Handler, head, in_thread

from loadgen.traffic.calibrate import Counter, Scale, fit
from loadgen.traffic.conversation import Source
from loadgen.traffic.prompts import WORDS
from loadgen.traffic.workload import Endpoint, Workload
from loadgen.wire.target import Target, control

TEMPLATE = 11


def tokens(text: str) -> int:
    """A small tokenizer's count: long words are cut, so that a word is about 1.7 tokens."""
    return sum(-(-len(word) // 3) for word in text.split())


def prompt_of(got: Got) -> str:
    body = json.loads(got.body)
    said = body.get("messages") or body.get("input") or body.get("prompt")
    return said if isinstance(said, str) else said[0]["content"]


def server(knows: str, seen: list[str]) -> Handler:
    """Counts at /tokenize, by usage, or not at all."""

    async def handle(got: Got, writer: asyncio.StreamWriter) -> None:
        seen.append(got.path)
        page: object = None
        if got.path == "/tokenize" == knows:
            text = prompt_of(got)
            page = {"count": tokens(text) + TEMPLATE, "tokens": [1000 + i for i, _ in enumerate(text.split())]}
        elif got.path != "/tokenize" and knows == "usage":
            name = "input_tokens" if got.path.endswith("responses") else "prompt_tokens"
            page = {"usage": {name: tokens(prompt_of(got)) + TEMPLATE}}
        data = json.dumps(page).encode()
        writer.write(head("200 OK" if page else "404 No", "application/json", content_length=str(len(data))) + data)

    return handle


def scale(knows: str, endpoint: Endpoint, seen: list[str]) -> Scale | None:
    with in_thread(server(knows, seen)) as port:
        target = Target("http", "127.0.0.1", port, "")
        with control(target, {}) as client:
            return Counter(client, target.url, endpoint, "m").scale()


@pytest.mark.parametrize("knows", ["/tokenize", "usage"])
@pytest.mark.parametrize("endpoint", ["chat", "completions", "responses"])
@pytest.mark.parametrize("asked", [60, 100, 1000])
def test_a_prompt_has_the_tokens_that_were_asked_for(knows: str, endpoint: Endpoint, asked: int) -> None:
    """On a tokenizer that cuts words, where one word for a token would be 70 % too many: within 10 % on average."""
    found = scale(knows, endpoint, [])
    assert found is not None
    workload = Workload(
        endpoint="completions", prompt_tokens=asked, salt="s",
        tokens_per_word=found.tokens_per_word, template_tokens=found.template_tokens,
    )  # fmt: skip
    source = Source(workload, "m")
    counts = [tokens(json.loads(source.conversation(i).next().body)["prompt"]) + TEMPLATE for i in range(50)]
    assert sum(counts) / len(counts) == pytest.approx(asked, rel=0.1)


def test_the_engine_need_not_run_when_it_has_tokenize() -> None:
    """Two questions to /tokenize, and no request that would count in the engine's own metrics."""
    seen: list[str] = []
    assert scale("/tokenize", "chat", seen) is not None
    assert seen == ["/tokenize"] * 2


def test_a_server_that_does_not_count_gives_no_scale() -> None:
    """Neither way: None, after one question each, and no exception."""
    seen: list[str] = []
    assert scale("nothing", "chat", seen) is None
    assert seen == ["/tokenize", "/v1/chat/completions"]


@pytest.mark.parametrize(
    "count", [lambda text: None, lambda text: 7, lambda text: -len(text), lambda text: 1000 - len(text)]
)
def test_counts_that_make_no_line_give_no_scale(count: Callable[[str], int | None]) -> None:
    """A server that always says the same, or less for more, is not believed."""
    assert fit(count, (32, 288)) is None


def test_a_word_that_is_a_token_is_fitted_exactly() -> None:
    """On the tokenizers of large models: one token a word, and the template's own."""
    assert fit(lambda text: len(text.split()) + 25, (32, 4096)) == Scale(1.0, 25)


@pytest.mark.parametrize(("knows", "number"), [("/tokenize", len(WORDS)), ("usage", 0)])
def test_token_ids_are_the_servers(knows: str, number: int) -> None:
    """Ids of the common words from /tokenize; none where it is missing."""
    with in_thread(server(knows, [])) as port, httpx.Client() as client:
        assert len(Counter(client, f"http://127.0.0.1:{port}", "completions", "m").token_ids()) == number
