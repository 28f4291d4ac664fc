"""Pushing boards, against a small Grafana on a real socket."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from small_servers import serving

from slo.cli import main

SPEC = str(Path(__file__).parents[2] / "slo" / "specs" / "chat.yaml")
TOKEN = "glsa_secret"


class Grafana(ThreadingHTTPServer):
    """Keeps folders and dashboards; answers everything with `status` when that is set."""

    def __init__(self, status: int | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = status
        self.folders: dict[str, str] = {}
        self.dashboards: dict[str, dict[str, Any]] = {}
        self.stored: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Grafana

    def do_GET(self) -> None:
        uid = self.path.rpartition("/")[2]
        if self.path.startswith("/api/folders"):
            self._answer([{"uid": uid, "title": title} for uid, title in self.server.folders.items()])
        elif uid in self.server.dashboards:
            body = self.server.dashboards[uid]
            stored = {**body["dashboard"], "id": 7, "version": len(self.server.stored)}
            self._answer({"dashboard": stored, "meta": {"folderUid": body["folderUid"]}})
        else:
            self._answer({"message": "Dashboard not found"}, 404)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.headers["authorization"] != f"Bearer {TOKEN}":
            self._answer({"message": "unauthorized"}, 401)
        elif self.path.startswith("/api/folders"):
            self.server.folders[body["uid"]] = body["title"]
            self._answer(body)
        else:
            uid = body["dashboard"]["uid"]
            self.server.dashboards[uid] = body
            self.server.stored.append(uid)
            self._answer({"uid": uid, "url": f"/d/{uid}", "status": "success"})

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
def grafana(status: int | None = None) -> Iterator[Grafana]:
    server = Grafana(status)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


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


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize(
    ("status", "said"), [(401, "token is not accepted"), (403, "Editor role"), (404, "root URL"), (412, "provisioned")]
)
def test_refusals_say_what_to_do(status: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each status that Grafana refuses with becomes one line with a way out, and exit code 2."""
    with grafana(status) as server:
        assert main(["push", SPEC, "--grafana", server.url]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


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
def test_a_page_in_place_of_an_api_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A proxy that answers everything with a log-in page is not taken for a Grafana."""
    with serving(lambda *_: (200, "<html>Log in</html>")) as url:
        assert main(["push", SPEC, "--grafana", url]) == 2
    assert "not as Grafana does" in capsys.readouterr().err
