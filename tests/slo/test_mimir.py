"""Pushing rules, against a small Mimir ruler on a real socket."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml
from small_servers import serving

from slo.cli import main

SPEC = str(Path(__file__).parents[2] / "slo" / "specs" / "chat.yaml")
ROOT = "/prometheus/config/v1/rules/"


class Ruler:
    """What Mimir's ruler API does: one group a request, tenants apart, 404 for an empty namespace.

    As Mimir does, it hands groups back with durations and empty fields written its own way.
    """

    def __init__(self, refuse: int | None = None) -> None:
        self.refuse = refuse
        self.rules: dict[str, dict[str, dict[str, dict[str, object]]]] = {}
        self.writes: list[str] = []

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, str]:
        if self.refuse:
            return self.refuse, "per-user rule groups limit (limit: 70) exceeded\n"
        if not path.startswith(ROOT):
            return 404, "404 page not found"
        namespace, _, group = map(unquote, path.removeprefix(ROOT).partition("/"))
        groups = self.rules.setdefault(headers.get("x-scope-orgid", "anonymous"), {}).setdefault(namespace, {})
        if method == "GET":
            formatted = [{**group, "source_tenants": []} for group in groups.values()]
            return (200, yaml.safe_dump({namespace: formatted})) if groups else (404, "no rule groups found")
        self.writes.append(f"{method} {group}".strip())
        if method == "DELETE":
            return (202, "") if groups.pop(group, None) else (404, "group does not exist")
        sent = yaml.safe_load(body)
        rules = [{**rule, "for": rule.get("for", "0s")} for rule in sent["rules"]]
        groups[sent["name"]] = {**sent, "interval": "60s" if sent["interval"] == "1m" else sent["interval"]}
        groups[sent["name"]]["rules"] = rules
        return 202, '{"status":"success","data":null,"errorType":"","error":""}'


@pytest.fixture
def ruler() -> Ruler:
    return Ruler()


@pytest.fixture
def url(ruler: Ruler) -> Iterator[str]:
    with serving(ruler.answer) as url:
        yield url


def test_groups_arrive_and_twice_is_once(ruler: Ruler, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every group of the rule files arrives in the tenant's namespace, one a request; a second push writes nothing."""
    push = ["push", SPEC, "--mimir", url, "--tenant", "team-a", "--json"]
    assert main(push) == 0
    created = json.loads(capsys.readouterr().out)["changes"]
    written = len(ruler.writes)
    assert main(push) == 0
    assert json.loads(capsys.readouterr().out) == {"dry_run": False, "changes": []}
    assert len(ruler.writes) == written == len(created)
    assert set(ruler.rules) == {"team-a"}
    groups = ruler.rules["team-a"]["llm-slo"]
    assert {change["group"] for change in created} == set(groups) > {"llm-slo-chat-1m-1", "llm-health-1m-1"}
    assert "slo:good:rate5m" in [rule.get("record") for rule in groups["llm-slo-chat-1m-1"]["rules"]]  # type: ignore[attr-defined]
    assert all(len(group["rules"]) <= 20 for group in groups.values())  # type: ignore[arg-type]


def test_what_changed_is_put_right_and_what_is_gone_goes(
    ruler: Ruler, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An edited group is written again, a foreign one deleted, after all others are in place; the rest is left be."""
    assert main(["push", SPEC, "--mimir", url, "--namespace", "llm/slo"]) == 0
    groups = ruler.rules["anonymous"]["llm/slo"]
    groups["llm-slo-chat-1m-1"]["interval"] = "5m"
    groups["old group"] = {"name": "old group", "interval": "1m", "rules": [{"record": "a", "expr": "1"}]}
    ruler.writes.clear()
    capsys.readouterr()
    assert main(["push", SPEC, "--mimir", url, "--namespace", "llm/slo"]) == 0
    assert ruler.writes == ["POST", "DELETE old group"]
    assert capsys.readouterr().out.splitlines() == ["updated llm-slo-chat-1m-1", "deleted old group"]
    assert groups["llm-slo-chat-1m-1"]["interval"] == "60s"


def test_a_dry_run_shows_the_diff_and_writes_nothing(
    ruler: Ruler, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """--dry-run tells each change with its lines."""
    assert main(["push", SPEC, "--mimir", url]) == 0
    ruler.rules["anonymous"]["llm-slo"]["llm-slo-chat-1m-1"]["interval"] = "5m"
    ruler.writes.clear()
    capsys.readouterr()
    assert main(["push", SPEC, "--mimir", url, "--dry-run"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "would update llm-slo-chat-1m-1"
    assert {"-interval: 5m", "+interval: 1m"} <= set(told)
    assert ruler.writes == []


@pytest.mark.parametrize(
    ("status", "said"),
    [(401, "MIMIR_TOKEN"), (403, "may not write"), (404, "ruler enabled"), (400, "rule groups limit (limit: 70)")],
)
def test_refusals_say_what_to_do(status: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each refusal becomes one line with Mimir's reason or a way out, and exit code 2."""
    ruler = Ruler()

    def writes_refused(method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, str]:
        ruler.refuse = status if method == "POST" else None
        return ruler.answer(method, path, headers, body)

    with serving(writes_refused) as url:
        assert main(["push", SPEC, "--mimir", url]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "cannot create the group llm-slo-chat-1m-1: http" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("body", ["<html>", "[]", "a: b", "a: [b]", "a: {b: c}\nd: {}", "x: [", "", "7"])
def test_what_is_no_mimir(body: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Something else that answers 200 is one line."""
    with serving(lambda *_: (200, body)) as url:
        assert main(["push", SPEC, "--mimir", url, "--dry-run"]) == 2
    assert "holds no rule groups of Mimir" in capsys.readouterr().err


def test_a_wrong_path_is_no_empty_mimir(capsys: pytest.CaptureFixture[str]) -> None:
    """A 404 of something else is not taken for a namespace without groups, not even in a dry run."""
    with serving(lambda *_: (404, "404 page not found")) as url:
        assert main(["push", SPEC, "--mimir", url, "--dry-run"]) == 2
    assert "no ruler API there" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["http://me:secret@127.0.0.1:9", "localhost:8080", "http://[::1"])
def test_nobody_there(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No listener and no URL are one line, and a password in the URL is not in it."""
    assert main(["push", SPEC, "--mimir", url]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "secret" not in err


def test_one_place_at_a_time() -> None:
    """Neither and both of --grafana and --mimir are bad usage."""
    for to in ([], ["--grafana", "http://g", "--mimir", "http://m"]):
        with pytest.raises(SystemExit) as ended:
            main(["push", SPEC, *to])
        assert ended.value.code == 2
