"""Recorded traffic to replay: Azure's and BurstGPT's CSV, Mooncake's JSONL, an own JSONL, or a records file of a run.

| trace | a line | time |
|---|---|---|
| Azure LLM inference | `TIMESTAMP,ContextTokens,GeneratedTokens` | date and time |
| BurstGPT | `Timestamp,Model,Request tokens,Response tokens,...`; no response tokens is a failure, left out | s |
| Mooncake | `{"timestamp", "input_length", "output_length", "hash_ids"}`; an id is a block of 512 tokens | ms |
| own | `{"at", "prompt_tokens", "output_tokens"}` | s |
| records | what `slo-load run --records` wrote | ns |
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from loadgen.traffic.arrivals import NS

BLOCK_TOKENS = 512


class TraceError(ValueError):
    """A trace that cannot be read; the text says which line and why."""


@dataclass(frozen=True, slots=True)
class Row:
    """One request of a trace: ns after the first one, its lengths in tokens and, where known, its blocks' ids."""

    offset_ns: int
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()


def parse(lines: Iterable[str]) -> tuple[Row, ...]:
    """Read a trace in any of the formats, in the order of its times. Raises TraceError."""
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise TraceError("empty: not one request")
    first = numbered[0][1]
    rows = sorted(_json_rows(numbered) if first.lstrip().startswith("{") else _csv_rows(numbered), key=_time)
    if not rows:
        raise TraceError("not one answered request")
    start = rows[0].offset_ns
    return tuple(Row(row.offset_ns - start, row.prompt_tokens, row.output_tokens, row.blocks) for row in rows)


def _time(row: Row) -> int:
    return row.offset_ns


def _csv_rows(numbered: list[tuple[int, str]]) -> Iterator[Row]:
    names = [name.strip() for name in next(csv.reader([numbered[0][1].lstrip("\ufeff")]))]
    if "ContextTokens" in names:
        read = _azure
    elif "Request tokens" in names:
        read = _burstgpt
    else:
        raise TraceError(f"line 1: no known columns: {', '.join(names)[:80]}; known are Azure's and BurstGPT's")
    for number, line in numbered[1:]:
        cells = dict(zip(names, next(csv.reader([line])), strict=False))
        if row := _read(number, read, cells):
            yield row


def _json_rows(numbered: list[tuple[int, str]]) -> Iterator[Row]:
    for number, line in numbered:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            raise TraceError(f"line {number}: no JSON") from None
        if not isinstance(value, dict):
            raise TraceError(f"line {number}: no JSON object")
        if "header" in value or "footer" in value:
            continue
        if row := _read(number, _mooncake if "hash_ids" in value or "input_length" in value else _own, value):
            yield row


def _read(number: int, read: Callable[[dict[str, Any]], Row | None], cells: dict[str, Any]) -> Row | None:
    try:
        row = read(cells)
    except KeyError as error:
        raise TraceError(f"line {number}: has no {error}") from None
    except (ValueError, TypeError, OverflowError) as error:
        raise TraceError(f"line {number}: {error}") from None
    if row and (row.prompt_tokens < 1 or row.output_tokens < 1):
        raise TraceError(f"line {number}: lengths are from 1")
    return row


def _azure(cells: dict[str, Any]) -> Row | None:
    when = datetime.fromisoformat(cells["TIMESTAMP"].strip())
    since = when.replace(tzinfo=when.tzinfo or UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    offset = (since.days * 86_400 + since.seconds) * NS + since.microseconds * 1_000
    answered = int(cells["GeneratedTokens"])
    return Row(offset, max(1, int(cells["ContextTokens"])), answered) if answered else None


def _burstgpt(cells: dict[str, Any]) -> Row | None:
    answered = int(cells["Response tokens"])
    if not answered:
        return None
    return Row(int(float(cells["Timestamp"]) * NS), max(1, int(cells["Request tokens"])), answered)


def _mooncake(cells: dict[str, Any]) -> Row:
    blocks = tuple(int(block) for block in cells.get("hash_ids", ()))
    return Row(
        int(float(cells["timestamp"]) * NS / 1000), int(cells["input_length"]), int(cells["output_length"]), blocks
    )


def _own(cells: dict[str, Any]) -> Row | None:
    if "scheduled_ns" not in cells:
        return Row(int(float(cells["at"]) * NS), int(cells["prompt_tokens"]), int(cells["output_tokens"]))
    prompt_tokens, output_tokens = cells.get("prompt_tokens"), cells.get("output_tokens")
    if not (prompt_tokens and output_tokens):
        return None
    return Row(int(cells["scheduled_ns"]), int(prompt_tokens), int(output_tokens))
