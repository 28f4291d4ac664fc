"""Pushing boards, against a small Grafana on a real socket."""

import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from small_servers import serving

from slo.cli import main
from slo.delivery.grafana import Grafana as GrafanaClient
from slo.delivery.grafana import PushError

SPEC = str(Path(__file__).parents[2] / "slo" / "specs" / "chat.yaml")
TOKEN = "glsa_secret"
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


class Grafana(ThreadingHTTPServer):
    """Keeps folders and dashboards below `path`; answers everything with `status` when that is set."""

    def __init__(self, status: int | None = None, path: str = "") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.path = status, path
        self.folders: dict[str, str] = {}
        self.dashboards: dict[str, dict[str, Any]] = {}
        self.stored: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{self.path}"


class Handler(BaseHTTPRequestHandler):
    server: Grafana

    def do_GET(self) -> None:
        uid = self.path.rpartition("/")[2]
        if self.path.startswith(f"{self.server.path}/api/folders"):
            self._answer([{"uid": uid, "title": title} for uid, title in self.server.folders.items()])
        elif uid in self.server.dashboards:
            body = self.server.dashboards[uid]
            stored = {**body["dashboard"], "id": 7, "version": len(self.server.stored)}
            self._answer({"dashboard": stored, "meta": {"folderUid": body["folderUid"], **body.get("meta", {})}})
        else:
            self._answer({"message": "Dashboard not found"}, 404)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.headers["authorization"] != f"Bearer {TOKEN}":
            self._answer({"message": "unauthorized"}, 401)
        elif self.path.startswith(f"{self.server.path}/api/folders"):
            self.server.folders[body["uid"]] = body["title"]
            self._answer(body)
        elif not self.path.startswith(f"{self.server.path}/api/dashboards/db"):
            self._answer({"message": "Not found"}, 404)
        elif self._twin(body):
            self._answer({"message": "A dashboard with the same name in the folder already exists"}, 412)
        else:
            uid = body["dashboard"]["uid"]
            self.server.dashboards[uid] = body
            self.server.stored.append(uid)
            self._answer({"uid": uid, "url": f"{self.server.path}/d/{uid}", "status": "success"})

    def _twin(self, body: dict[str, Any]) -> bool:
        """Whether another dashboard of the folder has the title, while the uid is taken elsewhere, too."""
        titles = {(b["folderUid"], b["dashboard"]["title"]) for b in self.server.dashboards.values()}
        known = body["dashboard"]["uid"] in self.server.dashboards
        return known and (body["folderUid"], body["dashboard"]["title"]) in titles

    def _answer(self, data: object, status: int = 200) -> None:
        payload = json.dumps({"message": "no"} if self.server.status else data).encode()
        self.send_response(self.server.status or status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextmanager
def grafana(status: int | None = None, path: str = "") -> Iterator[Grafana]:
    server = Grafana(status, path)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def certificate(home: Path) -> None:
    """A certificate for 127.0.0.1 that nobody else has signed."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
               "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
               "-keyout", str(home / "tls.key"), "-out", str(home / "tls.crt")]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFANA_TOKEN", TOKEN)


@pytest.mark.usefixtures("token")
def test_boards_arrive_in_their_folder_and_twice_is_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Every board is stored under its uid in our folder; pushing again stores nothing and no token is printed."""
    with grafana() as server:
        assert main(["push", SPEC, "--grafana", server.url]) == 0
        out = capsys.readouterr()
        assert main(["push", SPEC, "--grafana", server.url]) == 0
        again = capsys.readouterr()
    assert server.folders == {"llm-slo": "LLM SLOs"}
    assert sorted(server.stored) == sorted(f"llm-slo-{name}" for name in ("fleet", "engine", "gpu", "slo", "load"))
    assert all(body["folderUid"] == "llm-slo" and body["overwrite"] for body in server.dashboards.values())
    assert f"created {server.url}/d/llm-slo-slo" in out.out
    assert again.out == "5 dashboards are there already, as wanted\n"
    assert TOKEN not in "".join((*out, *again))


@pytest.mark.usefixtures("token")
def test_only_what_changed_is_stored_again(capsys: pytest.CaptureFixture[str]) -> None:
    """A board that somebody edited, and one that was moved away, come back; a dry run only shows the lines."""
    with grafana() as server:
        main(["push", SPEC, "--grafana", server.url])
        server.dashboards["llm-slo-slo"]["dashboard"]["title"] = "Mine"
        server.dashboards["llm-slo-gpu"]["folderUid"] = "elsewhere"
        server.stored.clear()
        capsys.readouterr()
        assert main(["push", SPEC, "--grafana", server.url, "--dry-run"]) == 0
        assert server.stored == []
        shown = capsys.readouterr().out
        assert main(["push", SPEC, "--grafana", server.url]) == 0
    assert '-  "title": "Mine"' in shown
    assert '+  "title": "LLM SLO / Objective"' in shown
    assert sorted(server.stored) == ["llm-slo-gpu", "llm-slo-slo"]


def test_token_and_data_source_as_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The token may come from a file, and the boards open on the data source of the uid that was given."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    more = ["--token-file", str(tmp_path / "token"), "--datasource", "mimir-eu"]
    with grafana() as server:
        assert main(["push", SPEC, "--grafana", server.url, *more]) == 0
    for body in server.dashboards.values():
        [chosen] = [v for v in body["dashboard"]["templating"]["list"] if v["type"] == "datasource"]
        assert chosen["current"]["value"] == "mimir-eu"
    assert TOKEN not in "".join(capsys.readouterr())


@pytest.mark.parametrize(("token", "said"), [("", "no token"), (None, "cannot be read"), ("a\nb", "no token")])
def test_a_token_file_without_a_token_is_one_line(
    token: str | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing, empty or garbled token file is named before anything is sent."""
    if token is not None:
        (tmp_path / "token").write_text(token)
    assert main(["push", SPEC, "--grafana", "http://127.0.0.1:9", "--token-file", str(tmp_path / "token")]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def refused(url: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr with which a push there ends."""
    assert main(["push", SPEC, "--grafana", url]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert TOKEN not in err
    return err


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize(
    ("status", "said"), [(401, "token is not accepted"), (403, "Editor role"), (404, "root URL"), (500, "500: no")]
)
def test_refusals_say_what_to_do(status: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each status that Grafana refuses with becomes one line with a way out, and exit code 2."""
    with grafana(status) as server:
        assert said in refused(server.url, capsys)


@pytest.mark.usefixtures("token")
def test_a_title_that_is_taken_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Ours lies in another folder, and ours has a board of its title: Grafana refuses, the line says which board."""
    with grafana() as server:
        main(["push", SPEC, "--grafana", server.url])
        server.dashboards["mine"] = json.loads(json.dumps(server.dashboards["llm-slo-gpu"]))
        server.dashboards["llm-slo-gpu"]["folderUid"] = "elsewhere"
        capsys.readouterr()
        err = refused(server.url, capsys)
    assert "asked to store 'LLM SLO / GPU', answered 412: a dashboard of that title has another uid there" in err


@pytest.mark.usefixtures("token")
def test_a_provisioned_board_is_refused_before_anything_is_stored(capsys: pytest.CaptureFixture[str]) -> None:
    """Grafana does not let the API change what comes from a file or a ConfigMap; the line names the file."""
    with grafana() as server:
        board = {"uid": "llm-slo-slo", "title": "x"}
        meta = {"provisioned": True, "provisionedExternalId": "llm-slo-slo.json"}
        server.dashboards["llm-slo-slo"] = {"dashboard": board, "folderUid": "f", "meta": meta}
        assert "has llm-slo-slo from llm-slo-slo.json, and cannot change it" in refused(server.url, capsys)
        assert (server.stored, server.folders) == ([], {})


@pytest.mark.usefixtures("token")
def test_a_folder_of_our_name_is_ours(capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that a chart or a person made under the same name takes the boards, instead of a second one."""
    with grafana() as server:
        server.folders["d3adb33f"] = "LLM SLOs"
        for _ in range(2):
            assert main(["push", SPEC, "--grafana", server.url]) == 0
    assert server.folders == {"d3adb33f": "LLM SLOs"}
    assert {body["folderUid"] for body in server.dashboards.values()} == {"d3adb33f"}
    assert capsys.readouterr().out.endswith("5 dashboards are there already, as wanted\n")


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize("slash", ["", "/"])
def test_grafana_below_a_path(slash: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Behind a proxy Grafana has a path; it is in the addresses that are asked and shown, once."""
    with grafana(path="/team/grafana") as server:
        assert main(["push", SPEC, "--grafana", server.url + slash]) == 0
    assert len(server.stored) == 5
    assert f"created {server.url}/d/llm-slo-slo\n" in capsys.readouterr().out


@needs_openssl
@pytest.mark.usefixtures("token")
def test_a_certificate_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A self-signed certificate is one line that says how to trust it, and then it is trusted."""
    certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    with grafana() as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        url = server.url.replace("http:", "https:")
        assert "cannot be reached: self-signed certificate; have it trusted by REQUESTS_CA_BUNDLE" in refused(
            url, capsys
        )
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "tls.crt"))
        assert main(["push", SPEC, "--grafana", url]) == 0


def test_a_grafana_that_does_not_answer_is_given_up() -> None:
    """A server that takes the request and says nothing is left after the time allowed."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(PushError, match=re.escape(f"{url} has not answered within 0.2 s")):
            GrafanaClient(url, TOKEN, timeout=0.2).present(["llm-slo-slo"])


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:9", "cannot be reached: Connection refused"),
        ("localhost:3000", "is no URL"),
        ("", "is no URL"),
        ("http://[::1", "root URL"),
    ],
)
def test_an_unreachable_grafana_is_one_line(url: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody listening and no URL are one line and exit code 2."""
    assert main(["push", SPEC, "--grafana", url]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize(
    ("status", "page", "said"),
    [
        (200, "<html>Log in</html>", "not as Grafana does"),
        (200, '"a string"', "not as Grafana does"),
        (200, '{"message": "hello"}', "not as Grafana does"),
        (200, "", "not as Grafana does"),
        (502, "<html>\n<h1>Bad gateway</h1>\n</html>", "answered 502: the proxy does not reach Grafana\n"),
        (400, '{"message": "Something\\nodd"}', "answered 400: Something odd\n"),
        (418, "<html>\n</html>", "answered 418: no reason given\n"),
    ],
)
def test_what_is_no_grafana_is_one_line(status: int, page: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A proxy's log-in page, other JSON, nothing at all, an error page: none is taken for a Grafana or printed."""
    with serving(lambda *_: (status, page)) as url:
        assert said in refused(url, capsys)


@pytest.mark.usefixtures("token")
def test_passwords_in_the_url_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """A URL with user and password is shown without them."""
    err = refused("http://user:hunter2@127.0.0.1:9", capsys)
    assert "http://127.0.0.1:9 cannot be reached" in err
    assert "hunter2" not in err
