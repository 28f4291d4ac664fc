"""Incidents as people wrote them down: a YAML list or a CSV file with start, end and, where it is about one, slo."""

import csv
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from slo.evidence.backtest import Incident
from slo.spec import document
from slo.spec.document import SpecError, Value


def read(path: Path) -> list[Incident]:
    """The incidents of a file. Times are ISO 8601, UTC where no zone is given, or Unix seconds. Raises SpecError."""
    return _read_csv(path) if path.suffix == ".csv" else [_read_item(item) for item in document.read(path).items()]


def _read_item(item: Value) -> Incident:
    fields = item.mapping()
    start, end = fields.take("start", Value.text), fields.take("end", Value.text)
    slo = fields.optional("slo", Value.text, "")
    fields.done()
    return _incident(start, end, slo, item.error)


def _read_csv(path: Path) -> list[Incident]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            if not {"start", "end"} <= set(rows.fieldnames or ()):
                raise SpecError(f"{path}:1: expected a header line with start, end and, if wanted, slo")
            return [_read_row(path, rows.line_num, row) for row in rows]
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise SpecError(f"{path}:1: no CSV in UTF-8: {error}") from None


def _read_row(path: Path, line: int, row: dict[str, str | None]) -> Incident:
    return _incident(
        row["start"] or "", row["end"] or "", row.get("slo") or "", lambda text: SpecError(f"{path}:{line}: {text}")
    )


def _incident(start: str, end: str, slo: str, error: Callable[[str], SpecError]) -> Incident:
    times = []
    for text in (start, end):
        try:
            times.append(_unix(text.strip()))
        except (ValueError, OverflowError):
            raise error(f"{text!r} is no time; write it like 2026-11-20T10:15:00Z") from None
    if times[0] >= times[1]:
        raise error(f"the incident ends ({end}) before it starts ({start})")
    return Incident(times[0], times[1], slo.strip())


def _unix(text: str) -> float:
    if text.replace(".", "", 1).isdecimal():
        return float(text)
    at = datetime.fromisoformat(text)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
