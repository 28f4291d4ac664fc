"""The OpenAI API's words: request bodies, errors, whole answers, and the bytes of streamed ones as vLLM writes them."""

import json
import time
from http import HTTPStatus
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError

from loadgen.simulator.model import FinishReason
from loadgen.simulator.tokens import VOCABULARY

FINGERPRINT = "llm-slo-simulator"
DONE = b"data: [DONE]\n\n"
WORDS = [json.dumps(text).encode() for text in VOCABULARY]


class ApiError(Exception):
    """An answer other than 200, in OpenAI's shape."""

    def __init__(self, status: int, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        kind = HTTPStatus(status).phrase.replace(" ", "") + "Error"
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": status}}


class StreamOptions(BaseModel):
    """What to add to a stream."""

    include_usage: bool = False


class Body(BaseModel):
    """What both endpoints take. Unknown fields are ignored, stop strings too: the model chooses an answer's length."""

    model: str | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    ignore_eos: bool = False
    n: Literal[1] | None = 1
    temperature: Annotated[float, Field(ge=0)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None


class TextPart(BaseModel):
    """A part of a message."""

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """One turn of a conversation."""

    role: str
    content: str | list[TextPart] | None = None

    @property
    def text(self) -> str:
        """The turn as the prompt has it."""
        parts = self.content if isinstance(self.content, list) else []
        return f"{self.role}: {self.content if isinstance(self.content, str) else ''.join(p.text for p in parts)}\n"


class ChatBody(Body):
    """The body of /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None


class CompletionBody(Body):
    """The body of /v1/completions: the prompt is a text or a list of token ids."""

    prompt: str | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class TokenizeBody(BaseModel):
    """The body of /tokenize: a prompt or the messages of a chat."""

    prompt: str = ""
    messages: list[Message] = []

    @property
    def text(self) -> str:
        """What the model would read."""
        return self.prompt or "".join(message.text for message in self.messages)


BodyT = TypeVar("BodyT", bound=BaseModel)


def parse(kind: type[BodyT], raw: bytes) -> BodyT:
    """Read a request body; ApiError 400 names every wrong field."""
    try:
        body = kind.model_validate_json(raw)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        wrong = "; ".join(".".join(map(str, ["body", *detail["loc"]])) + ": " + detail["msg"] for detail in details)
        raise ApiError(400, wrong) from error
    if isinstance(body, Body) and body.stream_options and not body.stream:
        raise ApiError(400, "stream_options is for streams: set stream to true", "stream_options")
    return body


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """The usage object."""
    total = prompt_tokens + completion_tokens
    return {"prompt_tokens": prompt_tokens, "total_tokens": total, "completion_tokens": completion_tokens}


class Answer:
    """Renders one answer, whole or in events. Its words start at `offset` of the ring of words."""

    def __init__(self, call_id: str, model: str, offset: int, *, chat: bool) -> None:
        self._head = {"id": call_id, "object": "text_completion", "created": int(time.time()), "model": model}
        self._offset = offset
        self._chat = chat
        chunk = self._head | {"object": "chat.completion.chunk"} if chat else self._head
        self._open = b"data: " + _compact(chunk)[:-1] + b',"choices":['
        self._before = self._open + (b'{"index":0,"delta":{"content":' if chat else b'{"index":0,"text":')
        self._after = (b"}" if chat else b"") + b',"logprobs":null,"finish_reason":'

    def opening(self) -> bytes:
        """The event before the first token: who speaks, in a chat."""
        role = b'{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}\n\n'
        return self._open + role if self._chat else b""

    def tokens(self, first: int, end: int, reason: FinishReason | None = None) -> bytes:
        """One event per token of `first`..`end`; with a `reason` the last of them is the end of the answer."""
        before, plain, last = self._before, self._after + b"null}]}\n\n", end - 1
        words = (WORDS[(self._offset + index) % len(WORDS)] for index in range(first, end))
        if reason is None:
            return b"".join(before + word + plain for word in words)
        final = b'%b"%b","stop_reason":null}],"system_fingerprint":"%b"}\n\n'
        ending = final % (self._after, reason.encode(), FINGERPRINT.encode())
        return b"".join(before + word + (ending if i == last else plain) for i, word in enumerate(words, first))

    def closing(self, prompt_tokens: int, tokens: int, *, with_usage: bool) -> bytes:
        """What follows the last token."""
        if not with_usage:
            return DONE
        tail = _compact({"usage": usage(prompt_tokens, tokens), "system_fingerprint": FINGERPRINT})
        return self._open + b"]," + tail[1:] + b"\n\n" + DONE

    def whole(self, prompt_tokens: int, tokens: int, reason: FinishReason) -> dict[str, Any]:
        """The JSON of an answer that is not streamed."""
        text = "".join(VOCABULARY[(self._offset + index) % len(VOCABULARY)] for index in range(tokens))
        content = {"message": {"role": "assistant", "content": text}} if self._chat else {"text": text}
        choice = {"index": 0, **content, "logprobs": None, "finish_reason": reason, "stop_reason": None}
        return self._head | {
            "object": "chat.completion" if self._chat else "text_completion",
            "choices": [choice],
            "usage": usage(prompt_tokens, tokens),
            "system_fingerprint": FINGERPRINT,
        }


def _compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
