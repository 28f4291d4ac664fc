"""The rules of Grafana's dashboard-linter, with the exclusions that users of the linter get in dashboards/.lint."""

from collections.abc import Callable, Iterator
from pathlib import Path

import promql_parser
import pytest
import yaml
from boards_as_read import BOARDS, RATE_INTERVAL, Board, nodes, panels, queries, selectors

LINT = yaml.safe_load((Path(__file__).parents[2] / "dashboards" / ".lint").read_text(encoding="utf-8"))
# The units we use, of those that the linter knows.
UNITS = {"none", "short", "percentunit", "s", "bytes", "Bps", "watt", "joule", "celsius", "hertz", "reqps", "cps"}
LINTED = ("stat", "timeseries", "table")

# What breaks a rule: the title of a panel, or empty for the board itself.
Broken = Iterator[str]


def _queries(board: Board) -> list[Board]:
    return [v for v in board["templating"]["list"] if v["type"] == "query"]


def template_datasource(board: Board) -> Broken:
    """Exactly one data source to choose, called and labelled as everywhere."""
    sources = [v for v in board["templating"]["list"] if v["type"] == "datasource"]
    if [(v["name"], v["label"], v["query"]) for v in sources] != [("datasource", "Data source", "prometheus")]:
        yield ""


def template_variable(name: str) -> Callable[[Board], Broken]:
    """A variable `name` that allows several values, and all of them by a regular expression that is never empty."""

    def rule(board: Board) -> Broken:
        found = [v for v in _queries(board) if v["name"] == name]
        wanted = (name.title(), True, ".+", "${datasource}")
        if [(v["label"], v["multi"], v["allValue"], v["datasource"]["uid"]) for v in found] != [wanted]:
            yield ""

    return rule


def template_query(board: Board) -> Broken:
    """Variables ask for label values of a selector that parses."""
    for variable in _queries(board):
        function, _, argument = variable["query"].rstrip(")").partition("(")
        selector = argument.rpartition(",")[0]
        if function != "label_values" or not selectors(selector):
            yield ""


def template_reload(board: Board) -> Broken:
    """Variables are read again when the time range changes."""
    if any(variable["refresh"] != 2 for variable in _queries(board)):
        yield ""


def panel_datasource(board: Board) -> Broken:
    """Panels use the data source that was chosen."""
    return (panel["title"] for panel in panels(board) if panel["datasource"]["uid"] != "${datasource}")


def panel_title_description(board: Board) -> Broken:
    """Panels have a title and a description."""
    return (panel["title"] for panel in panels(board) if not (panel["title"] and panel["description"]))


def panel_units(board: Board) -> Broken:
    """Units are known ones, unless words stand in for the values. Tables set them per column."""
    for panel in panels(board):
        defaults = panel["fieldConfig"]["defaults"]
        if panel["type"] in ("stat", "timeseries") and not defaults.get("mappings") and defaults["unit"] not in UNITS:
            yield panel["title"]


def panel_targets(board: Board) -> Broken:
    """Panels ask for something."""
    return (panel["title"] for panel in panels(board) if not panel["targets"])


def rate_interval(board: Board) -> Broken:
    """Rates use Grafana's interval, which fits scrape interval and zoom."""
    for where, expr in queries(board):
        for call in _rates(expr):
            if call.args[0].range != promql_parser.parse_duration(RATE_INTERVAL):
                yield where


def counters_are_rated(board: Board) -> Broken:
    """A counter shows only as a rate."""
    for where, expr in queries(board):
        rated = [s.name for call in _rates(expr) for s in selectors(str(call.args[0]))]
        counters = [s.name for s in selectors(expr) if s.name.endswith(("_total", "_bucket", "_sum", "_count"))]
        if sorted(rated) != sorted(counters):
            yield where


def target_matcher(label: str) -> Callable[[Board], Broken]:
    """Every selector of a panel is narrowed by the variable `label`."""

    def rule(board: Board) -> Broken:
        for panel in panels(board):
            for target in panel["targets"]:
                if target["expr"].count(f'{label}=~"${label}"') != len(selectors(target["expr"])):
                    yield panel["title"]

    return rule


def uneditable(board: Board) -> Broken:
    """A change made in Grafana would be lost at the next build."""
    if board["editable"] is not False:
        yield ""


def _rates(expr: str) -> list[promql_parser.Call]:
    rates = ("rate", "irate", "increase")
    return [node for node in nodes(expr) if isinstance(node, promql_parser.Call) and node.func.name in rates]


RULES: dict[str, Callable[[Board], Broken]] = {
    "template-datasource-rule": template_datasource,
    "template-job-rule": template_variable("job"),
    "template-instance-rule": template_variable("instance"),
    "template-label-promql-rule": template_query,
    "template-on-time-change-reload-rule": template_reload,
    "panel-datasource-rule": panel_datasource,
    "panel-title-description-rule": panel_title_description,
    "panel-units-rule": panel_units,
    "panel-no-targets-rule": panel_targets,
    "target-rate-interval-rule": rate_interval,
    "target-counter-agg-rule": counters_are_rated,
    "target-job-rule": target_matcher("job"),
    "target-instance-rule": target_matcher("instance"),
    "uneditable-dashboard": uneditable,
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS.keys())
def test_rule(rule: str, board: Board) -> None:
    """The board breaks the rule nowhere but where dashboards/.lint says so."""
    assert [where for where in RULES[rule](board) if not _excluded(rule, board, where)] == []


def test_exclusions_are_needed() -> None:
    """Every exclusion has a reason and names a board, and a panel where it does, that does break the rule."""
    for rule, exclusion in LINT["exclusions"].items():
        assert exclusion["reason"]
        broken = {(board["title"], where) for board in BOARDS.values() for where in RULES[rule](board)}
        for entry in exclusion["entries"]:
            assert any(_matches(entry, title, where) for title, where in broken), entry


def _excluded(rule: str, board: Board, where: str) -> bool:
    entries = LINT["exclusions"].get(rule, {"entries": []})["entries"]
    return any(_matches(entry, board["title"], where) for entry in entries)


def _matches(entry: dict[str, str], title: str, where: str) -> bool:
    return entry["dashboard"] == title and entry.get("panel", where) == where
