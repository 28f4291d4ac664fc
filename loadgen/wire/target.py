"""The control side of the target: its address, its models and what it tells of itself, all asked before a run."""

import contextlib
import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
from prometheus_client.parser import text_string_to_metric_families

from loadgen.results.record import Fingerprint
from loadgen.wire.client import Address, Tls
from loadgen.wire.proxies import Proxies, Proxy
from loadgen.wire.tunnel import connect_request
from slo import catalog

_TIMEOUT = 10.0
# Every answer of `slo-load simulate` carries it.
_SIMULATED_HEADER = "x-llm-slo-simulated"
# DCGM puts the device's name on every sample; the temperature is one that all GPUs have.
_INFO_SAMPLES = (
    catalog.KV_CAPACITY.upstream["vllm"][0].name,
    catalog.GPU_INFO.name,
    *(upstream.name for upstream in catalog.GPU_TEMPERATURE.upstream["dcgm"]),
)
_DRIVER_LABELS = ("driver", "DCGM_FI_DRIVER_VERSION")
# What shapes latency and stays from start to start, which the number of blocks does not.
_CACHE_LABELS = ("block_size", "cache_dtype", "enable_prefix_caching", "gpu_memory_utilization", "kv_offloading_size")


class TargetError(Exception):
    """A target that cannot be measured; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Target:
    """An OpenAI-compatible server: `base_path` is what comes before /v1."""

    scheme: str
    host: str
    port: int
    base_path: str

    @property
    def url(self) -> str:
        """The address without /v1 and without a slash at its end."""
        return f"{self.scheme}://{self.netloc}{self.base_path}"

    @property
    def netloc(self) -> str:
        """Host and port as the Host header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


_PORTS = {"http": 80, "https": 443}


def parse(url: str) -> Target:
    """Read a URL such as http://host:8000 or https://gateway/llm/v1. Raises ValueError."""
    parts = urlsplit(url)
    readable = url.isascii() and url.isprintable() and " " not in url
    if parts.scheme not in _PORTS or not parts.hostname or parts.query or parts.username or not readable:
        raise ValueError(f"{url!r} is no server address; write it like http://host:8000")
    path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return Target(parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme], path)


def resolve(target: Target, cafile: str | None = None, proxy: Proxy | None = None) -> Address:
    """The first address of the host, or of the proxy that leads there, that accepts a connection. Raises TargetError.

    `cafile` holds the authorities to trust instead of the system's.
    """
    tls = Tls(target.host, cafile) if target.scheme == "https" else None
    if proxy is None:
        return Address(_accepting(target.url, target.host, target.port), target.port, tls)
    ip = _accepting(f"{target.url}: the proxy {proxy.url}", proxy.host, proxy.port)
    host = f"[{target.host}]" if ":" in target.host else target.host
    return Address(ip, proxy.port, tls, connect_request(f"{host}:{target.port}", proxy.headers) if tls else b"")


def _accepting(what: str, host: str, port: int) -> str:
    """The first of a host's IP addresses that accepts a connection. Raises TargetError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise TargetError(f"{what}: no such host: {error.strerror}") from None
    reason: OSError | None = None
    for ip in dict.fromkeys(str(address[0]) for *_, address in found):
        try:
            socket.create_connection((ip, port), timeout=_TIMEOUT).close()
        except OSError as error:
            reason = error
        else:
            return ip
    raise TargetError(f"{what}: cannot be reached: {reason}; check the address and that the server is up")


@contextlib.contextmanager
def control(
    target: Target, headers: Mapping[str, str], cafile: str | None = None, proxies: Proxies | None = None
) -> Iterator[httpx.Client]:
    """A client for calls outside the load; `headers` go to the target alone. Raises TargetError for a bad `cafile`."""
    try:
        verify = ssl.create_default_context(cafile=cafile) if cafile or target.scheme == "https" else True
    except OSError as error:
        raise TargetError(f"{cafile}: no certificates can be read from it: {error.strerror or error}") from None
    transport = _Routes(target, headers, verify, proxies or Proxies())
    with httpx.Client(transport=transport, timeout=_TIMEOUT, trust_env=False) as client:
        yield client


class _Routes(httpx.BaseTransport):
    """Takes each request by the proxy that leads there, and gives the target's headers to no other server."""

    def __init__(
        self, target: Target, headers: Mapping[str, str], verify: ssl.SSLContext | bool, proxies: Proxies
    ) -> None:
        self._target, self._headers, self._verify, self._proxies = target, headers, verify, proxies
        self._transports: dict[Proxy | None, httpx.HTTPTransport] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        origin = (url.scheme, url.host, url.port or _PORTS.get(url.scheme, 0))
        if origin == (self._target.scheme, self._target.host, self._target.port):
            request.headers.update(self._headers)
        return self._through(self._proxies.find(*origin)).handle_request(request)

    def _through(self, proxy: Proxy | None) -> httpx.HTTPTransport:
        if proxy not in self._transports:
            by = httpx.Proxy(proxy.url, auth=proxy.user) if proxy else None
            self._transports[proxy] = httpx.HTTPTransport(verify=self._verify, proxy=by)
        return self._transports[proxy]

    def close(self) -> None:
        for transport in self._transports.values():
            transport.close()


def inspect(
    client: httpx.Client, target: Target, models: Sequence[str] = (), metrics_urls: Sequence[str] = ()
) -> Fingerprint:
    """Choose the model, or check those that are asked for, and collect what the target tells of itself.

    `metrics_urls` are expositions that may name the KV cache's settings and the GPUs: the engine's, the exporter's,
    DCGM's. Those that do not answer are left out. Raises TargetError.
    """
    response = _get_models(client, target)
    cards = _cards(target, response)
    served = [str(card.get("id")) for card in cards]
    chosen = [_choose(target, model, served) for model in models or (None,)]
    owner = next((card.get("owned_by") for card in cards if card.get("id") == chosen[0]), None)
    version = _json(_try(client, f"{target.url}/version")).get("version")
    labels = list(_info_labels(_try(client, url) for url in metrics_urls or [f"{target.url}/metrics"]))
    return Fingerprint(
        model=", ".join(chosen),
        engine=str(owner) if owner else None,
        engine_version=str(version) if version else None,
        engine_args=_engine_args(labels, [card for card in cards if card.get("id") in chosen]),
        gpus=_gpus(labels),
        driver=next((found[key] for found in labels for key in _DRIVER_LABELS if found.get(key)), None),
        cache_config={key: found[key] for found in labels for key in _CACHE_LABELS if key in found},
        simulated=_SIMULATED_HEADER in response.headers,
    )


def _get_models(client: httpx.Client, target: Target) -> httpx.Response:
    try:
        return client.get(f"{target.url}/v1/models")
    except httpx.HTTPError as error:
        raise TargetError(f"{target.url}: no answer to GET /v1/models: {error}") from None


def _cards(target: Target, response: httpx.Response) -> list[dict[str, Any]]:
    """The model cards; empty when the server has no listing (404)."""
    if response.status_code in (401, 403):
        raise TargetError(f"{target.url}: wants an API key; name its environment variable with --api-key-env")
    if response.status_code == 407:
        raise TargetError(f"{target.url}: the proxy wants to know a user; write http://user:password@ before its name")
    if response.status_code == 404:
        return []
    cards = _json(response).get("data")
    if response.status_code != 200 or not isinstance(cards, list):
        raise TargetError(
            f"{target.url}: GET /v1/models answers {response.status_code} and no list of models; "
            "is it an OpenAI-compatible server?"
        )
    return [card for card in cards if isinstance(card, dict)]


def _choose(target: Target, model: str | None, served: list[str]) -> str:
    if model is None and len(served) == 1:
        return served[0]
    if model is None:
        listing = f"serves {', '.join(served)}" if served else "lists no models"
        raise TargetError(f"{target.url}: {listing}; choose one with --model")
    if served and model not in served:
        raise TargetError(f"{target.url}: has no model {model!r}; it serves {', '.join(served)}")
    return model


def _try(client: httpx.Client, url: str) -> httpx.Response | None:
    try:
        response = client.get(url)
    except (httpx.HTTPError, httpx.InvalidURL):
        return None
    return response if response.status_code == 200 else None


def _json(response: httpx.Response | None) -> dict[str, Any]:
    try:
        value = response.json() if response else None
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {}


def _info_labels(responses: Iterable[httpx.Response | None]) -> Iterator[dict[str, str]]:
    """The labels of every sample that carries the cache's settings or a GPU's name."""
    for response in responses:
        for line in response.text.splitlines() if response else ():
            # One line reads the same in the text format and in OpenMetrics, so one parser serves both.
            if line.startswith(_INFO_SAMPLES):
                with contextlib.suppress(ValueError):
                    (family,) = text_string_to_metric_families(line + "\n")
                    yield from (sample.labels for sample in family.samples)


def _engine_args(labels: Iterable[Mapping[str, str]], cards: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """What the engine says it was started with: the rest of its configuration sample, and the longest context."""
    told = [found for found in labels if "block_size" in found]
    other = ("engine", "model_name", *_CACHE_LABELS)
    args = {key: value for found in told for key, value in found.items() if key not in other and value != "None"}
    lengths = [str(card["max_model_len"]) for card in cards if card.get("max_model_len")]
    return args | ({"max_model_len": lengths[0]} if lengths else {})


def _gpus(labels: Iterable[Mapping[str, str]]) -> tuple[str, ...]:
    """Device names, one per GPU, whichever source names it and however often."""
    by_dcgm = {found["UUID"]: found["modelName"] for found in labels if {"UUID", "modelName"} <= found.keys()}
    by_exporter = {found["gpu_uuid"]: found["name"] for found in labels if {"gpu_uuid", "name"} <= found.keys()}
    return tuple(sorted({**by_dcgm, **by_exporter}.values()))
