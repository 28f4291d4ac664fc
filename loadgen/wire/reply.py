"""What a streamed answer says: its tokens and when each came, usage, and what went wrong.

It is read when it has ended, or part by part before, so that a long one need not be kept: never as its bytes come in.

A token chunk is a `data:` event that holds text, reasoning or a tool call (a chunk with only a role is none), or whose
running usage or list of token ids grew. Its stamp is that of the read in which the event's last byte came.
"""

import json
import re
from bisect import bisect_right
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from typing import Any, TypeVar

from loadgen.results.record import ErrorCategory
from loadgen.wire.http1 import Body

# The fields of a delta (or of a completions choice) that hold something the model produced.
_OUTPUT_FIELDS = ("content", "text", "reasoning_content", "reasoning", "tool_calls", "refusal")
_ANSWER_FIELDS = ("content", "text")
# The events of the responses API whose `delta` does.
_OUTPUT_EVENTS = ("response.output_text.delta", "response.reasoning_text.delta", "response.refusal.delta",
                  "response.reasoning_summary_text.delta", "response.function_call_arguments.delta")  # fmt: skip
R = TypeVar("R")
_FAILED_FINISHES = ("error", "abort")
# Some servers say more than a word; a record has room for so many characters of it.
_LONGEST_REASON = 60
# Work between two pauses, in events: about 0.2 ms.
_PARSED_AT_ONCE, _MATCHED_AT_ONCE = 48, 192

_LINE = re.compile(rb"([^\r\n]*)(?:\r\n|\r|\n)")
# A JSON string that is not empty, and one that is what the model said.
_STRING = re.compile(rb'"(?:[^"\\\x00-\x1f]++|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})++"')
_TEXT = re.compile(rb'"(content|text|reasoning_content|reasoning)": ?(' + _STRING.pattern + rb")")

# Of events that differ in nothing but their text: what is before it, and the pattern of it and what is after.
Frame = tuple[bytes, re.Pattern[bytes]]


@dataclass(slots=True)
class Reply:
    """The content of one answer: a stamp per token chunk, and how many tokens each chunk held, `tokens` in all.

    `listed` says that the server listed their ids. When kept, `text` is the answer and `said` all that the model
    produced for it: reasoning and calls of tools, too.
    """

    token_ns: list[int] = field(default_factory=list)
    token_counts: list[int] = field(default_factory=list)
    tokens: int = 0
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    finish_reason: str | None = None
    error: ErrorCategory | None = None
    detail: str | None = None
    text: list[str] | None = None
    said: list[str] = field(default_factory=list)
    listed: bool = False
    ended: bool = False


# Pauses, and whether there is nothing to read until more has come.
Steps = Generator[bool, None, R]


def read_reply(status: int, content_type: str, body: Body, keep_text: bool = False) -> Steps[Reply]:
    """Read the body of a reply, one with another status than 200 only when it has ended.

    A generator that pauses every 0.2 ms or so and returns the Reply: in an event loop, a long answer must not hold up
    the stamps of the others.
    """
    if status != 200:
        return Reply(error=_category(status), detail=_error_text(b"".join(body.pieces)))
    if not is_stream(content_type):
        return Reply(error="bad_response", detail=f"expected an event stream, got {content_type or 'no content type'}")
    reply = Reply(text=[] if keep_text else None)
    try:
        yield from _read_stream(reply, Events(body))
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        reply.error, reply.detail = "bad_response", f"a chunk that cannot be read: {error}"[:200]
    while body.whole is None:
        body.take()
        yield True
    _check_end(reply, body.whole)
    return reply


def is_stream(content_type: str) -> bool:
    """Whether the body is one of server-sent events."""
    return "text/event-stream" in content_type


class Events:
    """The events of a body, one after the other, each with the stamp of its end. It takes the body's bytes over."""

    def __init__(self, body: Body) -> None:
        self._source, self._body = body, b""
        self._stamps: list[int] = []
        self._ends: list[int] = []
        self._begin = self._at = self._piece = 0
        self.refill()

    def next(self) -> tuple[int, bytes] | None:
        """Stamp and data of the next event; None when there is none yet. One without its blank line is dropped."""
        data: list[bytes] = []
        self._begin = self._at
        while match := _LINE.match(self._body, self._at):
            if match.end() == len(self._body) and match[0].endswith(b"\r") and not self.ended:
                break  # its line feed may still come
            self._at, line = match.end(), match[1]
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif not line and data:
                return self._stamp(), b"\n".join(data)
        self._at = self._begin
        return None

    def refill(self) -> bool:
        """Put what came since behind what was not read; whether there was anything."""
        stamps, pieces = self._source.take()
        if not pieces:
            return False
        unread = bisect_right(self._ends, self._at)
        ends = [end - self._at for end in self._ends[unread:]]
        begin = len(self._body) - self._at
        self._ends = [*ends, *(begin + end for end in accumulate(map(len, pieces)))]
        self._stamps = [*self._stamps[unread:], *stamps]
        self._body = b"".join([self._body[self._at :], *pieces])
        self._begin = self._at = self._piece = 0
        return True

    @property
    def ended(self) -> bool:
        """Whether nothing more can come."""
        return self._source.whole is not None and not self._source.pieces

    @property
    def raw(self) -> bytes:
        """The last event as it came, its blank line included."""
        return self._body[self._begin : self._at]

    def take_alike(self, frame: Frame, stamps: list[int], texts: list[bytes] | None, most: int) -> int:
        """Take the next events, at most so many, as long as they fit the frame; adds their stamps (and texts)."""
        before, rest = frame
        body, text, skip, had = self._body, rest.match, len(before), len(stamps)
        ends, at, piece = self._ends, self._at, self._piece
        for _ in range(most):
            if not (body.startswith(before, at) and (found := text(body, at + skip))):
                break
            at = found.end()
            while ends[piece] < at:
                piece += 1
            stamps.append(self._stamps[piece])
            if texts is not None:
                texts.append(found[1])
        self._at, self._piece = at, piece
        return len(stamps) - had

    def _stamp(self) -> int:
        while self._ends[self._piece] < self._at:
            self._piece += 1
        return self._stamps[self._piece]


def events(body: Body) -> Iterator[tuple[int, bytes]]:
    """The data of every server-sent event with the stamp of its end."""
    return iter(Events(body).next, None)


def _read_stream(reply: Reply, stream: Events) -> Steps[None]:
    """Parse events as JSON; those that differ from a parsed one in nothing but the text in it need no parsing."""
    parsed, frame = 0, None
    while True:
        while frame and _take_alike(reply, stream, frame) == _MATCHED_AT_ONCE:
            yield False
        event = stream.next()
        if event is None:
            if stream.ended:
                return
            if not stream.refill():
                yield True
            continue
        if event[1] == b"[DONE]":
            reply.ended = True
            return
        frame = _read_event(reply, *event, stream.raw)
        parsed += 1
        if parsed % _PARSED_AT_ONCE == 0:
            yield False


def _take_alike(reply: Reply, stream: Events, frame: Frame) -> int:
    texts: list[bytes] | None = None if reply.text is None else []
    taken = stream.take_alike(frame, reply.token_ns, texts, _MATCHED_AT_ONCE)
    reply.token_counts += [1] * taken
    reply.tokens += taken
    if reply.text is not None and texts is not None:
        found = [json.loads(text.decode(errors="replace")) for text in texts]
        reply.text += found
        reply.said += found
    return taken


def _read_event(reply: Reply, stamp: int, data: bytes, raw: bytes) -> Frame | None:
    """Read one event. When it was one token of text and nothing else: the frame of those that say the same of another.

    In JSON only a key can be spelled like `"content":`, so what the one such key holds is what was found in the delta.
    """
    chunk = json.loads(data.decode(errors="replace"))
    if str(chunk.get("type", "")).startswith("response."):
        _read_response_event(reply, stamp, chunk)
        return None
    _read_chunk(reply, stamp, chunk)
    choices = chunk.get("choices") or []
    if len(choices) != 1 or chunk.get("usage") or choices[0].get("finish_reason") or choices[0].get("token_ids"):
        return None
    delta = choices[0].get("delta") or choices[0]
    told, texts = [name for name in _OUTPUT_FIELDS if delta.get(name)], list(_TEXT.finditer(raw))
    if len(told) != 1 or len(texts) != 1 or texts[0][1].decode() != told[0]:
        return None
    if reply.text is not None and told[0] not in _ANSWER_FIELDS:  # reasoning is no part of the text to keep
        return None
    begin, end = texts[0].span(2)
    return raw[:begin], _text_and(raw[end:])


@lru_cache(maxsize=256)
def _text_and(rest: bytes) -> re.Pattern[bytes]:
    """The pattern of a text and what follows it, which is the same in most answers of a server."""
    return re.compile(b"(" + _STRING.pattern + b")" + re.escape(rest))


def _read_chunk(reply: Reply, stamp: int, chunk: Any) -> None:
    if error := chunk.get("error"):
        reply.error, reply.detail = "stream_error", _message(error)
        return
    choices, usage = chunk.get("choices") or (), chunk.get("usage") or {}
    running = _whole(usage.get("completion_tokens"))
    new = max((_new_tokens(choice) for choice in choices), default=0)
    if running is not None:
        reply.output_tokens = running
        if choices:  # a server that counts with every chunk tells how many tokens this one holds
            new = max(new, running - reply.tokens)
    _add_tokens(reply, stamp, new)
    _read_prompt_tokens(reply, usage.get("prompt_tokens"))
    for choice in choices:
        reply.listed = reply.listed or bool(choice.get("token_ids"))
        if reply.text is not None:
            reply.text.append(str((choice.get("delta") or choice).get("content") or choice.get("text") or ""))
            reply.said += _said(choice.get("delta") or choice)
        _read_finish(reply, choice.get("finish_reason"))


def _read_response_event(reply: Reply, stamp: int, event: Any) -> None:
    """An event of the responses API; its last one holds the usage and says how it went."""
    kind, response = event["type"], event.get("response") or {}
    if kind in _OUTPUT_EVENTS and event.get("delta"):
        _add_tokens(reply, stamp, 1)
        if reply.text is not None:
            reply.said.append(str(event["delta"]))
            reply.text += reply.said[-1:] if kind == "response.output_text.delta" else ()
    elif kind in ("response.completed", "response.incomplete"):
        usage = response.get("usage") or {}
        reply.ended, reply.output_tokens = True, _whole(usage.get("output_tokens"))
        _read_prompt_tokens(reply, usage.get("input_tokens"))
        _read_finish(reply, (response.get("incomplete_details") or {}).get("reason") or "stop")
    elif kind == "response.failed":
        reply.error, reply.detail = "stream_error", _message(response.get("error") or "response.failed")


def _add_tokens(reply: Reply, stamp: int, new: int) -> None:
    if new > 0:
        reply.token_ns.append(stamp)
        reply.token_counts.append(new)
        reply.tokens += new


def _read_prompt_tokens(reply: Reply, value: object) -> None:
    tokens = _whole(value)
    reply.prompt_tokens = tokens if tokens is not None else reply.prompt_tokens


def _read_finish(reply: Reply, reason: object) -> None:
    reply.finish_reason = str(reason)[:_LONGEST_REASON] if reason else reply.finish_reason
    if reason in _FAILED_FINISHES:
        reply.error, reply.detail = "stream_error", f"finish_reason {reason}"


def _new_tokens(choice: Any) -> int:
    """How many tokens a choice brings: as many as it lists ids, else one when it holds any output."""
    delta = choice.get("delta") or choice
    return len(choice.get("token_ids") or ()) or int(any(delta.get(name) for name in _OUTPUT_FIELDS))


def _said(delta: Any) -> Iterator[str]:
    """All that a chunk holds of what the model produced."""
    reasoning = delta.get("reasoning_content") or delta.get("reasoning")  # some servers say it under both names
    calls = [call.get("function") or {} for call in delta.get("tool_calls") or ()]
    told = [part for call in calls for part in (call.get("name"), call.get("arguments"))]
    return (str(part) for part in (reasoning, *map(delta.get, ("content", "text", "refusal")), *told) if part)


def _check_end(reply: Reply, complete: bool) -> None:
    """A reply without its end is truncated; one whose usage cannot be true of what it held is no answer either."""
    if reply.error is not None:
        return
    if not (reply.ended and complete):
        reply.error, reply.detail = "truncated", "the stream ended before [DONE]"
    elif reply.output_tokens is not None and len(reply.token_ns) > reply.output_tokens + 1:  # one may only flush
        held = f"{len(reply.token_ns)} chunks with output"
        reply.error, reply.detail = "bad_response", f"usage says {reply.output_tokens} tokens, the stream held {held}"


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
