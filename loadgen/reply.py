"""What a streamed answer says, read after it has ended: its tokens and when each came, usage, and what went wrong.

A token chunk is a `data:` event whose delta holds text, reasoning or a tool call (a chunk with only a role is none),
or whose running usage grew. Its stamp is that of the read in which the event's last byte came.
"""

import json
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice
from typing import Any

from loadgen.record import ErrorCategory

Pieces = Sequence[tuple[int, bytes]]

# The fields of a delta (or of a completions choice) that hold something the model produced.
_OUTPUT_FIELDS = ("content", "text", "reasoning_content", "reasoning", "tool_calls", "refusal")
_AT_ONCE = 64
_FAILED_FINISHES = ("error", "abort")


@dataclass(slots=True)
class Reply:
    """The content of one answer: a stamp per token chunk, and how many tokens each chunk held."""

    token_ns: list[int] = field(default_factory=list)
    token_counts: list[int] = field(default_factory=list)
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    finish_reason: str | None = None
    error: ErrorCategory | None = None
    detail: str | None = None


def read_reply(status: int, content_type: str, pieces: Pieces, complete: bool) -> Generator[None, None, Reply]:
    """Read the body of a reply; `complete` says whether it was received to its end.

    A generator that pauses every 64 events (about 0.2 ms) and returns the Reply: in an event loop, a long answer
    must not hold up the stamps of the others.
    """
    if status != 200:
        return Reply(error=_category(status), detail=_error_text(b"".join(piece for _, piece in pieces)))
    if "text/event-stream" not in content_type:
        return Reply(error="bad_response", detail=f"expected an event stream, got {content_type or 'no content type'}")
    return (yield from _read_stream(pieces, complete))


def events(pieces: Pieces) -> Iterator[tuple[int, bytes]]:
    """The data of every server-sent event with the stamp of its end. An event without its blank line is dropped."""
    data: list[bytes] = []
    for stamp, line in _lines(pieces):
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line and data:
            yield stamp, b"\n".join(data)
            data = []


def _lines(pieces: Pieces) -> Iterator[tuple[int, bytes]]:
    """Every complete line, without its end, and the stamp of the piece that completed it."""
    ends = list(accumulate(len(piece) for _, piece in pieces))
    at = piece = 0
    for line in b"".join(data for _, data in pieces).splitlines(keepends=True):
        at += len(line)
        while ends[piece] < at:
            piece += 1
        text = line.rstrip(b"\r\n")
        if len(text) < len(line):
            yield pieces[piece][0], text


def _read_stream(pieces: Pieces, complete: bool) -> Generator[None, None, Reply]:
    reply, stream, done = Reply(), events(pieces), False
    try:
        while batch := list(islice(stream, _AT_ONCE)):
            done = batch[-1][1] == b"[DONE]"
            _read_events(reply, batch[:-1] if done else batch)
            if not done:
                yield
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        reply.error, reply.detail = "bad_response", f"a chunk that cannot be read: {error}"[:200]
    if reply.error is None and not (done and complete):
        reply.error, reply.detail = "truncated", "the stream ended before [DONE]"
    return reply


def _read_events(reply: Reply, batch: Sequence[tuple[int, bytes]]) -> None:
    for (stamp, _), chunk in zip(batch, _chunks([data for _, data in batch]), strict=True):
        _read_chunk(reply, stamp, chunk)


def _chunks(payloads: list[bytes]) -> Iterator[Any]:
    """Every payload as JSON: all at once, which is twice as fast, or one by one up to the first bad one.

    Text is only timed, never kept, so bytes that are no UTF-8 are replaced.
    """
    texts = [payload.decode(errors="replace") for payload in payloads]
    try:
        together = json.loads(f"[{','.join(texts)}]")
    except (ValueError, RecursionError):
        together = []
    yield from together if len(together) == len(texts) else map(json.loads, texts)


def _read_chunk(reply: Reply, stamp: int, chunk: Any) -> None:
    if error := chunk.get("error"):
        reply.error, reply.detail = "stream_error", _message(error)
        return
    choices, usage = chunk.get("choices") or (), chunk.get("usage") or {}
    running = _whole(usage.get("completion_tokens"))
    new = int(any(_has_output(choice) for choice in choices))
    if running is not None:
        reply.output_tokens = running
        if choices:  # a server that counts with every chunk tells how many tokens this one holds
            new = max(new, running - sum(reply.token_counts))
    if new:
        reply.token_ns.append(stamp)
        reply.token_counts.append(new)
    prompt_tokens = _whole(usage.get("prompt_tokens"))
    reply.prompt_tokens = prompt_tokens if prompt_tokens is not None else reply.prompt_tokens
    for choice in choices:
        _read_finish(reply, choice.get("finish_reason"))


def _read_finish(reply: Reply, reason: str | None) -> None:
    reply.finish_reason = reason or reply.finish_reason
    if reason in _FAILED_FINISHES:
        reply.error, reply.detail = "stream_error", f"finish_reason {reason}"


def _has_output(choice: Any) -> bool:
    delta = choice.get("delta") or choice
    return any(delta.get(name) for name in _OUTPUT_FIELDS)


def _whole(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _category(status: int) -> ErrorCategory:
    if status == 429:
        return "http_429"
    if 400 <= status < 500:
        return "http_4xx"
    return "http_5xx" if status >= 500 else "bad_response"


def _error_text(body: bytes) -> str | None:
    text = body[:10_000].decode(errors="replace")
    try:
        return _message(json.loads(text)) or None
    except (ValueError, RecursionError):
        return text[:200].strip() or None


def _message(error: Any) -> str:
    """The human part of an error object, in any of the shapes servers use, at most 200 characters."""
    while isinstance(error, dict):
        error = error.get("error") or error.get("message") or error.get("detail") or json.dumps(error)
    return str(error)[:200]
