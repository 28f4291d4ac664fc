"""Records as Parquet: a row per request with the fields of its JSON line, for pandas, Polars, DuckDB or Spark.

Header, samples and footer are in the file's metadata, as the lines that they are in JSONL.
"""

from array import array
from collections.abc import Sequence
from itertools import accumulate, chain
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from loadgen.results.record import (
    Footer,
    Header,
    Line,
    RecordError,
    Recording,
    RequestRecord,
    Sample,
    decode,
    encode,
    from_fields,
)

_TEXT, _WHOLE = pa.string(), pa.int64()
_SCHEMA = pa.schema(
    {
        "seq": _WHOLE,
        "trace_id": _TEXT,
        "scheduled_ns": _WHOLE,
        "sent_ns": _WHOLE,
        "done_ns": _WHOLE,
        "token_ns": pa.list_(_WHOLE),
        "token_counts": pa.list_(_WHOLE),
        "prompt_tokens": _WHOLE,
        "output_tokens": _WHOLE,
        "status": _WHOLE,
        "error": _TEXT,
        "detail": _TEXT,
        "finish_reason": _TEXT,
        "retry_after": pa.float64(),
        "session": _WHOLE,
        "turn": _WHOLE,
        "model": _TEXT,
        "tenant": _TEXT,
        "tokens_from": _TEXT,
        "usage_tokens": _WHOLE,
        "text": _TEXT,
    }
)
# Stamps rise: their differences take a third of the room.
_RISING = ("seq", "scheduled_ns", "sent_ns", "done_ns", "token_ns.list.element")
_WORDS = ("error", "finish_reason", "model", "tenant", "tokens_from")
_LINES, _TORN = b"llm-slo-records", b"llm-slo-torn"
_ROWS = 10_000


def write(file: BinaryIO, recording: Recording) -> None:
    """Write a recording. Raises OSError, and RecordError for numbers that Parquet has no room for."""
    lines: list[Line] = [recording.header, *recording.samples, *([recording.footer] if recording.footer else [])]
    told = {_LINES: "\n".join(map(encode, lines)), _TORN: str(int(recording.torn))}
    options = {"compression": "zstd", "use_dictionary": list(_WORDS), "write_statistics": False}
    encodings = dict.fromkeys(_RISING, "DELTA_BINARY_PACKED")
    try:
        with pq.ParquetWriter(file, _SCHEMA.with_metadata(told), column_encoding=encodings, **options) as out:
            for begin in range(0, len(recording.records), _ROWS):
                out.write_table(_table(recording.records[begin : begin + _ROWS]))
    except (pa.ArrowInvalid, OverflowError) as error:
        raise RecordError(f"Parquet cannot hold these records: {error}") from None


def _table(records: Sequence[RequestRecord]) -> pa.Table:
    columns = [_column([getattr(record, field.name) for record in records], field.type) for field in _SCHEMA]
    return pa.Table.from_arrays(columns, schema=_SCHEMA)


def _column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_list(kind):
        numbers = pa.py_buffer(array("q", chain.from_iterable(values)))
        ends = pa.array(accumulate(map(len, values), initial=0), pa.int32())
        flat = pa.Array.from_buffers(_WHOLE, ends[-1].as_py(), [None, numbers])
        return pa.ListArray.from_arrays(ends, flat)
    if kind == _TEXT:
        return pa.array([value and _unicode(value) for value in values], kind)
    return pa.array(values, kind)


def _unicode(text: str) -> str:
    """Without halves of characters, which JSON can hold and Parquet cannot."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def read(path: Path) -> Recording:
    """Read what `write` wrote. Raises RecordError."""
    try:
        with path.open("rb") as source, pq.ParquetFile(source) as file:
            told = file.schema_arrow.metadata or {}
            lines = [decode(line) for line in told[_LINES].decode().splitlines()]
            rows = (row for batch in file.iter_batches(_ROWS) for row in batch.to_pylist())
            records = tuple(from_fields({k: v for k, v in row.items() if v is not None}) for row in rows)
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
        raise RecordError(f"{path}: not a Parquet file that 'slo-load convert' wrote: {error}") from None
    return Recording(
        header=next(line for line in lines if isinstance(line, Header)),
        records=records,
        footer=next((line for line in lines if isinstance(line, Footer)), None),
        torn=told.get(_TORN) == b"1",
        samples=tuple(line for line in lines if isinstance(line, Sample)),
    )
