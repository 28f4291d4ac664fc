"""The boards as Grafana and Prometheus read them: fields, layout, names and links."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import promql_parser
import pytest
from boards_as_read import BOARDS, SPECS, Board, expressions, panels, selectors, substituted
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from slo import catalog, render
from slo.boards.dashboards import boards
from slo.catalog import Kind
from slo.rules import latency, recorded
from slo.spec.model import load
from slo.windows import BURN_ALERTS

each_board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS.keys())

RECORDED = {value for name, value in vars(recorded).items() if name.isupper() and isinstance(value, str)}
RECORDED |= {recorded.buckets(metric) for metric in (*latency.ENGINE_SIDE, *latency.CLIENT_SIDE)}
RECORDED |= {recorded.burn_rate(window) for window in ("5m", "30m", "1h", "2h", "6h", "1d", "3d")}


def _exported_names() -> Iterator[str]:
    for metric in catalog.families():
        suffixes = ("_bucket", "_sum", "_count") if metric.kind == Kind.HISTOGRAM else ("",)
        yield from (metric.name + suffix for suffix in suffixes)


@each_board
def test_every_expression_parses(board: Board) -> None:
    """An independent PromQL parser takes every expression, once Grafana's variables are filled in."""
    for _, expr in expressions(board):
        promql_parser.parse(substituted(expr))


@each_board
def test_every_name_exists(board: Board) -> None:
    """A panel asks only for what the sidecar exports, the rules record, or Prometheus itself keeps (ALERTS)."""
    known = {*_exported_names(), *RECORDED, "ALERTS"}
    asked = {selector.name for _, expr in expressions(board) for selector in selectors(expr)}
    assert asked - known == set()


@each_board
def test_labels_exist_on_the_family(board: Board) -> None:
    """Every matcher and grouping on a raw family names a label of that family, or one that scraping adds."""
    added = {"namespace", "job", "instance", "pod", "le", "some_chosen"}
    families = {name: metric for metric in catalog.families() for name in (metric.name, f"{metric.name}_bucket")}
    for where, expr in expressions(board):
        for selector in selectors(expr):
            if selector.name in families:
                labels = {matcher.name for matcher in selector.matchers.matchers}
                assert labels <= {*families[selector.name].labels, *added}, where


@each_board
def test_panels_tell_what_they_show(board: Board) -> None:
    """Title, description, unit and at least one target on every panel."""
    for panel in panels(board):
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["targets"]
        assert all(_units(panel))


def _units(panel: Board) -> list[str]:
    if panel["type"] == "heatmap":
        return [panel["options"]["yAxis"]["unit"], panel["options"]["cellValues"]["unit"]]
    if panel["type"] in ("table", "trend"):
        settings = [{p["id"]: p["value"] for p in o["properties"]} for o in panel["fieldConfig"]["overrides"]]
        units = [s["unit"] for s in settings if "unit" in s]
        return units if len(units) == len(panel["targets"]) else [""]
    return [panel["fieldConfig"]["defaults"]["unit"]]


@each_board
def test_exemplars_are_asked_for_where_grafana_does(board: Board) -> None:
    """Exemplars are of the first query of a panel, else Grafana skips them, over time, and of raw buckets."""
    for panel in panels(board):
        first, *others = panel["targets"]
        assert not any(target["exemplar"] for target in others), panel["title"]
        if first["exemplar"]:
            assert first["range"]
            assert any(name in _exported_names() for name in re.findall(r"\w+_bucket(?={)", first["expr"]))


@each_board
def test_layout(board: Board) -> None:
    """No two panels overlap, none leaves the 24 columns, and ids are unique."""
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        grid = panel["gridPos"]
        cells = {
            (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))


@each_board
def test_colors_never_speak_alone(board: Board) -> None:
    """Every coloured state has a text of its own, and no two states of a panel share one."""
    for mapping in _found(board, "mappings"):
        texts = [option["text"] for item in mapping for option in item["options"].values()]
        assert len(texts) == len(set(texts))
        assert all(texts)


@each_board
def test_only_portable_panels(board: Board) -> None:
    """Panel types of Grafana's core, no inputs to fill in at import, and a schema that Grafana 10.3 to 13 read."""
    assert {p["type"] for p in panels(board)} <= {
        "timeseries", "stat", "table", "heatmap", "bargauge", "state-timeline", "trend",
    }  # fmt: skip
    assert "__inputs" not in board
    assert 39 <= board["schemaVersion"] <= 42


@each_board
@pytest.mark.filterwarnings("ignore:Prefer using dashboardv2:DeprecationWarning")
def test_grafana_knows_every_field(board: Board) -> None:
    """Grafana's published types read the board without dropping anything: a mistyped option would be lost."""
    from grafana_foundation_sdk.models.dashboard import Dashboard as GrafanaDashboard  # warns when imported

    plugins.register_default_plugins()
    encoded = JSONEncoder(sort_keys=True).encode(GrafanaDashboard.from_json(json.loads(json.dumps(board))))
    assert list(_lost(board, json.loads(encoded))) == []


def _lost(ours: Any, theirs: Any, path: str = "") -> Iterator[str]:
    if isinstance(ours, dict):
        for key, value in ours.items():
            # Grafana's encoder leaves out what is empty.
            if value not in (None, [], {}, False, ""):
                yield from _lost(value, theirs.get(key), f"{path}.{key}") if key in theirs else (f"{path}.{key}",)
    elif isinstance(ours, list):
        for i, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from _lost(one, other, f"{path}[{i}]")
    elif ours != theirs:
        yield path


def _found(node: Any, key: str) -> Iterator[Any]:
    """Every value under `key`, at any depth, also where an override sets it by its id."""
    if isinstance(node, dict):
        if node.get("id") == key:
            yield node["value"]
        for name, value in node.items():
            if name == key:
                yield value
            yield from _found(value, key)
    elif isinstance(node, list):
        for item in node:
            yield from _found(item, key)


def test_boards_reach_each_other() -> None:
    """Uids are unique, every cell link leads to one of them, and tag links keep variables and time."""
    uids = [board["uid"] for board in BOARDS.values()]
    assert len(set(uids)) == len(uids)
    for board in BOARDS.values():
        links = [link["url"] for links in _found(board["panels"], "links") for link in links]
        assert {re.match(r"/d/([^?]+)\?", url)[1] for url in links} <= set(uids)
        [tagged] = board["links"]
        assert (tagged["tags"], tagged["includeVars"], tagged["keepTime"]) == (["llm-slo"], True, True)


def test_same_specs_same_bytes() -> None:
    """Building twice gives the same text."""
    specs = [load(SPECS / "chat.yaml"), load(SPECS / "batch.yaml")]
    once, again = ({n: render.dashboard(m) for n, m in boards(specs).items()} for _ in range(2))
    assert once == again


def test_thresholds_of_the_specs_are_drawn() -> None:
    """The TTFT panel draws the threshold of the spec's TTFT SLO and names it in words."""
    [panel] = [p for p in panels(BOARDS["engine.json"]) if p["title"] == "TTFT quantiles"]
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert [step["value"] for step in steps] == [None, 0.25]
    assert "0.25 s (chat-ttft, chat-goodput)" in panel["description"]


def test_every_alert_window_is_drawn() -> None:
    """Each burn alert shows its two windows and a dashed line at its factor, for every period in use."""
    targets = [t for p in panels(BOARDS["slo.json"]) if p["title"].endswith(" windows") for t in p["targets"]]
    for alert in BURN_ALERTS:
        for period in (28, 30):
            factor = recorded.burn_factor(alert, period * 86_400)
            assert any(factor in target["expr"] for target in targets)
    assert len([t for t in targets if "slo:burn_rate:" in t["expr"]]) == 2 * len(BURN_ALERTS)


def test_groups_of_the_specs_are_kept_apart() -> None:
    """A spec that groups by other labels gets them as columns, in legends and in aggregations."""
    spec = replace(load(SPECS / "chat.yaml"), group_by=("model_name", "tenant"))
    built = {name: json.loads(render.dashboard(model)) for name, model in boards([spec]).items()}
    [table] = [p for p in panels(built["fleet.json"]) if p["title"] == "SLOs"]
    assert all("by (slo, model_name, tenant)" in target["expr"] for target in table["targets"])
    [left] = [p for p in panels(built["slo.json"]) if p["title"] == "Error budget left"]
    assert left["targets"][0]["legendFormat"] == "{{model_name}} {{tenant}}"
