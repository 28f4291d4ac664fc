"""The records file: written line by line, read back whole or torn, and what is derived from a record."""

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from load_records import footer, recording, request, save, saved
from load_servers import header

from loadgen.results.reading import read
from loadgen.results.record import ErrorCategory, Fingerprint, Header, RecordError, RequestRecord, decode, encode
from loadgen.results.stamps import compact
from loadgen.traffic.arrivals import NS, Load

whole = st.integers(0, 2**62)
text = st.text(max_size=20)


def made(chunks: list[tuple[int, int]], counted: bool, **fields: object) -> RequestRecord:
    """A record with these stamps and, where they are counted, as many counts."""
    counts = tuple(count for _, count in chunks) if counted else ()
    return RequestRecord(token_ns=tuple(stamp for stamp, _ in chunks), token_counts=counts, **fields)  # type: ignore[arg-type]


records = st.builds(
    made, st.lists(st.tuples(whole, whole), max_size=5), st.booleans(),
    seq=whole, trace_id=text, scheduled_ns=whole, sent_ns=whole, done_ns=whole,
    prompt_tokens=st.none() | whole, output_tokens=st.none() | whole, status=st.none() | st.integers(100, 599),
    error=st.none() | st.sampled_from(("refused", "timeout", "http_429")),
    detail=st.none() | text, finish_reason=st.none() | text,
)  # fmt: skip


@given(st.lists(st.integers(0, 2**62), max_size=9).map(sorted) | st.lists(st.integers(0, 99), max_size=9))
def test_stamps_in_little_memory_are_the_same_stamps(numbers: list[int]) -> None:
    """Rising or not, near or far apart: every way to look at them agrees with the tuple."""
    stamps, plain = compact(numbers), tuple(numbers)
    assert stamps == plain
    assert plain == stamps
    assert (len(stamps), list(stamps), stamps[1:], bool(stamps)) == (len(plain), list(plain), plain[1:], bool(plain))
    assert [stamps[i] for i in range(-len(plain), len(plain))] == [plain[i] for i in range(-len(plain), len(plain))]
    assert stamps != (*plain, 7)
    assert hash(stamps) == hash(plain)


def test_a_long_answer_is_kept_in_five_bytes_a_token() -> None:
    """1 000 stamps 20 ms apart: 4 bytes each and what an object costs; a tuple of numbers takes 40."""
    stamps = compact(range(NS, 21 * NS, NS // 50))
    assert sys.getsizeof(stamps) + sys.getsizeof(stamps._bytes) < 5 * len(stamps)  # type: ignore[attr-defined]


@given(records)
def test_a_record_survives_the_file(record: RequestRecord) -> None:
    """Any record, encoded and decoded, is itself, and one line of ASCII."""
    line = encode(record)
    assert decode(line) == record
    assert line.isascii()
    assert "\n" not in line


@pytest.mark.parametrize(
    "load", [Load(rate=2.5, arrivals="gamma", burstiness=0.5, duration=3), Load(concurrency=4, requests=9)]
)
def test_header_and_footer_survive_the_file(load: Load) -> None:
    """Nested parameters and absent values come back as they were."""
    seen = Fingerprint(model="m", gpus=("H100", "H100"), cache_config={"block_size": "16"}, simulated=True)
    first = header(load)
    first = Header(**{**{name: getattr(first, name) for name in first.__slots__}, "fingerprint": seen})
    assert decode(encode(first)) == first
    assert decode(encode(footer(loop_lag=None))) == footer(loop_lag=None)


def test_absent_is_absent() -> None:
    """A field that is None has no key; a reader in another language sees no null and no 0."""
    value = json.loads(encode(request(0, error="refused")))
    assert set(value) == {"seq", "trace_id", "scheduled_ns", "sent_ns", "done_ns", "error"}


def test_every_prefix_of_a_file_keeps_its_whole_records(tmp_path: Path) -> None:
    """Killed at any byte after the header: every record whose line is complete is there, and the cut is told."""
    data = saved(tmp_path / "r", recording([request(0), request(1)])).read_bytes()
    lines = data.splitlines(keepends=True)
    starts = [sum(map(len, lines[:i])) for i in range(len(lines) + 1)]
    for size in range(len(lines[0]), len(data)):
        (tmp_path / "cut").write_bytes(data[:size])
        found = read(tmp_path / "cut")
        complete = sum(size >= start - 1 for start in starts[2:])  # all but the newline is enough
        assert len(found.records) == min(2, complete)
        assert (found.footer is not None) == (complete == 3)
        assert found.torn == (size not in starts and size + 1 not in starts)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ":1: "),
        (b"\x89PNG\r\n\xff", "not a text file"),
        (b"{}\n", ":1: "),
        (b"[1, 2]\n", ":1: "),
        (b'{"header": {}, "format": "llm-slo-records", "version": 99}\n', "version 1, which this release reads"),
        (encode(request(0)).encode() + b"\n", "no header line"),
    ],
)
def test_files_that_are_no_records_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    """Each with the file, the line and what was expected."""
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(RecordError, match=message):
        read(tmp_path / "x")


def test_a_broken_line_in_the_middle_is_an_error_with_its_place(tmp_path: Path) -> None:
    """Only the end of a file may be torn; elsewhere it is damage."""
    path = saved(tmp_path / "r", recording([request(0), request(1)]))
    lines = path.read_text().splitlines()
    one = lines[1]
    miscounted = one.replace("}", ',"token_counts":[1,2]}')
    for damaged in (one[:40], one.replace('"seq":0', '"seq":"a"'), one.replace("seq", "sequence"), miscounted):
        path.write_text("\n".join([lines[0], damaged, *lines[2:]]) + "\n")
        with pytest.raises(RecordError, match=r"r:2: "):
            read(path)


def test_joined_files_are_refused(tmp_path: Path) -> None:
    """Two runs in one file would have two clocks."""
    path = save(tmp_path / "r", header(Load()), request(0), footer(), header(Load()), request(0), footer())
    with pytest.raises(RecordError, match="do not join"):
        read(path)


def test_latencies_count_from_the_intended_start() -> None:
    """TTFT, TPOT, ITL and e2e by their definitions, for a request that left 0.5 s late."""
    record = RequestRecord(
        seq=0, trace_id="t", scheduled_ns=NS, sent_ns=NS * 3 // 2, token_ns=(2 * NS, 3 * NS, 6 * NS), output_tokens=5,
        done_ns=7 * NS,
    )  # fmt: skip
    assert (record.ttft, record.ttft_from_sent, record.send_lag) == (1.0, 0.5, 0.5)
    assert (record.tpot, record.itl, record.e2e) == (1.0, [1.0, 3.0], 6.0)
    asked = record.to_request(started_unix_ns=100 * NS)
    assert (asked.start, asked.ttft, asked.tpot, asked.e2e, asked.output_tokens) == (101.0, 1.0, 1.0, 6.0, 5)


THEIRS = ("refused", "reset", "timeout", "truncated", "stream_error", "bad_response", "http_5xx")
NOBODYS = ("http_4xx", "http_429", "cancelled", "client_error")


@pytest.mark.parametrize(
    ("error", "ok"), [(None, True), *((error, False) for error in THEIRS), *((error, None) for error in NOBODYS)]
)
def test_who_is_to_blame(error: ErrorCategory | None, ok: bool | None) -> None:
    """The service's failures count against it; wrong requests and what this client did or could not do do not."""
    made = request(0, error=error).to_request(0)
    assert made.ok is ok
    assert (made.e2e is None, made.tpot is None) == (error is not None, error is not None)


def test_a_single_chunk_has_no_tpot() -> None:
    """One token, or all tokens at once, say nothing about the time between tokens: absent, not 0."""
    assert request(0, tokens=1).tpot is None
    at_once = RequestRecord(seq=0, trace_id="", scheduled_ns=0, sent_ns=0, done_ns=9, token_ns=(5,), output_tokens=8)
    assert at_once.tpot is None
