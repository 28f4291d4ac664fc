"""Pushing boards, against a small Grafana on a real socket."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from slo.cli import main

SPEC = str(Path(__file__).parents[2] / "slo" / "specs" / "chat.yaml")
TOKEN = "glsa_secret"


class Grafana(ThreadingHTTPServer):
    """Keeps folders and dashboards; answers everything with `status` when that is set."""

    def __init__(self, status: int | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = status
        self.folders: dict[str, str] = {}
        self.dashboards: dict[str, dict[str, object]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Grafana

    def do_GET(self) -> None:
        self._answer([{"uid": uid, "title": title} for uid, title in self.server.folders.items()])

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
    """Every board is stored under its uid in our folder; pushing again adds nothing and prints no token."""
    with grafana() as server:
        assert main(["push", SPEC, "--grafana", server.url]) == 0
        first = dict(server.dashboards)
        assert main(["push", SPEC, "--grafana", server.url]) == 0
    assert server.folders == {"llm-slo": "LLM SLOs"}
    assert set(first) == {f"llm-slo-{name}" for name in ("fleet", "engine", "gpu", "slo", "load")}
    assert server.dashboards == first
    assert all(body["folderUid"] == "llm-slo" and body["overwrite"] for body in first.values())
    out, err = capsys.readouterr()
    assert f"pushed {server.url}/d/llm-slo-slo" in out
    assert TOKEN not in out + err


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
def test_an_unreachable_grafana_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody listening is one line and exit code 2."""
    assert main(["push", SPEC, "--grafana", "http://127.0.0.1:9"]) == 2
    err = capsys.readouterr().err
    assert "cannot be reached" in err
    assert err.count("\n") == 1
