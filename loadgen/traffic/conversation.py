"""Requests ready as bytes: every conversation of a workload, each turn built from the answer before."""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loadgen.traffic import lengths
from loadgen.traffic.dataset import Dialogue
from loadgen.traffic.prompts import HEAD, WORDS, Kind, Symbols, Texts
from loadgen.traffic.trace import BLOCK_TOKENS, Row
from loadgen.traffic.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSpec:
    """One request to send: its place in the run, whom it is for, the answer's length in tokens and the JSON body."""

    seq: int
    body: bytes
    max_tokens: int
    model: str
    tenant: str | None = None
    session: int = 0
    turn: int = 0


@dataclass(frozen=True, slots=True)
class Files:
    """What a workload read from files: prompts, the rows of a trace, or the ids that prompts are made of."""

    dialogues: Sequence[Dialogue] = ()
    rows: Sequence[Row] = ()
    token_ids: Sequence[int] = ()


class Source:
    """Makes the conversations of a workload; the one of an index is always the same, whoever asks for it.

    `model` is asked for unless the workload has a mix of models.
    """

    def __init__(self, workload: Workload, model: str, files: Files | None = None) -> None:
        self.workload, self.files = workload, files or Files()
        self.prompt_lengths = lengths.parse(workload.prompt_lengths or str(workload.prompt_tokens))
        self.output_lengths = lengths.parse(workload.output_lengths or str(workload.output_tokens))
        self._models = dict(workload.models) or {model: 1.0}
        symbols: Symbols = self.files.token_ids or WORDS
        self.texts = Texts(workload.seed, workload.salt, symbols)

    def conversation(self, index: int) -> "Conversation":
        """The conversation of this index, from 0."""
        return Conversation(self, index)

    def pick_model(self, rng: random.Random) -> str:
        """One of the models, by weight."""
        return _pick(rng, self._models)

    def words(self, tokens: int, *, whole: bool) -> int:
        """How many symbols give so many tokens; a `whole` prompt carries what the chat template adds."""
        template = (self.workload.template_tokens or 0) if whole else 0
        return max(0, round((tokens - template) / (self.workload.tokens_per_word or 1.0)))


class Conversation:
    """What one user asks in a row. `next` gives the first request, then each following one from the answer before."""

    def __init__(self, source: Source, index: int) -> None:
        workload = source.workload
        self._source, self._index, self._turn = source, index, 0
        self._rng = rng = random.Random(f"workload {workload.seed} {index}")
        self._model = source.pick_model(rng)
        self._tenant = _pick(rng, workload.tenants) if workload.tenants else None
        self._dialogue = _at(source.files.dialogues, index)
        self._row = source.files.rows[index] if source.files.rows else None
        self._turns = workload.turns or 1
        if self._dialogue:
            self._turns = min(self._turns, len(self._dialogue.said))
        self._messages: list[dict[str, Any]] = list(self._dialogue.before) if self._dialogue else []

    @property
    def ended(self) -> bool:
        """Whether the last turn was taken."""
        return self._turn >= self._turns

    def next(self, answer: str = "") -> RequestSpec:
        """The next request; `answer` is what the model said to the last one."""
        if self._turn:
            self._messages.append({"role": "assistant", "content": answer})
        said = self._dialogue.said[self._turn] if self._dialogue else self._text()
        self._messages.append({"role": "user", "content": said})
        turn, workload = self._turn, self._source.workload
        max_tokens = self._max_tokens()
        self._turn += 1
        body = _body(workload, self._model, self._messages, max_tokens)
        if self.ended:  # a generator of random numbers alone takes 2.5 kB, and there may be thousands of conversations
            del self._messages, self._rng
        return RequestSpec(
            seq=self._index * (workload.turns or 1) + turn,
            body=body,
            max_tokens=max_tokens,
            model=self._model,
            tenant=self._tenant,
            session=self._index,
            turn=turn,
        )

    def _max_tokens(self) -> int:
        told = self._row or self._dialogue
        return (told.output_tokens if told else None) or self._source.output_lengths.draw(self._rng)

    def _text(self) -> str | list[str | int]:
        tokens = self._row.prompt_tokens if self._row else self._source.prompt_lengths.draw(self._rng)
        symbols = self._symbols(tokens)
        return symbols if self._source.workload.token_ids else " ".join(map(str, symbols))

    def _symbols(self, tokens: int) -> list[str | int]:
        """Shared beginning, the head that makes the prompt unique, and whatever fills it up."""
        source, texts = self._source, self._source.texts
        words = source.words(tokens, whole=self._turn == 0)
        if self._row and self._row.blocks:
            per_block = source.words(BLOCK_TOKENS, whole=False)
            shared = [symbol for block in self._row.blocks for symbol in texts.text(Kind.BLOCK, block, per_block)]
            return [*shared, *texts.filler(words - len(shared), self._index)][: max(1, words)]
        shared = self._prefix() if self._turn == 0 else []
        rest = max(words - len(shared), HEAD if shared else 1)
        return shared + texts.text(Kind.PROMPT, self._index, rest, self._rng.randrange(1 << 20))

    def _prefix(self) -> list[str | int]:
        workload = self._source.workload
        if not workload.prefix_tokens:
            return []
        group = self._rng.randrange(workload.prefix_groups or 1)
        return self._source.texts.text(Kind.PREFIX, group, self._source.words(workload.prefix_tokens, whole=False))


def _body(workload: Workload, model: str, messages: list[dict[str, Any]], max_tokens: int) -> bytes:
    fields: dict[str, Any] = {"model": model}
    if workload.endpoint == "chat":
        fields |= {"messages": messages, "max_tokens": max_tokens, "stream_options": {"include_usage": True}}
    elif workload.endpoint == "completions":
        contents = [message["content"] for message in messages]
        prompt = contents[0] if len(contents) == 1 else "\n".join(contents)
        fields |= {"prompt": prompt, "max_tokens": max_tokens, "stream_options": {"include_usage": True}}
    else:
        fields |= {"input": messages, "max_output_tokens": max_tokens}
    fields |= {"temperature": 0, "ignore_eos": True, "stream": True, **workload.body}
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()


def _pick(rng: random.Random, weights: Mapping[str, float]) -> str:
    return next(iter(weights)) if len(weights) == 1 else rng.choices(list(weights), list(weights.values()))[0]


def _at(dialogues: Sequence[Dialogue], index: int) -> Dialogue | None:
    return dialogues[index % len(dialogues)] if dialogues else None
