"""TLS, users and headers as the `web.yml` of the Prometheus exporters says them."""

import logging
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from slo.spec import document
from slo.spec.document import Value

T = TypeVar("T")
log = logging.getLogger(__name__)

# https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md: what of it has no meaning here.
_CLIENT_CERTS = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_BCRYPT = re.compile(r"\$2[abxy]\$\d\d\$[./A-Za-z0-9]{53}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """The server's certificate, and which clients' it asks for."""

    cert: Path
    key: Path
    client_ca: Path | None = None
    client_certs: ssl.VerifyMode = ssl.CERT_NONE
    oldest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    newest: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED


@dataclass(frozen=True, slots=True, kw_only=True)
class WebConfig:
    """What a `web.yml` says: TLS, bcrypt hashes by user, and headers for every answer."""

    tls: Tls | None = None
    users: Mapping[str, bytes] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


def load(path: Path) -> WebConfig:
    """Read a `web.yml`. Raises SpecError, whose text is `file:line: message`; paths in it start at its folder."""
    top = document.read(path).mapping()
    config = WebConfig(
        tls=top.optional("tls_server_config", partial(_tls, path.parent), None),
        users=top.optional("basic_auth_users", _users, {}),
        headers=top.optional("http_server_config", _headers, {}),
    )
    top.done()
    return config


def _tls(folder: Path, value: Value) -> Tls:
    fields = value.mapping()
    tls = Tls(
        cert=fields.take("cert_file", partial(_file, folder)),
        key=fields.take("key_file", partial(_file, folder)),
        client_ca=fields.optional("client_ca_file", partial(_file, folder), None),
        client_certs=fields.optional("client_auth_type", partial(_one_of, _CLIENT_CERTS), ssl.CERT_NONE),
        oldest=fields.optional("min_version", partial(_one_of, _VERSIONS), ssl.TLSVersion.TLSv1_2),
        newest=fields.optional("max_version", partial(_one_of, _VERSIONS), ssl.TLSVersion.MAXIMUM_SUPPORTED),
    )
    fields.done()
    if (tls.client_ca is None) != (tls.client_certs is ssl.CERT_NONE):
        raise value.error("client_ca_file goes with a client_auth_type that verifies certificates, and the other way")
    try:
        context(tls)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise value.error(f"these certificates cannot be used: {error}") from None
    return tls


def _file(folder: Path, value: Value) -> Path:
    path = folder / value.text()
    try:
        path.open("rb").close()
    except OSError as error:
        raise value.error(f"{path}: cannot be read: {error.strerror}") from None
    return path


def _one_of(known: Mapping[str, T], value: Value) -> T:
    if value.text() not in known:
        raise value.error(f"{value.text()!r} is not supported here; use one of {', '.join(known)}")
    return known[value.text()]


def _users(value: Value) -> dict[str, bytes]:
    users = {}
    for user, hashed in value.mapping().pairs():
        if not _BCRYPT.fullmatch(hashed.text()):
            raise hashed.error(f"the password of {user.text()!r} is no bcrypt hash; make one with: htpasswd -nBC 10 ''")
        users[user.text()] = hashed.text().encode()
    return users


def _headers(value: Value) -> dict[str, str]:
    fields = value.mapping()
    headers = fields.optional("headers", _texts, dict[str, str]())
    fields.optional("http2", partial(_one_of, {"false": False}), False)
    fields.done()
    return headers


def _texts(value: Value) -> dict[str, str]:
    return {name.text(): text.text() for name, text in value.mapping().pairs()}


def context(tls: Tls) -> ssl.SSLContext:
    """The server's side of TLS. Raises SSLError or OSError for certificates that cannot be used."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version, made.maximum_version = tls.oldest, tls.newest
    made.load_cert_chain(tls.cert, tls.key)
    if tls.client_ca:
        made.load_verify_locations(tls.client_ca)
    made.verify_mode = tls.client_certs
    return made


def renewing(tls: Tls) -> ssl.SSLContext:
    """The same, taking a renewed certificate for the connections that come after it: it lives shorter than a pod."""
    first = newest = context(tls)
    loaded = _stamp(tls)

    def renew(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        nonlocal newest, loaded
        try:
            if (stamp := _stamp(tls)) != loaded:
                newest, loaded = context(tls), stamp
        except (ssl.SSLError, OSError) as error:  # half written: the old one until the next connection
            log.warning("%s: %s", tls.cert, error)
        connection.context = newest

    first.sni_callback = renew
    return first


def _stamp(tls: Tls) -> tuple[int, int]:
    return tls.cert.stat().st_mtime_ns, tls.key.stat().st_mtime_ns
