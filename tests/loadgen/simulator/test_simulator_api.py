"""The simulator over a real socket: OpenAI's API, vLLM's stream format, and counters that equal what clients saw."""

import asyncio
import json
import socket
import time
from dataclasses import replace
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from simulating import DEADLINE, QUICK, Running, serving, until

from loadgen.simulator.model import Engine, EngineConfig
from loadgen.simulator.virtual import Arrival, drive

CHAT = {"model": "sim", "messages": [{"role": "user", "content": "hello there"}]}


def metrics(client: httpx.Client) -> dict[tuple[str, str], float]:
    """Value by (sample name, its labels other than model and engine, sorted)."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {
        (s.name, ",".join(v for k, v in sorted(s.labels.items()) if k not in ("model_name", "engine"))): s.value
        for family in families
        for s in family.samples
    }


def events(response: httpx.Response) -> list[dict[str, Any]]:
    """The JSON events of a stream, which must end with [DONE]."""
    lines = response.text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


def test_a_chat_stream_speaks_like_vllm(simulator: Running) -> None:
    """Role first, one event per token, the reason on the last, usage with empty choices, [DONE]."""
    options = {"max_tokens": 5, "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True}}
    with simulator.client() as client:
        response = client.post("/v1/chat/completions", json=CHAT | options)
    assert response.headers["content-type"].startswith("text/event-stream")
    role, *tokens, usage = events(response)
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert len(tokens) == 5
    assert all(token["choices"][0]["delta"]["content"] for token in tokens)
    assert [token["choices"][0]["finish_reason"] for token in tokens] == [None] * 4 + ["length"]
    assert usage["choices"] == []
    # 19 characters of "user: hello there\n" are 5 tokens
    assert usage["usage"] == {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}
    assert {event["object"] for event in (role, *tokens, usage)} == {"chat.completion.chunk"}
    assert len({event["id"] for event in (role, *tokens, usage)}) == 1
    assert role["id"].startswith("chatcmpl-")


def test_a_completion_stream_has_text_and_no_role(simulator: Running) -> None:
    """The older endpoint: text in each choice, no usage unless asked for."""
    body = {"prompt": "once upon", "max_tokens": 3, "ignore_eos": True, "stream": True}
    with simulator.client() as client:
        chunks = events(client.post("/v1/completions", json=body))
    assert len(chunks) == 3
    assert all(chunk["object"] == "text_completion" and chunk["choices"][0]["text"] for chunk in chunks)
    assert not any("usage" in chunk for chunk in chunks)


def test_the_bytes_of_a_token_event_are_compact_json(simulator: Running) -> None:
    """Like vLLM's, without spaces, so that clients that look for byte patterns find them."""
    with simulator.client() as client:
        text = client.post("/v1/chat/completions", json=CHAT | {"stream": True, "max_tokens": 2}).text
    for line in text.split("\n\n")[:-2]:
        body = line.removeprefix("data: ")
        assert body == json.dumps(json.loads(body), separators=(",", ":"))
    assert '"choices":[{"index":0,"delta":{"content":"' in text


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_whole_answer_says_what_a_stream_says(simulator: Running, path: str) -> None:
    """Not streamed: one JSON with as many words as tokens, the reason and the usage."""
    body = (CHAT if "chat" in path else {"prompt": "hello there"}) | {"max_tokens": 7, "ignore_eos": True}
    with simulator.client() as client:
        answer = client.post(path, json=body).json()
    choice = answer["choices"][0]
    assert choice["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 7
    assert (choice["message"]["content"] if "chat" in path else choice["text"]).strip()
    assert answer["system_fingerprint"] == "llm-slo-simulator"


def test_token_ids_are_a_prompt(fresh: Running) -> None:
    """A list of ids has exactly its length in tokens, and repeating it hits the prefix cache."""
    body = {"prompt": list(range(100)), "max_tokens": 1}
    with fresh.client() as client:
        usages = [client.post("/v1/completions", json=body).json()["usage"] for _ in range(2)]
        hits = metrics(client)["vllm:prefix_cache_hits_total", ""]
    assert usages == [{"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101}] * 2
    assert hits == 96


def test_max_completion_tokens_is_the_newer_name(simulator: Running) -> None:
    """It limits an answer as max_tokens does, and wins over it."""
    with simulator.client() as client:
        body = CHAT | {"max_completion_tokens": 3, "max_tokens": 9, "ignore_eos": True}
        assert client.post("/v1/chat/completions", json=body).json()["usage"]["completion_tokens"] == 3


def test_answers_end_by_themselves_unless_told_not_to(simulator: Running) -> None:
    """Without ignore_eos lengths vary and end with stop; with it every answer has max_tokens."""
    with simulator.client() as client:
        free = [client.post("/v1/chat/completions", json=CHAT).json() for _ in range(8)]
        forced = client.post("/v1/chat/completions", json=CHAT | {"max_tokens": 50, "ignore_eos": True}).json()
    assert len({answer["usage"]["completion_tokens"] for answer in free}) > 3
    assert {answer["choices"][0]["finish_reason"] for answer in free} == {"stop"}
    assert forced["usage"]["completion_tokens"] == 50


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "Invalid JSON"),
        (b"[]", "object"),
        (b"{}", "body.messages: Field required"),
        (b'{"messages": []}', "body.messages"),
        (b'{"messages": [{"role": "user", "content": "a"}], "max_tokens": 0}', "body.max_tokens"),
        (b'{"messages": [{"role": "user", "content": "a"}], "n": 2}', "body.n"),
        (b'{"messages": [{"role": "user", "content": "a"}], "temperature": -1}', "body.temperature"),
        (b'{"messages": [{"role": "user", "content": "a"}], "max_tokens": 5000}', "4096"),
        (b'{"messages": [{"role": "user", "content": "%s"}]}' % (b"a" * 17_000), "4096"),
        (b'{"messages": [{"role": "user", "content": "a"}], "stream_options": {"include_usage": true}}', "stream"),
    ],
)
def test_a_wrong_body_is_400_in_openais_shape(simulator: Running, body: bytes, said: str) -> None:
    """The error says what is wrong, counts as 4xx and never reaches the engine."""
    counted = "http_requests_total", "/v1/chat/completions,POST,4xx"
    reached = "vllm:prefix_cache_queries_total", ""
    with simulator.client() as client:
        before = metrics(client)
        response = client.post("/v1/chat/completions", content=body)
        after = metrics(client)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["type"]) == (400, 400, "BadRequestError")
    assert said in error["message"]
    assert after[counted] == before.get(counted, 0) + 1
    assert after[reached] == before[reached]


def test_unknown_model_and_path_are_404(fresh: Running) -> None:
    """As in vLLM: the path's handler is none, the model's is its endpoint."""
    with fresh.client() as client:
        wrong_model = client.post("/v1/chat/completions", json=CHAT | {"model": "other"})
        wrong_path = client.get("/v1/nothing")
        values = metrics(client)
    assert wrong_model.status_code == wrong_path.status_code == 404
    assert wrong_model.json()["error"]["message"] == "The model `other` does not exist."
    assert wrong_path.json()["error"]["type"] == "NotFoundError"
    assert values["http_requests_total", "/v1/chat/completions,POST,4xx"] == 1
    assert values["http_requests_total", "none,GET,4xx"] == 1


@pytest.mark.parametrize("path", ["/v1/models", "/health", "/version", "/metrics", "/dcgm/metrics", "/nothing"])
def test_everything_says_simulated(simulator: Running, path: str) -> None:
    """Every response carries the header, errors too."""
    with simulator.client() as client:
        assert client.get(path).headers["x-llm-slo-simulated"] == "true"


def test_the_small_endpoints(simulator: Running) -> None:
    """Model list, version and health say who answers."""
    with simulator.client() as client:
        (card,) = client.get("/v1/models").json()["data"]
        assert (card["id"], card["owned_by"], card["max_model_len"]) == ("sim", "llm-slo-simulator", 4096)
        assert client.get("/version").json() == {"version": "0.32.0+llm-slo-simulator"}
        assert client.get("/health").status_code == 200
        assert client.get("/metrics").headers["content-type"].startswith("text/plain")
        assert 'modelName="Simulated GPU"' in client.get("/dcgm/metrics").text
        assert not any(name == "http_requests_total" and "/health" in labels for name, labels in metrics(client))


def test_counters_equal_the_sum_of_what_clients_saw(fresh: Running) -> None:
    """Forty concurrent streams: tokens, prompts, first tokens and answers all add up, and the engine ends idle."""

    async def stream(client: httpx.AsyncClient, index: int) -> dict[str, int]:
        body = {"prompt": list(range(index, index + 50)), "max_tokens": 5 + index, "stream": True}
        response = await client.post("/v1/completions", json=body | {"stream_options": {"include_usage": True}})
        *chunks, last = events(response)
        assert len(chunks) == last["usage"]["completion_tokens"]
        usage: dict[str, int] = last["usage"]
        return usage

    async def load() -> list[dict[str, int]]:
        limits = httpx.Limits(max_connections=40)
        async with httpx.AsyncClient(base_url=fresh.url, timeout=DEADLINE, trust_env=False, limits=limits) as client:
            return await asyncio.gather(*(stream(client, index) for index in range(40)))

    usages = asyncio.run(load())
    answered = "http_requests_total", "/v1/completions,POST,2xx"
    with fresh.client() as client:
        until(lambda: metrics(client).get(answered) == 40)  # counted when a response has ended, which clients see first
        values = metrics(client)
    tokens = sum(usage["completion_tokens"] for usage in usages)
    assert values["vllm:generation_tokens_total", ""] == tokens
    assert values["vllm:prompt_tokens_total", ""] == 40 * 50
    assert values["vllm:time_to_first_token_seconds_count", ""] == 40
    assert values["vllm:inter_token_latency_seconds_count", ""] == tokens - 40
    assert values["vllm:request_success_total", "stop"] + values["vllm:request_success_total", "length"] == 40
    assert values["vllm:num_requests_running", ""] == values["vllm:kv_cache_usage_perc", ""] == 0


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_place_and_counts_nowhere(fresh: Running, stream: bool) -> None:
    """As in vLLM: no finished request, no abort, no e2e sample; the KV blocks come back."""
    body = json.dumps({"prompt": "a", "max_tokens": 4000, "ignore_eos": True, "stream": stream}).encode()
    with socket.create_connection(fresh.address) as client:
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        until(lambda: fresh.engine.stats.generation_tokens > 0)
        with fresh.client() as http:
            meanwhile = metrics(http)
    assert meanwhile["vllm:num_requests_running", ""] == 1
    assert meanwhile["vllm:kv_cache_usage_perc", ""] > 0
    until(lambda: not fresh.engine.running)
    with fresh.client() as http:
        values = metrics(http)
    assert fresh.engine.pool.used == 0
    assert values["vllm:time_to_first_token_seconds_count", ""] == 1
    assert values["vllm:e2e_request_latency_seconds_count", ""] == 0
    assert not any(value for (name, _), value in values.items() if name == "vllm:request_success_total")


def test_a_client_that_leaves_while_it_sends_does_no_harm(simulator: Running) -> None:
    """Half a body and gone: the server goes on serving."""
    with socket.create_connection(simulator.address) as client:
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    with simulator.client() as http:
        until(lambda: ("http_requests_total", "/v1/completions,POST,4xx") in metrics(http))
        assert http.post("/v1/chat/completions", json=CHAT).status_code == 200


def test_real_time_gives_the_numbers_of_virtual_time() -> None:
    """The engine reports what the model says for that request, and the client measures a little more around it."""
    config = replace(QUICK, jitter=0.0)
    (expected,) = drive(Engine(config), [Arrival(time=0.0, prompt_tokens=1, max_tokens=200)])
    with serving(config) as running, running.client() as client:
        client.get("/health")
        body = {"prompt": [1], "max_tokens": 200, "ignore_eos": True}
        measured = client.post("/v1/completions", json=body).elapsed.total_seconds()
        stats = running.engine.stats
    assert stats.decode.sum == pytest.approx(expected.timings().decode)
    assert stats.e2e.sum == pytest.approx(expected.timings().e2e, abs=0.005)
    assert stats.e2e.sum < measured < stats.e2e.sum + 0.2


def test_a_stop_breaks_open_streams_at_once() -> None:
    """A stream of minutes and one that still waits for a place end without [DONE], and the server with them."""
    body = {"prompt": "a", "max_tokens": 30_000, "ignore_eos": True, "stream": True}
    with (
        serving(EngineConfig(max_num_seqs=1)) as running,
        running.client() as client,
        client.stream("POST", "/v1/completions", json=body) as served,
        client.stream("POST", "/v1/completions", json=body) as waiting,
    ):
        lines = served.iter_lines()
        assert next(lines).startswith("data: {")
        began = time.monotonic()
        running.server.should_exit = True
        assert not any("[DONE]" in line for line in lines)
        assert waiting.read() == b""
        assert time.monotonic() - began < 1.0


def test_a_slow_reader_slows_nobody_and_misses_nothing() -> None:
    """While one client does not read, others are served and its answer is finished; all of it is there afterwards."""
    body = json.dumps({"prompt": "a", "max_tokens": 3000, "ignore_eos": True, "stream": True}).encode()
    with serving(replace(QUICK, step_seconds=0.0003)) as running, socket.socket() as lazy, running.client() as client:
        running.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect(running.address)
        lazy.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        until(lambda: bool(running.engine.running))
        answer = client.post("/v1/completions", json={"prompt": "b", "max_tokens": 20, "ignore_eos": True})
        assert answer.json()["usage"]["completion_tokens"] == 20
        until(lambda: running.engine.stats.finished.total() == 2)
        received = b""
        while b"[DONE]" not in received:
            received += lazy.recv(1 << 16)
    assert received.count(b"data: {") == 3000
