"""How many tokens a word costs, so that synthetic prompts have the length that was asked for as the server counts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from loadgen.traffic.prompts import WORDS, Kind, Texts
from loadgen.traffic.workload import PATHS, Endpoint

# Two texts tell the cost of a word from that of the chat template. The server's /tokenize may get long ones, which
# average over more words; those that the model must read stay within the smallest context windows.
_TOKENIZED, _PROBED = (32, 4096), (32, 288)
# Fewer ids than this spell prompts too slowly apart.
_FEWEST_IDS = 64


@dataclass(frozen=True, slots=True)
class Scale:
    """Tokens of a word, and what a prompt has besides its words: the chat template and special tokens."""

    tokens_per_word: float
    template_tokens: int


class Counter:
    """Asks the server how many tokens a text has: POST /tokenize, or the usage of an answer of one token."""

    def __init__(self, client: httpx.Client, url: str, endpoint: Endpoint, model: str) -> None:
        self._client, self._url, self._endpoint, self._model = client, url, endpoint, model

    def scale(self) -> Scale | None:
        """The scale of this server's model; None when it tells neither way."""
        return fit(self._tokenized, _TOKENIZED) or fit(self._probed, _PROBED)

    def token_ids(self) -> list[int]:
        """Ids of common words' tokens; empty when the server has no /tokenize."""
        fields = {"model": self._model, "prompt": " ".join(WORDS), "add_special_tokens": False}
        ids = self._post("/tokenize", fields).get("tokens")
        found = sorted({i for i in ids if type(i) is int}) if isinstance(ids, list) else []
        return found if len(found) >= _FEWEST_IDS else []

    def _tokenized(self, text: str) -> int | None:
        prompt = {"prompt": text} if self._endpoint == "completions" else _messages(text)
        return _whole(self._post("/tokenize", {"model": self._model, **prompt}).get("count"))

    def _probed(self, text: str) -> int | None:
        if self._endpoint == "responses":
            fields: dict[str, Any] = {"input": text, "max_output_tokens": 16}
        else:
            fields = ({"prompt": text} if self._endpoint == "completions" else _messages(text)) | {"max_tokens": 1}
        usage = self._post(PATHS[self._endpoint], {"model": self._model, **fields}).get("usage")
        return _whole(usage.get("prompt_tokens", usage.get("input_tokens"))) if isinstance(usage, dict) else None

    def _post(self, path: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        try:
            answer = self._client.post(self._url + path, json=fields)
            value = answer.json() if answer.status_code == 200 else None
        except (httpx.HTTPError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}


def from_tokenizer(tokenizer: Any) -> Scale:
    """The scale of a local tokenizer, without any chat template. Raises ValueError."""
    scale = fit(lambda text: len(tokenizer.encode(text).ids), _TOKENIZED)
    if scale is None:
        raise ValueError("the tokenizer counts no more tokens for more words")
    return scale


def fit(count: Callable[[str], int | None], words: tuple[int, int]) -> Scale | None:
    """The line through the counts of two texts of so many words; None when it is none."""
    few, many = words
    texts = Texts(0, "calibration")
    short = count(" ".join(map(str, texts.text(Kind.PROMPT, 0, few))))
    long = count(" ".join(map(str, texts.text(Kind.PROMPT, 1, many)))) if short is not None else None
    if short is None or long is None or long <= short:
        return None
    per_word = (long - short) / (many - few)
    return Scale(per_word, max(0, round(short - few * per_word)))


def _messages(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


def _whole(value: object) -> int | None:
    return value if type(value) is int and value > 0 else None
