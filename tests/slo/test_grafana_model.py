"""What Grafana takes for granted in a dashboard model and says nothing of: it shows an empty or a wrong panel."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from boards_as_read import BOARDS, Board, expressions, panels

each_board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS.keys())

CHOSEN_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
BUILT_IN = {"__rate_interval", "__range", "__url_time_range", "__value", "datasource"}


def _variables(board: Board) -> list[Board]:
    return [v for v in board["templating"]["list"] if v["type"] == "query"]


def _named(text: str) -> set[str]:
    """The variables that a text refers to."""
    return {name for pair in re.findall(r"\$(\w+)|\$\{(\w+)", text) for name in pair if name}


def _overrides(panel: Board, matcher: str) -> Iterator[str]:
    for override in panel["fieldConfig"]["overrides"]:
        if override["matcher"]["id"] == matcher:
            yield override["matcher"]["options"]


def _transformations(panel: Board, name: str) -> list[Any]:
    return [t["options"] for t in panel["transformations"] if t["id"] == name]


def test_a_board_can_be_imported_and_provisioned() -> None:
    """No id of another Grafana, a uid that URLs and the API take, and a title of its own in the folder."""
    for board in BOARDS.values():
        assert {"id", "version", "__inputs", "__requires"}.isdisjoint(board)
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", board["uid"])
        assert json.loads(json.dumps({"dashboard": board, "folderUid": "x", "overwrite": True}))["dashboard"] == board
    titles = [board["title"].lower() for board in BOARDS.values()]
    assert len(set(titles)) == len(titles)


@each_board
def test_everything_asks_the_chosen_data_source(board: Board) -> None:
    """Panels, their queries, variables and annotations: none is bound to a data source of ours."""
    asking = [*panels(board), *_variables(board), *board["annotations"]["list"]]
    asking += [target for panel in panels(board) for target in panel["targets"]]
    assert [thing for thing in asking if thing["datasource"] != CHOSEN_SOURCE] == []
    assert board["templating"]["list"][0]["name"] == "datasource"


@each_board
def test_panels_and_queries_can_be_told_apart(board: Board) -> None:
    """Titles are unique on a board, and the names of queries in a panel."""
    titles = [panel["title"] for panel in panels(board)]
    assert len(set(titles)) == len(titles)
    for panel in panels(board):
        names = [target["refId"] for target in panel["targets"]]
        assert len(set(names)) == len(names), panel["title"]


@each_board
def test_variables_are_there_before_they_are_asked_for(board: Board) -> None:
    """Each `$name` of a query is a variable of the board; a variable depends only on those to its left."""
    known = set(BUILT_IN)
    for variable in _variables(board):
        assert _named(variable["query"]) <= known, variable["name"]
        assert variable["query"] == variable["definition"]
        known.add(variable["name"])
    for where, expr in expressions(board):
        assert _named(expr) <= known, where


@each_board
def test_variables_begin_with_all(board: Board) -> None:
    """A choice of several offers All, is set to it, and All stands for absent labels too: `.*`."""
    for variable in _variables(board):
        assert variable["includeAll"] == variable["multi"]
        if variable["multi"]:
            assert (variable["allValue"], variable["current"]["value"]) == (".*", ["$__all"])


@each_board
def test_links_pass_every_choice_on(board: Board) -> None:
    """A link from a cell names each variable once, and the time range."""
    for panel in panels(board):
        for override in panel["fieldConfig"]["overrides"]:
            for url in (link["url"] for p in override["properties"] if p["id"] == "links" for link in p["value"]):
                passed = re.findall(r"\$\{(\w+):queryparam\}|var-(\w+)=", url)
                names = [one or other for one, other in passed]
                assert len(set(names)) == len(names)
                assert {"datasource", "namespace", "job", "instance", "pod", "model_name", "engine"} <= set(names)
                assert "${__url_time_range}" in url


@each_board
def test_fields_are_called_what_the_query_gives(board: Board) -> None:
    """Renaming, sorting, axes and settings of single fields find them: a wrong name is silently ignored."""
    for panel in panels(board):
        refs = {target["refId"] for target in panel["targets"]}
        assert set(_overrides(panel, "byFrameRefID")) <= refs
        if panel["type"] not in ("table", "trend"):
            continue
        assert len(refs) > 1, "of one query the field is called Value, without a letter"
        [organize] = _transformations(panel, "organize")
        values = {name for name in organize["renameByName"] if name.startswith("Value #")}
        assert values == {f"Value #{ref}" for ref in refs}
        headings = set(organize["renameByName"].values())
        assert len(headings) == len(organize["renameByName"])
        wanted = [*_overrides(panel, "byName"), *(s["displayName"] for s in panel["options"].get("sortBy", []))]
        wanted += [s["field"] for options in _transformations(panel, "sortBy") for s in options["sort"]]
        wanted += [panel["options"]["xField"]] if panel["type"] == "trend" else []
        assert set(wanted) <= headings, panel["title"]


@each_board
def test_heatmaps_get_buckets(board: Board) -> None:
    """Buckets as they are, per `le` and cumulative: Grafana tells them apart by format, sorts them by legend."""
    for panel in panels(board):
        if panel["type"] == "heatmap":
            [target] = panel["targets"]
            assert (target["format"], target["legendFormat"], panel["options"]["calculate"]) == (
                "heatmap",
                "{{le}}",
                False,
            )
            assert target["expr"].startswith("sum by (le) (")
