"""HTTP/1.1 as far as a load generator needs it: write a request, find the end of a reply while its bytes come in."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) (\d{3})(?: |$)")
_MAX_LINE = 65_536


class HttpError(ValueError):
    """Bytes that are no HTTP/1.1 reply."""


def request_bytes(method: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """A whole request, Content-Length included."""
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "\r\n"]).encode("latin-1") + body


@dataclass(slots=True)
class Body:
    """The bytes of a body piece by piece, and the stamp of the read in which each piece came.

    Two lists and no pairs: a pair per token would keep the garbage collector busy, for 10 ms and more at a time.
    `whole` is None while more may come, then whether it came to its end.
    """

    stamps: list[int] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    whole: bool | None = None

    def add(self, stamp: int, piece: bytes) -> None:
        """Add what one read brought."""
        self.stamps.append(stamp)
        self.pieces.append(piece)

    def take(self) -> tuple[list[int], list[bytes]]:
        """What came since the last call, which is not kept here any longer."""
        taken = self.stamps, self.pieces
        self.stamps, self.pieces = [], []
        return taken


class Response:
    """One reply, fed read by read."""

    __slots__ = ("_between_chunks", "_chunked", "_expects", "_left", "_pending", "body", "headers", "keep_alive",
                 "status")  # fmt: skip

    def __init__(self) -> None:
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.body = Body()
        self.keep_alive = False
        self._pending = b""  # bytes of a head or of a chunk-size line that is not complete yet
        self._left: int | None = 0  # body bytes still to come (of this chunk, when chunked); None: until the end
        self._chunked = self._between_chunks = False
        self._expects: Literal["size", "end of data", "trailer"] = "size"  # the next line of a chunked body

    def feed(self, stamp: int, data: bytes) -> bool:
        """Take what one read returned; True when the reply is complete. Raises HttpError."""
        if self._between_chunks:
            at = self._take_whole_chunks(stamp, data)
            if at == len(data):
                return False
            data = data[at:]
        elif self.status is None:
            data = self._read_head(self._pending + data)
            if self.status is None:
                return False
        return self._feed_chunked(stamp, data) if self._chunked else self._feed_plain(stamp, data)

    def at_eof(self) -> bool:
        """Whether a reply that the server ended by closing the connection is complete."""
        return self.status is not None and self._left is None

    def _feed_plain(self, stamp: int, data: bytes) -> bool:
        if self._left is None:
            self.body.add(stamp, data)
            return False
        if len(data) > self._left:
            self.keep_alive = False
            data = data[: self._left]
        self.body.add(stamp, data)
        self._left -= len(data)
        return self._left == 0

    def _feed_chunked(self, stamp: int, data: bytes) -> bool:
        data, at, self._pending, self._between_chunks = self._pending + data, 0, b"", False
        while True:
            if self._left:
                piece = data[at : at + self._left]
                self.body.add(stamp, piece)
                self._left -= len(piece)
                at += len(piece)
            end = data.find(b"\r\n", at)
            if end < 0:
                self._pending = _short(data[at:])
                self._between_chunks = self._expects == "size" and not self._pending
                return False
            line, at = data[at:end], end + 2
            if self._expects == "size":
                self._left = _chunk_size(line)
                self._expects = "end of data" if self._left else "trailer"
            elif self._expects == "end of data":
                if line:
                    raise HttpError(f"a chunk longer than its size: {line[:60]!r}")
                self._expects = "size"
            elif not line:
                self.keep_alive = self.keep_alive and at == len(data)
                return True

    def _take_whole_chunks(self, stamp: int, data: bytes) -> int:
        """Take chunks from the start of the data while they are whole, as nearly all are; returns where they end."""
        at, total = 0, len(data)
        add_stamp, add_piece = self.body.stamps.append, self.body.pieces.append
        while at < total and (end := data.find(b"\r\n", at)) > 0:
            size = _sizes.get(line := data[at:end]) or _remember_size(line)
            after = end + 2 + size
            if not size or data[after : after + 2] != b"\r\n":
                break
            add_stamp(stamp)
            add_piece(data[end + 2 : after])
            at = after + 2
        return at

    def _read_head(self, data: bytes) -> bytes:
        """Read the head when it is complete, skipping 1xx heads; returns the bytes after it."""
        while True:
            head, blank, rest = data.partition(b"\r\n\r\n")
            if not blank:
                self._pending = _short(data)
                return b""
            status = self._read_lines(head)
            if status >= 200:
                self._pending = b""
                self.status = status
                return rest
            data = rest

    def _read_lines(self, head: bytes) -> int:
        first, *lines = head.split(b"\r\n")
        match = _STATUS_LINE.match(first)
        if not match:
            raise HttpError(f"not an HTTP/1.1 status line: {first[:60]!r}")
        fields = (line.decode("latin-1").partition(":") for line in lines)
        self.headers = {name.strip().lower(): value.strip() for name, _, value in fields}
        self.keep_alive = match[1] == b"1" and self.headers.get("connection", "").lower() != "close"
        self._read_framing(int(match[2]))
        return int(match[2])

    def _read_framing(self, status: int) -> None:
        self._chunked = "chunked" in self.headers.get("transfer-encoding", "").lower()
        length = self.headers.get("content-length")
        if self._chunked or status in (204, 304):
            self._left = 0
        elif length is None:
            self._left, self.keep_alive = None, False
        elif length.isascii() and length.isdigit():
            self._left = int(length)
        else:
            raise HttpError(f"Content-Length {length[:60]!r} is no number")


# Sizes that were read before: an engine's chunks have a few dozen sizes.
_sizes: dict[bytes, int] = {}


def _remember_size(line: bytes) -> int:
    size = _chunk_size(line)
    if len(_sizes) < 4096:
        _sizes[line] = size
    return size


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    if not re.fullmatch(rb"[0-9a-fA-F]{1,15}", digits):
        raise HttpError(f"not a chunk size: {line[:60]!r}")
    return int(digits, 16)


def _short(pending: bytes) -> bytes:
    if len(pending) > _MAX_LINE:
        raise HttpError(f"a head or chunk size of more than {_MAX_LINE} bytes")
    return pending
