"""Make a model that vLLM can serve anywhere, without downloads: `python tiny_llama.py DIR`.

A Llama of two layers with random weights and a BPE tokenizer trained on this repository's own text. What it
writes is noise; how it is scheduled, batched, cached, measured and traced is vLLM's real code.
"""

import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

ROOT = Path(__file__).parents[2]
TEXTS = ("**/*.py", "**/*.md", "**/*.yaml")
CHAT_TEMPLATE = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant:"


def corpus() -> list[str]:
    """The repository's own sources and pages, without environments and other hidden folders."""
    paths = sorted(path for pattern in TEXTS for path in ROOT.glob(pattern))
    visible = [p for p in paths if not any(part.startswith(".") for part in p.relative_to(ROOT).parts)]
    return [path.read_text(encoding="utf-8") for path in visible]


def train_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with 2 048 entries."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=2048, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(corpus(), trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    fast.chat_template = CHAT_TEMPLATE
    return fast


def make(directory: Path) -> None:
    """Write config, weights and tokenizer to `directory`."""
    tokenizer = train_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=2048,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(directory)
    tokenizer.save_pretrained(directory)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
