"""Recordings made up for tests of what reads them."""

from collections.abc import Sequence
from pathlib import Path

from load_header import header

from loadgen.results.record import ErrorCategory, Footer, Lag, Line, Recording, RequestRecord, encode
from loadgen.traffic.arrivals import NS, Load

RATE = 20.0
LOAD = Load(rate=RATE, arrivals="constant", requests=100)
QUIET = Lag(p50=0.0001, p99=0.001, max=0.002)


def request(
    seq: int,
    ttft: float = 0.1,
    tpot: float = 0.02,
    tokens: int = 16,
    error: ErrorCategory | None = None,
    lag: float = 0.0,
) -> RequestRecord:
    """One request of a constant schedule; a failed one has no tokens."""
    due = int(seq / RATE * NS)
    first = due + int(ttft * NS)
    stamps = tuple(first + int(i * tpot * NS) for i in range(tokens))
    return RequestRecord(
        seq=seq,
        trace_id=f"{seq:032x}",
        scheduled_ns=due,
        sent_ns=due + int(lag * NS),
        done_ns=first if error else stamps[-1],
        token_ns=() if error else stamps,
        output_tokens=None if error else tokens,
        status=None if error else 200,
        error=error,
    )


def footer(**changes: object) -> Footer:
    """The footer of a run whose client was at ease."""
    fields = {"interrupted": False, "seconds": 5.0, "sent": 100, "cpu_share": 0.1, "loop_lag": QUIET, **changes}
    return Footer(**fields)  # type: ignore[arg-type]


def recording(records: Sequence[RequestRecord], end: Footer | None = None) -> Recording:
    """A whole recording; without `end` its client was at ease."""
    return Recording(header(LOAD), tuple(records), end or footer())


def save(path: Path, *lines: Line) -> Path:
    """A records file with these lines."""
    path.write_text("".join(encode(line) + "\n" for line in lines))
    return path


def saved(path: Path, what: Recording) -> Path:
    """The records file of a recording."""
    return save(path, what.header, *what.records, *([what.footer] if what.footer else []))
