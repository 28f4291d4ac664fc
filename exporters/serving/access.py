"""Who may talk to the sidecar: users with a password, and for spans a token."""

import asyncio
import hmac
import logging
import secrets
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

import bcrypt
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exporters.model import UsageError

log = logging.getLogger(__name__)

TRACES = "/v1/traces"
# Passwords known to be right, as hashes: bcrypt takes 50 ms and more, and Prometheus comes every few seconds.
_MAX_KNOWN = 100
# Compared in place of an unknown user's, so that the time of the answer does not tell who exists.
_NOBODY = b"$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"


class Access:
    """Judges the Authorization header of a request: a user's password, and for spans, where asked for, the token.

    The token is read anew every time, so that it can be renewed. Raises UsageError when it cannot be used at first.
    """

    def __init__(self, users: Mapping[str, bytes] | None = None, token_file: Path | None = None) -> None:
        self._users = users or {}
        self._token_file = token_file
        self._known: set[bytes] = set()
        self._salt = secrets.token_bytes(16)
        if token_file:
            try:
                if not _token(token_file):
                    raise UsageError(f"{token_file}: the token is empty")
            except (OSError, UnicodeDecodeError) as error:
                raise UsageError(f"{token_file}: cannot be read: {error}; see --otlp-token-file") from None

    def scheme(self, spans: bool) -> str | None:
        """How a request has to authenticate itself, None when it need not."""
        if spans and self._token_file:
            return "Bearer"
        return "Basic" if self._users else None

    async def allows(self, authorization: str, spans: bool = False) -> bool:
        """Whether a request with this header may be answered; `spans` when it brings some."""
        wanted = self.scheme(spans)
        scheme, _, value = authorization.partition(" ")
        if wanted is None:
            return True
        if scheme.lower() != wanted.lower():
            return False
        if self._token_file and spans:
            return _is_token(self._token_file, value.strip())
        return await self._knows(value.strip())

    async def _knows(self, credentials: str) -> bool:
        try:
            user, _, password = b64decode(credentials, validate=True).decode().partition(":")
        except (Base64Error, UnicodeDecodeError):
            return False
        hashed = self._users.get(user, _NOBODY)
        known = sha256(self._salt + hashed + b"\0" + password.encode()).digest()
        if known in self._known:
            return True
        # In a thread: it lets go of the interpreter, and the probes go on.
        right = await asyncio.to_thread(_is_password, password.encode(), hashed)
        if not right or user not in self._users:
            return False
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        self._known.add(known)
        return True


def _is_password(password: bytes, hashed: bytes) -> bool:
    try:
        return bcrypt.checkpw(password, hashed)
    except ValueError:  # longer than the 72 bytes that bcrypt knows
        return False


def _token(path: Path) -> str:
    return path.read_text().strip()


def _is_token(path: Path, given: str) -> bool:
    try:
        token = _token(path)  # empty when it is just being written
        return bool(token) and hmac.compare_digest(token.encode(), given.encode())
    except (OSError, UnicodeDecodeError) as error:
        log.warning("%s: cannot be read, no spans are taken: %s", path, error)
        return False


# Probes have no password, and what they answer is no secret.
_OPEN = ("/healthz", "/readyz")


class Guard:
    """ASGI middleware: 401 to who may not, and the configured headers on every answer.

    `reject` is told why an export of spans was not taken.
    """

    def __init__(self, app: ASGIApp, access: Access, headers: Mapping[str, str], reject: Callable[[str], None]) -> None:
        self._app = app
        self._access = access
        self._reject = reject
        self._headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self._headers]
            await send(message)

        spans, given = scope["path"] == TRACES, Headers(scope=scope).get("authorization", "")
        if scope["path"] in _OPEN or await self._access.allows(given, spans):
            await self._app(scope, receive, with_headers)
            return
        if spans:
            self._reject("unauthorized")
        wanted = {"WWW-Authenticate": f'{self._access.scheme(spans)} realm="slo-exporter"'}
        await PlainTextResponse("unauthorized\n", 401, headers=wanted)(scope, receive, with_headers)
