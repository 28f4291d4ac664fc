"""Finding the end of a reply, however its bytes are cut."""

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from load_servers import chunk

from loadgen.wire.http1 import HttpError, Response

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
# Data that looks like the terminator, an extension, an upper-case size, an early hint before and a trailer after.
TRICKY = (
    b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + CHUNKED
    + chunk(b"0\r\n\r\n") + b"A;name=value\r\n0123456789\r\n" + chunk(b"x" * 300) + b"0\r\nx-trailer: 1\r\n\r\n"
)  # fmt: skip
SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello\r\n\r\nyou"


def body(response: Response) -> bytes:
    return b"".join(response.body.pieces)


def feed(data: bytes, cuts: list[int]) -> tuple[Response, list[bool]]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    response = Response()
    ends = [response.feed(i, data[a:b]) for i, (a, b) in enumerate(itertools.pairwise(edges)) if a < b]
    return response, ends


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(TRICKY, b"0\r\n\r\n0123456789" + b"x" * 300, id="chunked"),
        pytest.param(SIZED, b"hello\r\n\r\nyou", id="sized"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", b"", id="empty"),
    ],
)
@given(cuts=st.lists(st.integers(0, 10_000), max_size=20))
def test_any_cut_gives_the_same_body_and_ends_with_its_last_byte(data: bytes, expected: bytes, cuts: list[int]) -> None:
    """The reply is complete with its last byte, never before, and its body is the same."""
    response, ends = feed(data, cuts)
    assert body(response) == expected
    assert ends == [False] * (len(ends) - 1) + [True]
    assert response.keep_alive


@pytest.mark.parametrize("data", [TRICKY, SIZED], ids=["chunked", "sized"])
def test_byte_by_byte(data: bytes) -> None:
    """The slowest dribble there is."""
    response = Response()
    ends = [response.feed(i, data[i : i + 1]) for i in range(len(data))]
    assert ends.index(True) == len(data) - 1
    assert response.status == 200


def test_pieces_carry_the_stamp_of_their_read() -> None:
    """Two chunks in one read share its stamp; a chunk over two reads has both."""
    response = Response()
    response.feed(1, CHUNKED)
    response.feed(2, chunk(b"aa") + chunk(b"bb") + b"4\r\ncc")
    response.feed(3, b"dd\r\n")
    assert [
        (stamp, piece) for stamp, piece in zip(response.body.stamps, response.body.pieces, strict=True) if piece
    ] == [(2, b"aa"), (2, b"bb"), (2, b"cc"), (3, b"dd")]


def test_without_a_length_the_end_of_the_connection_ends_the_body() -> None:
    """HTTP/1.0 style: complete only at the end of the connection, which is then not reused."""
    response = Response()
    assert not response.feed(0, b"HTTP/1.1 200 OK\r\n\r\nabc")
    assert response.at_eof()
    assert body(response) == b"abc"
    assert not response.keep_alive


@pytest.mark.parametrize(
    ("head", "reused"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nConnection: Close\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nsurplus", False),
    ],
)
def test_a_connection_is_reused_only_when_that_is_safe(head: bytes, reused: bool) -> None:
    """Not after Connection: close, not with HTTP/1.0, not after bytes that belong to nothing."""
    response = Response()
    assert response.feed(0, head)
    assert response.keep_alive is reused


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        CHUNKED + b"-5\r\n",
        CHUNKED + b"zz\r\n",
        CHUNKED + b"3\r\nabcdef\r\n",
        CHUNKED + b"f" * 16 + b"\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"x" * 70_000,
    ],
)
def test_what_is_no_http_is_refused(data: bytes) -> None:
    """Other protocols, wrong chunk sizes and endless heads raise HttpError, and nothing else."""
    with pytest.raises(HttpError):
        Response().feed(0, data)


@given(st.binary(max_size=400))
def test_no_bytes_at_all_break_the_parser(data: bytes) -> None:
    """Whatever comes after a head: a complete reply, an incomplete one or HttpError."""
    for start in (b"", CHUNKED, b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n"):
        with contextlib.suppress(HttpError):
            assert Response().feed(0, start + data) in (True, False)
