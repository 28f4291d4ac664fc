"""The simulator's stand-in for a tokenizer, and the words of its answers.

A text has one token per 4 characters, rounded up and at least one; a list of token ids is taken as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

CHARACTERS_PER_TOKEN = 4

VOCABULARY = (
    " the", " model", " answers", " with", " words", " that", " mean", " nothing", " because", " a", " queue", " and",
    " not", " any", " network", " made", " them", ";", " each", " step", " of", " an", " engine", " gives", " one",
    " token", " to", " every", " running", " sequence", ",", " so", " what", " you", " read", " here", " is", " only",
    " its", " rhythm", ":", " prompts", " are", " cut", " into", " chunks", " blocks", " fill", " up", " requests",
    " wait", " for", " their", " turn", " when", " memory", " runs", " out", " others", " start", " again", " from",
    " scratch", ".",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Prompt:
    """Length in tokens, and one hash per full block that covers the block and everything before it."""

    tokens: int
    block_hashes: tuple[int, ...]


def tokenize(prompt: str | Sequence[int], block_size: int) -> Prompt:
    """Count the tokens of a text or a list of token ids, and hash its full blocks of `block_size` tokens."""
    per_token = CHARACTERS_PER_TOKEN if isinstance(prompt, str) else 1
    tokens, width = max(1, -(-len(prompt) // per_token)), block_size * per_token
    hashes, parent = [], 0
    for start in range(0, tokens // block_size * width, width):
        block = prompt[start : start + width]
        parent = hash((parent, block if isinstance(block, str) else tuple(block)))
        hashes.append(parent)
    return Prompt(tokens, tuple(hashes))
