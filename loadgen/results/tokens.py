"""Output tokens counted by a local tokenizer: after the run, from the texts that its records kept for that."""

import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from loadgen.results.record import RequestRecord, decode, encode

_AT_ONCE = 1_000
# What can be a name on the Hub: `model` or `owner/model`. The Hub is asked six times; wrong paths need not wait for it.
_ON_HUB = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?(?<!\.json)")


def load(name: str) -> Any:
    """A tokenizer from a `tokenizer.json`, a folder with one, or by its name on the Hugging Face Hub.

    Raises ImportError without the tokenizers package, and ValueError.
    """
    from tokenizers import Tokenizer  # an extra, and slow to load

    path = Path(name) / "tokenizer.json" if Path(name).is_dir() else Path(name)
    if not path.exists() and (path != Path(name) or not _ON_HUB.fullmatch(name)):
        raise ValueError(f"{path}: no such file")
    try:
        found = Tokenizer.from_file(str(path)) if path.exists() else Tokenizer.from_pretrained(name)
    except Exception as error:  # the library raises nothing narrower
        what = "no tokenizer.json" if path.exists() else "no file, and no tokenizer that the Hugging Face Hub gives"
        raise ValueError(f"{name}: {what}: {' '.join(str(error).split())[:200]}") from None
    found.no_truncation()
    found.no_padding()
    return found


def recount(path: Path, tokenizer: Any) -> None:
    """Have the tokenizer count the answers of a records file, which then no longer holds their texts.

    The new file takes the place of the old one when it is whole. Raises OSError.
    """
    path = path.resolve()
    part = path.with_name(f"{path.name}.counted")
    try:
        with path.open(encoding="utf-8", newline="\n") as lines, part.open("w", encoding="utf-8") as out:
            while batch := list(islice(lines, _AT_ONCE)):
                out.writelines(_counted(batch, tokenizer))
        shutil.copymode(path, part)
        part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _counted(lines: Iterable[str], tokenizer: Any) -> Iterator[str]:
    decoded = [(text, decode(text)) for text in lines]
    texts = [line.text for _, line in decoded if isinstance(line, RequestRecord) and line.text is not None]
    counts = (len(found.ids) for found in tokenizer.encode_batch_fast(texts, add_special_tokens=False))
    for text, line in decoded:
        if isinstance(line, RequestRecord) and line.text is not None:
            yield encode(_by_tokenizer(line, next(counts))) + "\n"
        else:
            yield text


def _by_tokenizer(record: RequestRecord, count: int) -> RequestRecord:
    told = record.output_tokens if record.tokens_from is None else None
    return replace(record, output_tokens=count, tokens_from="tokenizer", usage_tokens=told, text=None)
