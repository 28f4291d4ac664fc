"""Proxies: which one leads where, and runs through a real one, with and without TLS."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
from load_servers import Got, Lines, answer, certified, head, in_thread, job
from proxy_server import proxy

from loadgen.cli import main
from loadgen.results.reading import read
from loadgen.results.record import Recording, RequestRecord
from loadgen.running.runner import run
from loadgen.traffic.arrivals import Load
from loadgen.wire.client import Address, Tls
from loadgen.wire.proxies import Proxies, Proxy, from_environment, parse
from loadgen.wire.tunnel import connect_request

ONE, OTHER = Proxy("one", 3128), Proxy("other", 80, ("me", "p@ss"))
ENV = {"http_proxy": "http://one:3128", "HTTPS_PROXY": "http://me:p%40ss@other"}


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://one:3128", ONE),
        ("http://one:3128/", ONE),
        ("one:3128", ONE),
        ("http://me:p%40ss@other", OTHER),
        ("http://[::1]:8080", Proxy("::1", 8080)),
    ],
)
def test_proxies_as_people_write_them(url: str, found: Proxy) -> None:
    """With and without a scheme, a user, a port; what is shown of it holds no password."""
    assert parse(url) == found
    assert "@" not in found.url
    assert parse(found.url).port == found.port


@pytest.mark.parametrize("url", ["socks5://h:1080", "https://h", "http://", "http://h:99999", "http://u:secret@:x"])
def test_what_is_no_http_proxy_is_refused(url: str) -> None:
    """Without telling the password."""
    with pytest.raises(ValueError, match=r"http://") as error:
        parse(url)
    assert "secret" not in str(error.value)


def test_each_scheme_has_its_variables() -> None:
    """Lower case before upper case, ALL_PROXY for what is left, nothing for this machine; a bad one is named."""
    found = from_environment(ENV | {"HTTP_PROXY": "http://not-this:1"})
    assert (found.find("http", "host", 80), found.find("https", "host", 443)) == (ONE, OTHER)
    assert from_environment({"ALL_PROXY": "one:3128"}) == Proxies(ONE, ONE)
    assert from_environment({"HTTP_PROXY": " "}) == Proxies()
    for host in ("localhost", "127.0.0.2", "::1", "a.localhost"):
        assert found.find("http", host, 80) is None
    with pytest.raises(ValueError, match=r"HTTP_PROXY.*socks5"):
        from_environment({"http_proxy": "socks5://h:1"})


@pytest.mark.parametrize(
    ("direct", "hosts", "others"),
    [
        ("*", ["anything", "10.0.0.1"], []),
        ("host, .svc", ["host", "a.host", "x.svc"], ["ghost", "xsvc", "hos"]),
        ("*.corp", ["a.corp", "corp"], ["acorp"]),
        ("10.0.0.0/8,192.168.1.7", ["10.1.2.3", "192.168.1.7"], ["11.0.0.1", "192.168.1.70", "host10"]),
        ("fd00::/8,[2001:db8::1]", ["fd12::1", "2001:db8::1"], ["2001:db8::2"]),
        ("host:8000", ["host"], []),
        ("host:8001", [], ["host"]),
        ("[2001:db8::1]:8000,[2001:db8::2]:8001", ["2001:db8::1"], ["2001:db8::2"]),
        ("host 10.0.0.0/8", ["host", "10.1.2.3"], ["other"]),
        ("", [], ["host", "10.0.0.1"]),
        (" , ,", [], ["host"]),
    ],
)
def test_no_proxy_means_what_it_means_elsewhere(direct: str, hosts: list[str], others: list[str]) -> None:
    """Names with all below them, networks, ports, a star."""
    found = from_environment({**ENV, "NO_PROXY": direct})
    assert [found.find("http", host, 8000) for host in hosts] == [None] * len(hosts)
    assert [found.find("http", host, 8000) for host in others] == [ONE] * len(others)


async def engine(got: Got, writer: asyncio.StreamWriter) -> None:
    body = json.dumps({"data": [{"id": "tiny"}]}).encode()
    page = head("200 OK", "application/json", content_length=str(len(body))) + body
    writer.write(page if got.method == "GET" else answer(3))


def through(port: int, folder: Path, *arguments: str, user: str = "me:p%40ss@") -> Recording:
    """A run against a host whose name only the proxy knows."""
    path = folder / "r"
    more = ["--proxy", f"http://{user}127.0.0.1:{port}", "--concurrency", "2", "--requests", "20", "--quiet"]
    assert main(["run", "--target", "http://engine.test:8000", "--records", str(path), *more, *arguments]) == 0
    return read(path)


def test_a_proxy_forwards_whole_urls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Control calls and load alike, over kept connections; the records name the proxy, without its user."""
    with in_thread(engine) as upstream, proxy(upstream, "me:p@ss") as seen:
        run = through(seen.port, tmp_path)
    assert [record.error for record in run.records] == [None] * 20
    assert run.header.proxy == f"http://127.0.0.1:{seen.port}"
    assert f"through the proxy {run.header.proxy}" in capsys.readouterr().out
    assert seen.lines.count("POST http://engine.test:8000/v1/chat/completions HTTP/1.1") >= 20
    assert "GET http://engine.test:8000/v1/models HTTP/1.1" in seen.lines
    assert len(seen.peers) <= 4  # one that only connected, control calls, two slots


def test_the_environment_names_the_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no option does."""
    path = tmp_path / "r"
    with in_thread(engine) as upstream, proxy(upstream) as seen:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{seen.port}")
        load = ["--concurrency", "1", "--requests", "1", "--quiet", "--records", str(path)]
        assert main(["run", "--target", "http://engine.test", *load]) == 0
    assert "POST http://engine.test/v1/chat/completions HTTP/1.1" in seen.lines


def test_tls_goes_through_a_tunnel(tmp_path: Path) -> None:
    """The certificate is that of the target; a connection is a tunnel, and each is kept."""
    server_side, certificate = certified(tmp_path)
    with in_thread(engine, ssl=server_side) as upstream, proxy(upstream, "me:p@ss") as seen:
        secure = ["--target", "https://engine.test", "--cacert", certificate]
        run = through(seen.port, tmp_path, *secure)
    assert [record.error for record in run.records] == [None] * 20
    assert seen.lines == ["CONNECT engine.test:443 HTTP/1.1"] * 3  # control calls, two slots


def test_a_tunnel_that_is_refused_or_broken_off_is_a_refused_request() -> None:
    """Each with what the proxy said; none is lost, and none leaves a connection behind."""

    async def refused(port: int) -> list[RequestRecord]:
        whole, lines = job(port, Load(rate=100, arrivals="constant", requests=3)), Lines()
        address = Address("127.0.0.1", port, Tls("engine.test"), connect_request("engine.test:443", {}))
        await run(replace(whole, wire=replace(whole.wire, address=address)), lines.all.append)
        return lines.records

    for said, told in (
        (b"HTTP/1.1 407 No\r\n\r\n", "answered 407"),
        (b"", "closed"),
        (b"220 ftp\r\n\r\n", "status line"),
    ):

        async def deny(_got: Got, writer: asyncio.StreamWriter, said: bytes = said) -> None:
            writer.write(said)
            writer.close()

        with in_thread(deny) as port:
            records = asyncio.run(refused(port))
        assert [record.error for record in records] == ["refused"] * 3
        assert all(told in (record.detail or "") for record in records)


def test_a_proxy_that_keeps_silent_does_not_hold_up_the_start() -> None:
    """A closed loop opens its connections first, and waits for none longer than for an answer."""

    async def silent(_got: Got, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    with in_thread(silent) as port:
        whole = job(port, Load(concurrency=1, requests=1), timeout=0.2)
        address = Address("127.0.0.1", port, Tls("engine.test"), connect_request("engine.test:443", {}))
        with pytest.raises(TimeoutError, match=r"no connection within 0\.2 s"):
            asyncio.run(run(replace(whole, wire=replace(whole.wire, address=address)), lambda _: None))


@pytest.mark.parametrize(("scheme", "said"), [("http", "user:password"), ("https", "407")])
def test_a_proxy_that_refuses_is_one_clear_line(
    scheme: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A usage error that says who refused."""
    with in_thread(engine) as upstream, proxy(upstream, "me:p@ss") as seen:
        load = ["--concurrency", "1", "--requests", "1", "--records", str(tmp_path / "r")]
        where = ["--target", f"{scheme}://engine.test", "--proxy", f"http://me:wrong@127.0.0.1:{seen.port}"]
        assert main(["run", *where, *load]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert "wrong" not in line
