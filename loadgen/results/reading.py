"""A records file read back: JSON lines, complete or cut short by a kill, or Parquet."""

from pathlib import Path
from types import ModuleType
from typing import TextIO, cast

from loadgen.results.record import (
    Footer,
    Header,
    Line,
    RecordError,
    Recording,
    RequestRecord,
    Sample,
    decode,
)

# How the name of a Parquet file ends.
PARQUET = ".parquet"


def read(path: Path | str) -> Recording:
    """Read a records file, complete or cut short; one that ends in `.parquet` is Parquet. Raises RecordError."""
    if Path(path).suffix == PARQUET:
        return cast(Recording, columnar(path).read(Path(path)))
    try:
        with Path(path).open(encoding="utf-8", newline="\n") as file:
            return _read(path, file)
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RecordError(f"{path}: not a text file; give a file that 'slo-load run --records' wrote") from None


def columnar(path: Path | str) -> ModuleType:
    """The module that reads and writes Parquet, an extra. RecordError for `path` where it is not installed."""
    try:
        from loadgen.results import parquet
    except ImportError:
        raise RecordError(f"{path}: Parquet needs the pyarrow package: pip install 'llm-slo[parquet]'") from None
    return parquet


def _read(path: Path | str, file: TextIO) -> Recording:
    header = _located(path, 1, file.readline())
    if not isinstance(header, Header):
        raise RecordError(f"{path}:1: no header line; give a file that 'slo-load run --records' wrote")
    records: list[RequestRecord] = []
    samples: list[Sample] = []
    footer: Footer | None = None
    torn = False
    for number, text in enumerate(file, 2):
        if text == "\n":
            continue
        if torn := not text.endswith("\n") and _is_torn(text):
            break
        line = _located(path, number, text)
        if footer or isinstance(line, Header):
            raise RecordError(f"{path}: a header or footer between the records; do not join files")
        if isinstance(line, RequestRecord):
            records.append(line)
        elif isinstance(line, Sample):
            samples.append(line)
        else:
            footer = line
    return Recording(header, tuple(records), footer, torn, tuple(samples))


def _is_torn(text: str) -> bool:
    """Whether a last line without its newline lacks its end, too, as after a kill in the middle of a write."""
    try:
        decode(text)
    except ValueError:
        return True
    return False


def _located(path: Path | str, number: int, text: str) -> Line:
    try:
        return decode(text)
    except ValueError as error:
        raise RecordError(f"{path}:{number}: {error}") from None
