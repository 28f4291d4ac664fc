"""Boards as Kubernetes objects: valid, found by what looks for them, and holding the very board."""

import json
from collections.abc import Callable, Mapping

import kubernetes_validate
import pytest
import yaml
from boards_as_read import BOARDS, SPECS, Board

from slo.boards.dashboards import FOLDER
from slo.delivery import artefacts
from slo.delivery.kubernetes import config_map, grafana_dashboard
from slo.spec.model import load

each_board = pytest.mark.parametrize(("name", "board"), BOARDS.items(), ids=BOARDS.keys())
# A ConfigMap may hold 1 MiB.
MIB = 2**20


@each_board
def test_config_map(name: str, board: Board) -> None:
    """Kubernetes takes it, the sidecar finds it, and it holds the board, byte for byte the same each time."""
    text = config_map(name.removesuffix(".json"), board)
    found = yaml.safe_load(text)
    kubernetes_validate.validate(found, "1.34", strict=True)
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert found["metadata"]["annotations"] == {"grafana_folder": FOLDER}
    assert json.loads(found["data"][f"llm-slo-{name}"]) == board
    assert len(text.encode()) < MIB


@each_board
def test_grafana_dashboard(name: str, board: Board) -> None:
    """The operator's object says which Grafanas it is for, and holds the board."""
    found = yaml.safe_load(grafana_dashboard(name.removesuffix(".json"), board))
    assert (found["apiVersion"], found["kind"]) == ("grafana.integreatly.org/v1beta1", "GrafanaDashboard")
    assert found["spec"]["instanceSelector"]["matchLabels"] == {"dashboards": "grafana"}
    assert json.loads(found["spec"]["json"]) == board


@pytest.mark.parametrize("rendered", [config_map, grafana_dashboard])
def test_text_survives_yaml(rendered: Callable[[str, Mapping[str, object]], str]) -> None:
    """Quotes, braces, percent signs, tabs and trailing spaces of a board come back as they were."""
    board = {"title": "a: {{b}} \"c\" 'd' # 95 % \\ \t ", "tags": ["- x", "", "é ≤ 250 ms"]}
    found = yaml.safe_load(rendered("odd", board))
    text = found["spec"]["json"] if "spec" in found else found["data"]["llm-slo-odd.json"]
    assert json.loads(text) == board


@pytest.mark.parametrize(("fmt", "kind"), [("operator", "GrafanaDashboard"), ("configmap", "ConfigMap")])
def test_build_writes_objects(fmt: str, kind: str) -> None:
    """The formats of `slo-gen build` that mean Kubernetes give an object per board, and no JSON beside them."""
    files = artefacts.build([load(SPECS / "chat.yaml")], fmt=fmt)
    found = {path: yaml.safe_load(text) for path, text in files.items() if path.startswith("dashboards/")}
    assert set(found) == {f"dashboards/{name.removesuffix('.json')}.yaml" for name in BOARDS}
    assert {item["kind"] for item in found.values()} == {kind}
