"""Models of a real shape without weights of their own: a configuration and a tokenizer for an engine that makes the
weights up (vLLM's `--load-format dummy`). Speed, memory and KV cache are the architecture's; what it writes is noise.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from loadgen.traffic.prompts import WORDS

PREFIX = "random:"
# Stands in the served name, and so in every fingerprint: a run of such a model compares with no run of a real one.
SUFFIX = "-random-weights"

_LLAMA_3: dict[str, Any] = {
    "vocab_size": 128256,
    "rope_theta": 500000.0,
    "max_position_embeddings": 131072,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
_ROPE = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
_ROPE_FROM = {"original_max_position_embeddings": 8192}

# From the models' published config.json; `tiny` is for CPUs and tests.
SHAPES: Mapping[str, Mapping[str, Any]] = {
    "Llama-3.1-8B": {
        **_LLAMA_3,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "head_dim": 128,
        "tie_word_embeddings": False,
        "rope_scaling": {**_ROPE, **_ROPE_FROM, "factor": 8.0},
    },
    "Llama-3.2-1B": {
        **_LLAMA_3,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "head_dim": 64,
        "tie_word_embeddings": True,
        "rope_scaling": {**_ROPE, **_ROPE_FROM, "factor": 32.0},
    },
    "tiny": {
        "vocab_size": 2048,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "tie_word_embeddings": False,
        "max_position_embeddings": 2048,
    },
}
_SPECIAL = ("<s>", "</s>")
_CHAT = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant:"


def shape(model: str) -> str | None:
    """The name in SHAPES that `random:NAME` means; None for all else. Raises ValueError for a shape nobody knows."""
    if not model.startswith(PREFIX):
        return None
    wanted = model.removeprefix(PREFIX)
    for name in SHAPES:
        if name.lower() == wanted.lower():
            return name
    raise ValueError(f"{model}: no such shape; there are {', '.join(PREFIX + name.lower() for name in SHAPES)}")


def write(name: str, folder: Path) -> None:
    """Write config.json and the files of a tokenizer for a shape into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    size = SHAPES[name]["vocab_size"]
    files = {"config.json": config(name), "tokenizer.json": tokenizer(size), "tokenizer_config.json": _TOKENIZER_CONFIG}
    for file, content in files.items():
        (folder / file).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def config(name: str) -> dict[str, Any]:
    """The configuration of a shape, in the words of the `transformers` library."""
    shape = SHAPES[name]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "bfloat16",
        "hidden_act": "silu",
        "rms_norm_eps": 1e-05,
        "bos_token_id": shape["vocab_size"] - 2,
        "eos_token_id": shape["vocab_size"] - 1,
        **shape,
    }


def tokenizer(size: int) -> dict[str, Any]:
    """A byte-level BPE of `size` tokens, in the format of the `tokenizers` library.

    The words that prompts are made of are one token each, as they are in the tokenizers of today's models. What no
    text needs is filled up with made-up words: every id that the model can draw is text, as clients count by text.
    """
    merges = list(_merges())
    known = list(dict.fromkeys([*_letters(), *(left + right for left, right in merges)]))
    fillers = [f"Ġ_{number}" for number in range(size - len(known) - len(_SPECIAL))]
    entries = [*known, *fillers, *_SPECIAL]
    model = {"type": "BPE", "vocab": {entry: number for number, entry in enumerate(entries)}, "merges": merges}
    special = [_special(size - len(_SPECIAL) + number, text) for number, text in enumerate(_SPECIAL)]
    return {
        "version": "1.0",
        "added_tokens": special,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": model,
    }


_TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": _SPECIAL[0],
    "eos_token": _SPECIAL[1],
    "chat_template": _CHAT,
}


def _special(number: int, text: str) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": text, **flags, "special": True}


def _letters() -> list[str]:
    """What byte-level BPE writes for the 256 bytes: printable ones as they are, the others moved up (space is Ġ)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [*map(chr, plain), *(chr(256 + number) for number in range(256 - len(plain)))]


def _merges() -> Iterator[tuple[str, str]]:
    """Each word, from its space on, letter by letter: what other words have in common is merged once."""
    seen = set()
    for word in WORDS:
        for end in range(len(word)):
            merge = ("Ġ" + word[:end], word[end])
            if merge not in seen:
                seen.add(merge)
                yield merge
