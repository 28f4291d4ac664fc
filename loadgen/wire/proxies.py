"""Which proxy leads to an address: what HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY say, or what is asked for."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Literal
from urllib.parse import unquote, urlsplit

Scheme = Literal["http", "https"]


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy and, where it wants one, the user that it is told about."""

    host: str
    port: int
    user: tuple[str, str] | None = None

    @property
    def url(self) -> str:
        """Its address, without the user."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        """What a request to it carries."""
        if self.user is None:
            return {}
        return {"Proxy-Authorization": f"Basic {base64.b64encode(':'.join(self.user).encode()).decode()}"}


def parse(url: str) -> Proxy:
    """Read `http://[user:password@]host[:port]` or `host:port`. Raises ValueError, which does not tell the password."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port or 80
    except ValueError:
        raise ValueError("no proxy address; write it like http://user:password@host:3128") from None
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"a proxy of the kind {parts.scheme}:// cannot be used; give one like http://host:3128")
    user = None if parts.username is None else (unquote(parts.username), unquote(parts.password or ""))
    return Proxy(parts.hostname, port, user)


@dataclass(frozen=True, slots=True)
class Proxies:
    """A proxy for each scheme, and the hosts that are reached without one."""

    http: Proxy | None = None
    https: Proxy | None = None
    direct: tuple[str, ...] = ()

    def find(self, scheme: str, host: str, port: int) -> Proxy | None:
        """The proxy that leads there. None: it is reached directly, as this machine itself always is."""
        proxy = self.https if scheme == "https" else self.http
        if proxy is None or _is_loopback(host) or any(_covers(entry, host, port) for entry in self.direct):
            return None
        return proxy


def from_environment(env: Mapping[str, str]) -> Proxies:
    """What the variables say, in lower case (which counts first) or upper case. Raises ValueError, naming one."""
    return Proxies(
        http=_proxy(env, "http_proxy"),
        https=_proxy(env, "https_proxy"),
        direct=tuple(entry.lower() for entry in re.split(r"[,\s]+", _value(env, "no_proxy")) if entry),
    )


def _proxy(env: Mapping[str, str], name: str) -> Proxy | None:
    found = next(((key, url) for key in (name, "all_proxy") if (url := _value(env, key))), None)
    try:
        return parse(found[1]) if found else None
    except ValueError as error:
        raise ValueError(f"the environment variable {found[0].upper() if found else name}: {error}") from None


def _value(env: Mapping[str, str], name: str) -> str:
    return (env.get(name) or env.get(name.upper()) or "").strip()


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _covers(entry: str, host: str, port: int) -> bool:
    """Whether an entry of NO_PROXY means this address: `*`, a domain with all below it, an address or a network."""
    name, _, wanted = entry.rpartition(":")
    if name and wanted.isdigit() and (":" not in name or name.endswith("]")):
        if int(wanted) != port:
            return False
        entry = name
    if entry == "*":
        return True
    try:
        return ip_address(host) in ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        domain = entry.removeprefix("*").lstrip(".")
        return host == domain or host.endswith(f".{domain}")
