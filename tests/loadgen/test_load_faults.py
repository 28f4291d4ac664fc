"""Servers that lie or overflow, disks that are full, clocks that jump: each told by its name, no record lost."""

import ast
import asyncio
import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from load_servers import (
    DONE,
    END,
    ROLE,
    Got,
    answer,
    certified,
    chunk,
    delta,
    drive,
    event,
    head,
    in_thread,
    listening,
    measured,
    says,
    usage,
)

from loadgen.results.reading import read
from loadgen.results.record import Footer, RequestRecord, decode
from loadgen.traffic.arrivals import Load
from loadgen.wire.client import Tls

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "import sys; from loadgen.cli import main; sys.exit(main())"]


def stream(*events: bytes) -> bytes:
    return head() + b"".join(map(chunk, events)) + END


# --- what a server says -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": "Fri, 31 Dec 1999 23:59:59 GMT", "date": "Fri, 31 Dec 1999 23:59:29 GMT"}, 30.0),
        ({"retry_after": "Fri, 31 Dec 1999 23:59:59 GMT"}, None),
        ({"retry_after": "soon"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_recorded(fields: dict[str, str], seconds: float | None) -> None:
    """Seconds as they are, a date against the reply's own; anything else is absent."""
    (record,) = measured(says(head("429 Too Many Requests", content_length="0", **fields))).records
    assert (record.error, record.retry_after) == ("http_429", seconds)


def test_usage_that_contradicts_the_stream_is_no_answer() -> None:
    """Nine chunks of output and a usage of three tokens: rates from it would be a third of the truth."""
    lying = stream(ROLE, *[delta(content=" a")] * 9, usage(7, 3), DONE)
    (record,) = measured(says(lying)).records
    assert (record.error, len(record.token_ns)) == ("bad_response", 9)
    assert record.detail == "usage says 3 tokens, the stream held 9 chunks with output"


def test_several_tokens_in_one_chunk_are_counted() -> None:
    """By the list of token ids where the server sends it, by usage in total where it does not."""

    def ids(text: str, *numbers: int) -> bytes:
        return event({"choices": [{"index": 0, "delta": {"content": text}, "token_ids": numbers}]})

    (listed,) = measured(says(stream(ids(" a b c", 1, 2, 3), ids(" d", 4), DONE))).records
    assert (listed.error, listed.token_counts, listed.output_tokens) == (None, (3, 1), 4)
    (told,) = measured(says(stream(delta(content=" a b c"), delta(content=" d"), usage(1, 4), DONE))).records
    assert (told.error, len(told.token_ns), told.output_tokens) == (None, 2, 4)


def test_ten_megabytes_in_one_chunk_are_one_token() -> None:
    """Split over hundreds of reads by the kernel, in time linear in its size."""
    huge = stream(delta(content="x" * 10_000_000), delta(content=" b"), usage(1, 2), DONE)
    (record,) = measured(says(huge), timeout=20).records
    assert (record.error, len(record.token_ns)) == (None, 2)


@pytest.mark.parametrize(
    "events",
    [
        (b"data: {\n\n",),
        (b"data: \xff\xfe\n\n",),
        (b'data: {"choices": "none"}\n\n',),
        (b"data: [DONE\n\n",),
    ],
)
def test_malformed_events_are_a_bad_response(events: tuple[bytes, ...]) -> None:
    """No JSON, no UTF-8, no list: told, with the tokens before it."""
    (record,) = measured(says(stream(delta(content=" a"), *events, DONE))).records
    assert (record.error, len(record.token_ns)) == ("bad_response", 1)


def test_events_in_one_read_are_told() -> None:
    """A whole answer in one write: the gaps of 0 are not the engine's, and the footer says how many there are."""
    together = measured(says(answer(10)))
    assert together.footer.coalesced == pytest.approx(0.9)

    async def apart(_got: Got, writer: asyncio.StreamWriter) -> None:
        writer.write(head())
        for _ in range(5):
            writer.write(chunk(delta(content=" a")))
            await writer.drain()
            await asyncio.sleep(0.02)
        writer.write(chunk(usage(1, 5)) + chunk(DONE) + END)

    assert measured(apart).footer.coalesced == 0


# --- the responses API ------------------------------------------------------------------------------------------------


def said(kind: str, **fields: object) -> bytes:
    return f"event: {kind}\n".encode() + event({"type": kind, **fields})


def test_the_responses_api_is_read() -> None:
    """Its own events: text and reasoning are tokens, its last event has the usage; no [DONE] is needed."""
    body = stream(
        said("response.created", response={"status": "in_progress"}),
        said("response.reasoning_text.delta", delta="hm"),
        *[said("response.output_text.delta", delta=" a")] * 3,
        said("response.output_text.done", text=" a a a"),
        said("response.completed", response={"usage": {"input_tokens": 9, "output_tokens": 4}}),
    )
    (record,) = measured(says(body), endpoint="responses").records
    assert (record.error, len(record.token_ns), record.prompt_tokens, record.output_tokens) == (None, 4, 9, 4)


@pytest.mark.parametrize(
    ("last", "error", "finish"),
    [
        (said("response.incomplete", response={"incomplete_details": {"reason": "max_output_tokens"}}), None,
         "max_output_tokens"),
        (said("response.failed", response={"error": {"message": "out of memory"}}), "stream_error", None),
        (said("error", error={"message": "broken"}), "stream_error", None),
        (b"", "truncated", None),
    ],
)  # fmt: skip
def test_every_end_of_a_response_has_its_category(last: bytes, error: str | None, finish: str | None) -> None:
    """Cut at its limit is complete; failed, or without an end, is not."""
    body = stream(said("response.output_text.delta", delta=" a"), *([last] if last else []))
    (record,) = measured(says(body), endpoint="responses").records
    assert (record.error, record.finish_reason) == (error, finish)


# --- TLS --------------------------------------------------------------------------------------------------------------


def test_connections_are_kept_over_tls(tmp_path: Path) -> None:
    """A private authority by its file; three slots, three handshakes, sixty requests."""
    server_side, certificate = certified(tmp_path)
    seen: set[object] = set()

    async def handle(_got: Got, writer: asyncio.StreamWriter) -> None:
        seen.add(writer.get_extra_info("peername"))
        writer.write(answer(5))

    async def both() -> list[RequestRecord]:
        async with listening(handle, ssl=server_side) as port:
            trusted = Tls("localhost", certificate)
            return (await drive(port, Load(concurrency=3, requests=60), tls=trusted)).records

    assert {record.error for record in asyncio.run(both())} == {None}
    assert len(seen) == 3


# --- the machine ------------------------------------------------------------------------------------------------------


async def engine(got: Got, writer: asyncio.StreamWriter) -> None:
    body = json.dumps({"data": [{"id": "tiny"}]}).encode()
    page = head("200 OK", "application/json", content_length=str(len(body))) + body
    writer.write(page if got.path == "/v1/models" else answer(64))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_full_disk_ends_the_run_with_the_reason(workers: str, tmp_path: Path) -> None:
    """Files may grow to 30 kB: exit 2, one line that says which file, and every whole record before it is readable."""
    path = tmp_path / "r"
    with in_thread(engine) as port:
        much = ["--concurrency", "2", "--duration", "60", "--workers", workers, "--quiet", "--records", str(path)]
        command = [*COMMAND, "run", "--target", f"http://127.0.0.1:{port}", *much]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=30,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000)),
        )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "File too large" in done.stderr
    assert done.stderr.count("\n") == 1
    recording = read(path)
    assert recording.footer is None
    kept = [*recording.records]
    for part in tmp_path.glob("r.part*"):
        *whole, _torn = part.read_text().split("\n")
        kept += [line for text in whole if isinstance(line := decode(text), RequestRecord)]
    assert len(kept) > 10
    assert {record.error for record in kept} <= {None, "cancelled"}


def test_only_the_header_reads_the_wall_clock() -> None:
    """A clock that jumps moves no stamp: the wall clock is read once, where a run begins, here or on a cluster."""
    found = set()
    for room in ("traffic", "wire", "running"):
        for path in sorted((ROOT / "loadgen" / room).glob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and node.attr in ("time", "time_ns", "now", "utcnow", "today"):
                    found.add(path.stem)
    assert found == {"runner", "workers", "cluster"}


def test_many_failures_at_once_are_all_recorded() -> None:
    """A server that resets every second connection under a burst: as many records as requests, each with its end."""
    number = 0

    async def handle(_got: Got, writer: asyncio.StreamWriter) -> None:
        nonlocal number
        number += 1
        if number % 2:
            writer.transport.abort()
        else:
            writer.write(answer(3))

    lines = measured(handle, Load(rate=2_000, arrivals="poisson", requests=400))
    assert sorted(record.seq for record in lines.records) == list(range(400))
    assert {record.error for record in lines.records} == {None, "reset"}
    assert isinstance(lines.all[-1], Footer)
