"""TLS, client certificates, users, headers, the token: the file that says them, the sidecar that asks for them."""

import contextlib
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import httpx
import pytest
from exporter_process import running
from exporter_servers import Upstream

from exporters.model import UsageError
from exporters.serving import web
from exporters.serving.access import Access
from slo import catalog
from slo.spec.document import SpecError

TESTS = Path(__file__).parents[1]
PAGE = (TESTS / "captures" / "vllm-0.32.0-cpu.metrics").read_bytes()
SPANS = (TESTS / "captures" / "vllm-0.32.0-llm_request.otlp.pb").read_bytes()
HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
USERS = f"basic_auth_users:\n  prom: {HASH}\n"
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def config(home: Path, text: str) -> Path:
    path = home / "web.yml"
    path.write_text(text)
    return path


def certificate(home: Path, name: str) -> None:
    """A certificate of its own for 127.0.0.1, which is its own authority."""
    files = ["-keyout", home / f"{name}.key", "-out", home / f"{name}.crt"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", *files],
        check=True, capture_output=True,
    )  # fmt: skip


def trusting(home: Path, name: str, client: str = "") -> ssl.SSLContext:
    """A client that trusts one certificate, and perhaps shows one."""
    context = ssl.create_default_context(cafile=home / f"{name}.crt")
    if client:
        context.load_cert_chain(home / f"{client}.crt", home / f"{client}.key")
    return context


@contextlib.contextmanager
def guarded(path: Path, *args: str) -> Iterator[str]:
    with Upstream(PAGE) as engine, running("--engine", engine.url, "--web.config.file", str(path), *args) as (_, url):
        yield url


def status(url: str, verify: ssl.SSLContext | bool = True, **headers: str) -> int:
    return httpx.get(url, headers=headers, verify=verify, trust_env=False).status_code


def test_users_have_passwords_and_probes_need_none(tmp_path: Path) -> None:
    """Nobody, a wrong password, an unknown user: 401 with a challenge; the right one gets the page, probes always."""
    with guarded(config(tmp_path, USERS)) as url, httpx.Client(base_url=url, trust_env=False) as client:
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
        refused = client.get("/metrics")
        assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, 'Basic realm="slo-exporter"')
        for user, password in (("prom", "wrong"), ("nobody", "secret"), ("prom", ""), ("prom", "x" * 100), ("", "")):
            assert client.get("/metrics", auth=(user, password)).status_code == 401
        for given in ("Basic", "Basic ***", "Basic " + "A" * 5, "Bearer secret", "Basic /w=="):
            assert client.get("/metrics", headers={"Authorization": given}).status_code == 401
        for _ in range(2):  # the second time from memory
            assert client.get("/metrics", auth=("prom", "secret")).status_code == 200
        assert client.post("/v1/traces", content=SPANS).status_code == 401


def test_spans_need_the_token_and_pages_do_not(tmp_path: Path) -> None:
    """With a token the senders of spans show it in place of a password; renewed, the new one counts at once."""
    token = tmp_path / "token"
    token.write_text("one\n")
    headers = {"Content-Type": "application/x-protobuf"}
    with Upstream(PAGE) as engine, running("--engine", engine.url, "--otlp-token-file", str(token)) as (_, url):

        def post(given: str) -> int:
            bearer = {"Authorization": f"Bearer {given}"}
            return httpx.post(f"{url}/v1/traces", content=SPANS, headers=headers | bearer, trust_env=False).status_code

        assert status(f"{url}/metrics") == 200
        assert (post("two"), post("on"), post("one")) == (401, 401, 200)
        token.write_text("two\n")
        assert (post("one"), post("two")) == (401, 200)
        rejected = f'{catalog.SPANS_REJECTED.name}{{reason="unauthorized"}} 3.0'
        assert rejected in httpx.get(f"{url}/metrics", trust_env=False).text
        token.unlink()
        assert post("two") == 401


@needs_openssl
def test_tls_with_a_certificate_that_is_renewed(tmp_path: Path) -> None:
    """The page comes over TLS; a renewed certificate is served from the next connection on, without a restart."""
    for name in ("tls", "new"):
        certificate(tmp_path, name)
    text = (
        "tls_server_config:\n  cert_file: tls.crt\n  key_file: tls.key\nhttp_server_config:\n  headers:\n    X-A: b\n"
    )
    with guarded(config(tmp_path, text)) as url:
        assert url.startswith("https://")
        answer = httpx.get(f"{url}/metrics", verify=trusting(tmp_path, "tls"), trust_env=False)
        assert (answer.status_code, answer.headers["X-A"]) == (200, "b")
        old = trusting(tmp_path, "tls")
        for end in ("key", "crt"):
            (tmp_path / f"new.{end}").replace(tmp_path / f"tls.{end}")
        assert status(f"{url}/healthz", trusting(tmp_path, "tls")) == 200
        with pytest.raises(httpx.TransportError):
            status(f"{url}/healthz", old)


@needs_openssl
def test_only_clients_with_a_certificate(tmp_path: Path) -> None:
    """RequireAndVerifyClientCert: without one, or with another's, there is no answer at all."""
    for name in ("tls", "client", "stranger"):
        certificate(tmp_path, name)
    text = """tls_server_config:
  cert_file: tls.crt
  key_file: tls.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: client.crt
  min_version: TLS13
"""
    with guarded(config(tmp_path, text)) as url:
        assert status(f"{url}/metrics", trusting(tmp_path, "tls", "client")) == 200
        for wrong in ("", "stranger"):
            with pytest.raises(httpx.TransportError):
                status(f"{url}/metrics", trusting(tmp_path, "tls", wrong))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tls_config: {}", ":1: unknown key 'tls_config'; did you mean 'tls_server_config'?"),
        ("basic_auth_users:\n  a: plain", ":2: the password of 'a' is no bcrypt hash; make one with"),
        ("tls_server_config:\n  cert_file: /none\n  key_file: /none", ":2: /none: cannot be read: No such file"),
        ("tls_server_config:\n  cert_file: web.yml\n  key_file: web.yml", ":2: these certificates cannot be used"),
        ("tls_server_config:\n  key_file: web.yml", ":2: 'cert_file' is missing"),
        ("tls_server_config:\n  cert_file: web.yml\n  key_file: web.yml\n  client_ca_file: web.yml", "goes with"),
        ("tls_server_config:\n  cert_file: web.yml\n  key_file: web.yml\n  min_version: TLS10", ":4: 'TLS10' is not"),
        ("http_server_config:\n  http2: true", ":2: 'true' is not supported here; use one of false"),
        ("rate_limit:\n  burst: 1", ":1: unknown key 'rate_limit'"),
        ("{", "not valid YAML"),
    ],
)
def test_what_is_wrong_in_the_file_is_located(tmp_path: Path, text: str, said: str) -> None:
    """Every mistake is one line: file, line, what, and what is known instead. Nothing is silently left unguarded."""
    with pytest.raises(SpecError) as refused:
        web.load(config(tmp_path, text))
    assert str(refused.value).startswith(str(tmp_path / "web.yml"))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_token_file_that_says_nothing_is_refused(tmp_path: Path) -> None:
    """No file and an empty one are mistakes of the user, said at once."""
    (tmp_path / "empty").write_text("\n")
    for name in ("empty", "none"):
        with pytest.raises(UsageError, match=name):
            Access(token_file=tmp_path / name)
