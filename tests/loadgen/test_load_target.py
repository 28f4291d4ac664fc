"""The target before a run: its address, its model, and what it tells of itself."""

import asyncio
import json

import pytest
from load_servers import Got, Handler, head, in_thread

from loadgen.wire.target import Target, TargetError, control, inspect, parse, resolve


@pytest.mark.parametrize(
    ("url", "canonical", "host"),
    [
        ("http://host:8000", "http://host:8000", "host:8000"),
        ("http://host:8000/v1/", "http://host:8000", "host:8000"),
        ("https://gateway/llm/v1", "https://gateway/llm", "gateway"),
        ("http://[::1]:8000", "http://[::1]:8000", "[::1]:8000"),
        ("HTTP://Host:80", "http://host", "host"),
    ],
)
def test_addresses_people_paste(url: str, canonical: str, host: str) -> None:
    """With and without /v1, with a path of a gateway, IPv6, default ports."""
    assert (parse(url).url, parse(url).netloc) == (canonical, host)


@pytest.mark.parametrize(
    "url",
    [
        "host:8000",
        "ftp://host",
        "http://",
        "http://h:99999",
        "http://u:p@h",
        "http://h/?q=1",
        "http://h/a b",
        "http://ü/",
        "",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    """ValueError, which the command line turns into a usage error."""
    with pytest.raises(ValueError, match=r"."):
        parse(url)


def server(pages: dict[str, object], **fields: str) -> Handler:
    """Answers GET with a page per path: text as it is, anything else as JSON, a number as a status."""

    async def handle(got: Got, writer: asyncio.StreamWriter) -> None:
        page = pages.get(got.path, 404)
        status, body = (f"{page} X", b"{}") if isinstance(page, int) else ("200 OK", _bytes(page))
        extra = {"content_length": str(len(body)), **fields}
        writer.write(head(status, "application/json", **extra) + body)

    return handle


def _bytes(page: object) -> bytes:
    return page.encode() if isinstance(page, str) else json.dumps(page).encode()


def models(*names: str) -> dict[str, object]:
    return {"data": [{"id": name, "owned_by": "vllm"} for name in names]}


METRICS = """\
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="16",cache_dtype="auto",engine="0",num_gpu_blocks="123"} 1.0
llm_gpu_info{gpu_uuid="GPU-2",gpu="1",name="NVIDIA H100",driver="570"} 1
DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-1",modelName="NVIDIA H100"} 33
DCGM_FI_DEV_GPU_TEMP_CELSIUS{gpu="0",UUID="GPU-1",modelName="NVIDIA H100"} 33
llm_gpu_info{broken
"""


def ask(handler: Handler, model: str | None = None, path: str = "") -> object:
    with in_thread(handler) as port:
        target = Target("http", "127.0.0.1", port, path)
        with control(target, {}) as client:
            return inspect(client, target, [model] if model else [])


def test_a_fingerprint_is_what_the_target_tells() -> None:
    """Engine, version, cache settings and one name per GPU, whatever the source calls it; a broken line is skipped."""
    pages = {"/v1/models": models("tiny"), "/version": {"version": "0.32.0"}, "/metrics": METRICS}
    found = ask(server(pages))
    assert found.model == "tiny"  # type: ignore[attr-defined]
    assert (found.engine, found.engine_version) == ("vllm", "0.32.0")  # type: ignore[attr-defined]
    assert found.cache_config == {"block_size": "16", "cache_dtype": "auto"}  # type: ignore[attr-defined]
    assert found.gpus == ("NVIDIA H100", "NVIDIA H100")  # type: ignore[attr-defined]
    assert not found.simulated  # type: ignore[attr-defined]


def test_a_target_that_tells_nothing_is_no_error() -> None:
    """No version, no metrics, no listing, garbage instead of JSON: all absent, as long as the model is named."""
    for pages in ({}, {"/v1/models": models("m"), "/version": "no json", "/metrics": "\x00\x01"}):
        found = ask(server(pages), "m", "")
        assert (found.model, found.engine_version, found.gpus) == ("m", None, ())  # type: ignore[attr-defined]


def test_the_simulator_says_that_it_simulates() -> None:
    """By a header of every answer."""
    found = ask(server({"/gw/v1/models": models("m")}, x_llm_slo_simulated="true"), path="/gw")
    assert found.simulated  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("listing", "model", "message"),
    [
        (models("a", "b"), None, "serves a, b; choose one with --model"),
        (models("a", "b"), "c", "has no model 'c'; it serves a, b"),
        (404, None, "lists no models; choose one with --model"),
        (401, "a", "--api-key-env"),
        (503, "a", "answers 503"),
        ("<html>", "a", "is it an OpenAI-compatible server"),
        ({"data": 5}, "a", "is it an OpenAI-compatible server"),
        ([], "a", "is it an OpenAI-compatible server"),
    ],
)
def test_a_target_that_cannot_be_measured_says_why(listing: object, model: str | None, message: str) -> None:
    """One line with what is wrong and what to do."""
    with pytest.raises(TargetError, match=message):
        ask(server({"/v1/models": listing}), model)


def test_an_address_is_one_that_accepts_connections() -> None:
    """`localhost` may be two addresses of which one listens; no listener at all is an error."""

    async def never(_got: Got, _writer: asyncio.StreamWriter) -> None:
        raise AssertionError

    with in_thread(never) as port:
        assert resolve(Target("http", "localhost", port, "")).ip == "127.0.0.1"
    with pytest.raises(TargetError, match="cannot be reached"):
        resolve(Target("http", "127.0.0.1", 1, ""))
    with pytest.raises(TargetError, match="no such host"):
        resolve(Target("http", "host.invalid", 80, ""))
