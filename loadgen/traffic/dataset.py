"""Prompts from a file: JSON lines, or ShareGPT's JSON."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_HUMAN = ("human", "user")


class DatasetError(ValueError):
    """A file of prompts that cannot be read; the text says where and why."""


@dataclass(frozen=True, slots=True)
class Dialogue:
    """What one user says: the messages before, then what is said turn by turn, and the answers' length where told."""

    said: tuple[str, ...]
    before: tuple[dict[str, str], ...] = ()
    output_tokens: int | None = None


def parse(text: str) -> tuple[Dialogue, ...]:
    """Read `{"prompt"}` or `{"messages"}` per line (`output_tokens` optional), or ShareGPT. Raises DatasetError."""
    found = [dialogue for place, value in _values(text) if (dialogue := _dialogue(place, value))]
    if not found:
        raise DatasetError("holds no prompt")
    return tuple(found)


def _values(text: str) -> Iterable[tuple[str, Any]]:
    if text.lstrip().startswith("["):
        return [(f"entry {number}", value) for number, value in enumerate(_json("the file", text), 1)]
    lines = enumerate(text.splitlines(), 1)
    return ((f"line {number}", _json(f"line {number}", line)) for number, line in lines if line.strip())


def _json(place: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise DatasetError(f"{place}: no JSON") from None


def _dialogue(place: str, value: Any) -> Dialogue | None:
    """The dialogue of one entry; None for one in which the user says nothing, as ShareGPT has many."""
    before: list[dict[str, str]] = []
    try:
        output_tokens = value.get("output_tokens")
        if output_tokens is not None and (type(output_tokens) is not int or output_tokens < 1):
            raise DatasetError(f"{place}: output_tokens {output_tokens!r} is no whole number above 0")
        if "prompt" in value:
            said = [_text(value["prompt"])]
        elif "messages" in value:
            said, before = _messages(value["messages"])
        else:
            said = [_text(turn["value"]) for turn in value["conversations"] if turn["from"] in _HUMAN]
    except (LookupError, TypeError, AttributeError) as error:
        raise DatasetError(f"{place}: no prompt, messages or conversations: {error}") from None
    return Dialogue(tuple(said), tuple(before), output_tokens) if any(said) else None


def _messages(messages: list[dict[str, str]]) -> tuple[list[str], list[dict[str, str]]]:
    """What the user says last, and everything before as it is."""
    return [_text(messages[-1]["content"])], messages[:-1]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:40]!r} is no text")
    return value
