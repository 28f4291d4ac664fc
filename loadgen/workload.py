"""What is asked: a seeded, endless stream of distinct synthetic requests, ready as bytes."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Literal

Endpoint = Literal["chat", "completions"]

PATHS: dict[Endpoint, str] = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}

# Common English words: one token each, with their leading space, in the tokenizers of today's open models.
_WORDS = """
the of and to in is that for it as was with be by on not he his but at are this have from or had an they which one you
were all her she there would their we him been has when who will no more if out so up said what its about than into them
can only other time new some could these two may first then do any like my now over such our man even most made after
also did many off before must well back through years where much your way down should because long each just state
people those too mr how little good world make very year still see own work men day get here old between both life
being under three never know same last another while us might great go come since against right came take used himself
few house use during without again place around home small however found part school once general high upon every war
""".split()  # noqa: SIM905 (a table of words reads better as text)

# "<salt>-<seq>" costs about this many tokens.
_HEAD_TOKENS = 8


@dataclass(frozen=True, slots=True)
class RequestSpec:
    """One request to send: its place in the run, the answer's length in tokens and the JSON body."""

    seq: int
    prompt: str
    max_tokens: int
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Parameters of a synthetic workload. Lengths are in tokens; the prompt's is approximate (one word, one token).

    Every prompt starts with `salt` and its number, so no two prompts share a first KV block, neither within a run
    nor (with another salt) between runs of one seed: a prefix cache cannot flatter the server.
    """

    endpoint: Endpoint = "chat"
    prompt_tokens: int = 128
    output_tokens: int = 128
    seed: int = 0
    salt: str = ""

    def requests(self, model: str) -> Iterator[RequestSpec]:
        """The endless stream; equal parameters give equal bytes."""
        rng = random.Random(f"workload {self.seed}")
        words = max(0, self.prompt_tokens - _HEAD_TOKENS)
        text = rng.choices(_WORDS, k=2 * words + 4096)
        for seq in count():
            start = rng.randrange(len(text) - words)
            prompt = " ".join([f"{self.salt}-{seq}", *text[start : start + words]])
            yield RequestSpec(seq, prompt, self.output_tokens, self._body(model, prompt))

    def _body(self, model: str, prompt: str) -> bytes:
        chat = {"messages": [{"role": "user", "content": prompt}]}
        return json.dumps(
            {
                "model": model,
                **(chat if self.endpoint == "chat" else {"prompt": prompt}),
                "max_tokens": self.output_tokens,
                "temperature": 0,
                "ignore_eos": True,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
        ).encode()
