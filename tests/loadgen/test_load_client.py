"""The client on real sockets: every way a reply can go wrong, and the connections it goes wrong on."""

import asyncio
import socket
import struct
from pathlib import Path

import pytest
from load_servers import (
    DONE,
    END,
    Got,
    Handler,
    answer,
    certified,
    chunk,
    delta,
    drive,
    event,
    head,
    listening,
    measured,
    read_request,
    says,
)

from loadgen.traffic.arrivals import Load
from loadgen.wire.client import Tls

PART = head() + chunk(delta(content=" a"))
UNTIL_CLOSE = head(connection="close") + delta(content=" a") + DONE


def close(writer: asyncio.StreamWriter) -> None:
    writer.close()


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def hang(_got: Got, writer: asyncio.StreamWriter) -> None:
    writer.write(PART)
    await asyncio.sleep(30)


@pytest.mark.parametrize(
    ("handler", "error", "status", "tokens"),
    [
        pytest.param(says(answer(3)), None, 200, 3, id="complete"),
        pytest.param(says(UNTIL_CLOSE, close), None, 200, 1, id="until-close"),
        pytest.param(says(b"", close), "reset", None, 0, id="closed-without-a-reply"),
        pytest.param(says(PART, close), "truncated", 200, 1, id="closed-in-mid-stream"),
        pytest.param(says(PART, reset), "reset", 200, 1, id="reset-in-mid-stream"),
        pytest.param(says(PART + chunk(DONE)[:-2], close), "truncated", 200, 1, id="no-last-chunk"),
        pytest.param(says(PART + END), "truncated", 200, 1, id="no-done"),
        pytest.param(hang, "timeout", 200, 1, id="timeout"),
        pytest.param(says(PART + chunk(event({"error": "x"}) + DONE) + END), "stream_error", 200, 1, id="error-event"),
        pytest.param(says(PART + chunk(event({"error": "x"})), close), "stream_error", 200, 1, id="error-then-closed"),
        pytest.param(says(PART + chunk(b"data: {]\n\n" + DONE) + END), "bad_response", 200, 1, id="bad-json"),
        pytest.param(says(b"SSH-2.0-x\r\n\r\n"), "bad_response", None, 0, id="no-http"),
        pytest.param(says(head("200 OK", "application/json", content_length="2") + b"{}"),
                     "bad_response", 200, 0, id="no-stream"),
        pytest.param(says(head("400 Bad Request", "application/json", content_length="2") + b"{}"),
                     "http_4xx", 400, 0, id="400"),
        pytest.param(says(head("429 Too Many Requests", content_length="0")), "http_429", 429, 0, id="429"),
        pytest.param(says(head("503 Service Unavailable", connection="close") + b"no", close),
                     "http_5xx", 503, 0, id="503"),
    ],
)  # fmt: skip
def test_every_end_of_a_reply_has_its_category(
    handler: Handler, error: str | None, status: int | None, tokens: int
) -> None:
    """One scripted server per fault; tokens that came before the fault are kept."""
    (record,) = measured(handler, timeout=0.3).records
    assert (record.error, record.status, len(record.token_ns)) == (error, status, tokens)
    assert record.scheduled_ns <= record.sent_ns <= min(record.token_ns, default=record.sent_ns)
    assert max(record.token_ns, default=0) <= record.done_ns


def test_a_port_where_nothing_listens_refuses() -> None:
    """Open loop, since a closed loop would not even start: each request is refused on its own."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    lines = asyncio.run(drive(port, Load(rate=100, arrivals="constant", requests=3)))
    assert [record.error for record in lines.records] == ["refused"] * 3


def test_a_reply_that_dribbles_byte_by_byte_is_whole() -> None:
    """No reassembly depends on where reads end."""

    async def dribble(_got: Got, writer: asyncio.StreamWriter) -> None:
        for i in range(len(data := answer(3))):
            writer.write(data[i : i + 1])
            await writer.drain()
            await asyncio.sleep(0)

    (record,) = measured(dribble).records
    assert (record.error, len(record.token_ns), record.output_tokens, record.prompt_tokens) == (None, 3, 3, 7)


def test_requests_are_what_the_server_should_see() -> None:
    """Path, body and headers arrive whole, each request with a trace id of its own that its record carries."""
    seen: list[Got] = []

    async def handle(got: Got, writer: asyncio.StreamWriter) -> None:
        seen.append(got)
        writer.write(answer(2))

    records = measured(handle, Load(concurrency=2, requests=6)).records
    assert {got.path for got in seen} == {"/v1/chat/completions"}
    parts = [got.headers["traceparent"].split("-") for got in seen]
    assert {(version, len(span), flags) for version, _, span, flags in parts} == {("00", 16, "01")}
    assert sorted(trace for _, trace, _, _ in parts) == sorted(record.trace_id for record in records)
    assert len({got.body for got in seen}) == 6


def connections_used(handler: Handler, load: Load) -> tuple[int, list[str | None]]:
    """How many connections a run opened, and how its requests ended."""
    opened = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        try:
            while not writer.is_closing():
                await handler(await read_request(reader), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def both() -> list[str | None]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            lines = await drive(server.sockets[0].getsockname()[1], load)
        return [record.error for record in lines.records]

    errors = asyncio.run(both())
    return opened, errors


def test_connections_are_kept_and_reused() -> None:
    """Three slots need three connections, however many requests they send."""
    assert connections_used(says(answer(1)), Load(concurrency=3, requests=60)) == (3, [None] * 60)


def test_a_server_that_closes_after_each_reply_gets_a_connection_per_request() -> None:
    """Closing is the server's right, announced or not: no request is lost on a dead connection."""

    async def handle(_got: Got, writer: asyncio.StreamWriter) -> None:
        writer.write(UNTIL_CLOSE)
        writer.close()

    opened, errors = connections_used(handle, Load(rate=200, arrivals="constant", requests=20))
    assert (opened, errors) == (20, [None] * 20)


def test_an_idle_connection_that_the_server_closed_is_not_used_again() -> None:
    """The close comes while the connection idles; the next request opens a new one and succeeds."""

    async def handle(_got: Got, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(1))
        await writer.drain()
        asyncio.get_running_loop().call_later(0.03, writer.close)

    opened, errors = connections_used(handle, Load(rate=10, arrivals="constant", requests=4))
    assert (opened, errors) == (4, [None] * 4)


def test_tls(tmp_path: Path) -> None:
    """The same over https, with the certificate checked against the host's name."""
    server_side, certificate = certified(tmp_path)

    async def errors_with(trusted: Tls) -> set[str | None]:
        async with listening(says(answer(5)), ssl=server_side) as port:
            lines = await drive(port, Load(rate=100, arrivals="constant", requests=4), tls=trusted)
        return {record.error for record in lines.records}

    assert asyncio.run(errors_with(Tls("localhost", certificate))) == {None}
    assert asyncio.run(errors_with(Tls("localhost"))) == {"refused"}
    assert asyncio.run(errors_with(Tls("other.host", certificate))) == {"refused"}
