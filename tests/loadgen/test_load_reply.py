"""Reading a streamed answer: what is a token, when it came, and what went wrong."""

import itertools
import json
from collections.abc import Generator
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from load_servers import DONE, ROLE, delta, event, usage

from loadgen.wire.http1 import Body
from loadgen.wire.reply import Reply, events, read_reply

SSE = "text/event-stream; charset=utf-8"


def finished(steps: Generator[bool, None, Reply]) -> Reply:
    """What the reader returns once it has made all its pauses."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return cast(Reply, end.value)


def body(*pieces: bytes, whole: bool = True) -> Body:
    """A body whose pieces are stamped 0, 1, 2 and so on."""
    return Body(list(range(len(pieces))), list(pieces), whole)


def read(*pieces: bytes, complete: bool = True) -> Reply:
    return finished(read_reply(200, SSE, body(*pieces, whole=complete)))


def read_growing(*pieces: bytes, complete: bool = True) -> Reply:
    """The same, where each piece comes only when there is nothing to read but it."""
    growing = Body()
    steps = read_reply(200, SSE, growing)
    for stamp, piece in enumerate(pieces):
        while not next(steps):
            pass
        assert not growing.pieces
        growing.add(stamp, piece)
    growing.whole = complete
    return finished(steps)


def test_a_long_answer_is_read_in_steps() -> None:
    """4 000 tokens take some pauses and lose none, alike or not, also where [DONE] begins a step of its own."""
    for tokens in (192, 193, 194, 4_000):
        steps = read_reply(200, SSE, body(delta(content=" a") * tokens + DONE))
        assert sum(1 for _ in steps) == (tokens - 1) // 192
        mixed = (delta(content=" a") + delta(reasoning=" b")) * (tokens // 2)
        assert sum(1 for _ in read_reply(200, SSE, body(mixed + DONE))) == tokens // 2 * 2 // 48
        assert len(read(delta(content=" a") * tokens + DONE).token_ns) == tokens


def test_every_kind_of_output_is_a_token_and_a_role_is_not() -> None:
    """Text, reasoning under both names, tool calls and completions' text count; role, empty and usage chunks do not."""
    reply = read(
        ROLE,
        delta(content=" a"),
        delta(reasoning_content="b"),
        delta(reasoning="c"),
        delta(tool_calls=[{"index": 0, "function": {"arguments": "{"}}]),
        event({"choices": [{"index": 0, "text": " d", "finish_reason": None}]}),
        delta("length", content=""),
        usage(11, 6),
        DONE,
    )
    assert reply.token_ns == [1, 2, 3, 4, 5]
    assert (reply.prompt_tokens, reply.output_tokens, reply.finish_reason) == (11, 6, "length")
    assert reply.error is None


def test_a_server_that_counts_with_every_chunk_tells_how_many_tokens_it_holds() -> None:
    """Speculative decoding: three tokens in one chunk are three, also when their text is still held back."""

    def counted(text: str, running: int) -> bytes:
        return event({"choices": [{"delta": {"content": text}}], "usage": {"completion_tokens": running}})

    reply = read(counted("", 0), counted(" a", 1), counted(" b c d", 4), counted("", 5), DONE)
    assert (reply.token_ns, reply.token_counts) == ([1, 2, 3], [1, 3, 1])
    assert reply.output_tokens == 5


def test_a_usage_on_the_last_token_chunk_adds_no_tokens() -> None:
    """Some servers put the final usage on the last chunk with text; it must not count the whole answer again."""
    last = event({"choices": [{"delta": {"content": " b"}}], "usage": {"completion_tokens": 2}})
    assert read(delta(content=" a"), last, DONE).token_counts == [1, 1]


STREAM = (
    b": a comment\r\n\r\n" + ROLE + delta(content="é\u2028 x") + b"event: message\nid: 3\n" + delta(content=" y")
    + b"data: {\"choices\": [{\"delta\":\ndata: {\"content\": \"two lines\"}}]}\r\rdata:" + usage(1, 3)[6:]
    + DONE
)  # fmt: skip


@given(st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_any_cut_of_the_same_bytes_gives_the_same_tokens(cuts: list[int]) -> None:
    """Events split anywhere, also inside a character or a line end, and several in one read."""
    edges = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[a:b] for a, b in itertools.pairwise(edges)]
    reply = read(*pieces)
    assert (len(reply.token_ns), reply.output_tokens, reply.error) == (3, 3, None)
    assert read_growing(*pieces) == reply


@given(st.lists(st.integers(0, 4000), max_size=12))
def test_a_token_is_stamped_with_the_read_of_its_last_byte(cuts: list[int]) -> None:
    """For every cut the stamp is the number of the piece in which the event's blank line ended."""
    texts = [delta(content=f" {i}") for i in range(12)]
    data = b"".join(texts)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    pieces = body(*(data[a:b] for a, b in itertools.pairwise(edges)))
    ends, at = [], 0
    for text in texts:
        at += len(text)
        ends.append(next(i for i, edge in enumerate(edges[1:]) if edge >= at))
    assert [stamp for stamp, _ in events(pieces)] == ends


EVENTS = st.sampled_from(
    [
        ROLE,
        delta(content=" a"),
        delta(content='"\\é'),
        delta(reasoning="b"),
        delta("stop", content=" c"),
        b": ping\n\n",
        event({"choices": [{"delta": {"content": "d"}}], "usage": {"completion_tokens": 3}}),
    ]
)


@given(
    st.lists(st.tuples(EVENTS, st.integers(1, 5)), max_size=8),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.lists(st.tuples(st.integers(0, 4000), st.booleans()), max_size=20),
    st.booleans(),
    st.booleans(),
)
def test_an_answer_read_while_it_comes_is_the_answer_read_whole(
    parts: list[tuple[bytes, int]], line: bytes, cuts: list[tuple[int, bool]], keep: bool, complete: bool
) -> None:
    """Alike or not, with any line ends, cut anywhere and read after any of the pieces: same stamps, same text."""
    data = (b"".join(part * number for part, number in parts) + DONE).replace(b"\n", line)
    edges = [0, *sorted(cut % (len(data) + 1) for cut, _ in cuts), len(data)]
    pieces = [data[a:b] for a, b in itertools.pairwise(edges)]
    growing = Body()
    steps = read_reply(200, SSE, growing, keep)
    for stamp, (piece, (_, wait)) in enumerate(zip(pieces, [*cuts, (0, False)], strict=True)):
        while wait and not next(steps):
            pass
        growing.add(stamp, piece)
    growing.whole = complete
    assert finished(steps) == finished(read_reply(200, SSE, body(*pieces, whole=complete), keep))


def test_an_error_in_the_stream_fails_the_request_and_keeps_its_tokens() -> None:
    """vLLM sends an error event and then [DONE]: the answer is not complete."""
    reply = read(delta(content=" a"), event({"error": {"message": "CUDA error", "code": 500}}), DONE)
    assert (reply.error, reply.detail, reply.token_ns) == ("stream_error", "CUDA error", [0])


@pytest.mark.parametrize("reason", ["error", "abort"])
def test_a_failed_finish_reason_is_an_error(reason: str) -> None:
    """An engine that aborts the request says so only there."""
    assert read(delta(reason, content=" a"), DONE).error == "stream_error"


@pytest.mark.parametrize(
    ("pieces", "complete"),
    [
        ([delta(content=" a"), usage(1, 1)], True),
        ([delta(content=" a"), DONE], False),
        ([delta(content=" a"), DONE[:-1]], True),
        ([delta(content=" a"), b'data: {"choices": [{"del'], False),
        ([], True),
    ],
)
def test_a_stream_without_its_end_is_truncated(pieces: list[bytes], complete: bool) -> None:
    """No [DONE], or a body that was cut off: truncated, with the tokens that came."""
    reply = read(*pieces, complete=complete)
    assert reply.error == "truncated"
    assert len(reply.token_ns) == min(1, len(pieces))


@pytest.mark.parametrize(
    "bad",
    [
        b"data: {not json}\n\n",
        b"data: 17\n\n",
        b'data: {"choices": 3}\n\n',
        b'data: {"choices": [null]}\n\n',
        b'data: {"choices": [], "usage": [1]}\n\n',
        b"data: {}, {}\n\n",
        b"data: " + b"[" * 100_000 + b"\n\n",
    ],
)
def test_chunks_that_cannot_be_read_are_a_bad_response(bad: bytes) -> None:
    """Malformed or misshapen JSON, also hostile nesting: the tokens before it are kept, and no exception escapes."""
    reply = read(delta(content=" a"), bad, delta(content=" b"), DONE)
    assert (reply.error, reply.token_ns) == ("bad_response", [0])


def test_text_that_is_no_utf8_still_times_the_token() -> None:
    """Only the time matters; a broken character in the text is no broken answer."""
    reply = read(b'data: {"choices": [{"delta": {"content": "\xff\xfe"}}]}\n\n', DONE)
    assert (reply.error, reply.token_ns) == (None, [0])


def test_wrong_counts_are_absent() -> None:
    """A usage with nonsense in it gives no counts, not wrong ones."""
    reply = read(event({"choices": [], "usage": {"prompt_tokens": "7", "completion_tokens": -1}}), DONE)
    assert (reply.prompt_tokens, reply.output_tokens) == (None, None)


@pytest.mark.parametrize(
    ("status", "category"),
    [
        (400, "http_4xx"),
        (404, "http_4xx"),
        (429, "http_429"),
        (500, "http_5xx"),
        (503, "http_5xx"),
        (302, "bad_response"),
    ],
)
def test_a_status_is_a_category(status: int, category: str) -> None:
    """Every status that is not 200, with the human part of its body."""
    for text in (b'{"error": {"message": "why"}}', b'{"detail": "why"}', b"why\n"):
        reply = finished(read_reply(status, "application/json", body(text)))
        assert (reply.error, reply.detail) == (category, "why")


def test_an_answer_that_does_not_stream_is_a_bad_response() -> None:
    """200 with a whole JSON document cannot be timed token by token."""
    reply = finished(read_reply(200, "application/json", body(b"{}")))
    assert reply.error == "bad_response"
    assert "application/json" in (reply.detail or "")


@given(st.lists(st.binary(max_size=60)), st.booleans())
def test_no_bytes_at_all_break_the_reader(pieces: list[bytes], complete: bool) -> None:
    """Garbage is truncated or bad, never an exception."""
    assert read(*pieces, complete=complete).error in ("truncated", "bad_response")


said = st.tuples(st.sampled_from(["content", "reasoning", "refusal"]), st.text(max_size=6) | st.just('"content": "x"'))


@given(st.lists(said, max_size=30), st.booleans(), st.sampled_from([(", ", ": "), (",", ":")]), st.integers(1, 50))
def test_events_read_without_parsing_say_what_parsing_says(
    parts: list[tuple[str, str]], ascii_only: bool, separators: tuple[str, str], cut: int
) -> None:
    """Any texts, escaped or not, also such that look like JSON: as many tokens, the same stamps, the same text."""
    chunks = [
        {"id": "c", "choices": [{"index": 0, "delta": {name: text}, "finish_reason": None}]} for name, text in parts
    ]
    events = [f"data: {json.dumps(c, ensure_ascii=ascii_only, separators=separators)}\n\n".encode() for c in chunks]
    data = b"".join(events) + DONE
    pieces = [data[i : i + cut] for i in range(0, len(data), cut)]
    ends = [(end - 1) // cut for end in itertools.accumulate(map(len, events))]
    reply = finished(read_reply(200, SSE, body(*pieces), keep_text=True))
    assert reply.token_ns == [end for end, (_, text) in zip(ends, parts, strict=True) if text]
    assert reply.error is None
    assert "".join(reply.text or ()) == "".join(text for name, text in parts if name == "content")
