"""The dashboards as their JSON says them, and their expressions as Prometheus would get them."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import promql_parser

from slo import render
from slo.boards.dashboards import boards
from slo.spec.model import load

SPECS = Path(__file__).parents[2] / "slo" / "specs"
RATE_INTERVAL = "4m11s"

Board = dict[str, Any]
BOARDS: dict[str, Board] = {
    name: json.loads(render.dashboard(model))
    for name, model in boards([load(SPECS / "chat.yaml"), load(SPECS / "batch.yaml")]).items()
}

# Nothing chosen: every variable stands for all there is, and the board of one SLO for the first.
CHOSEN: dict[str, str] = {
    v["name"]: v["allValue"] for b in BOARDS.values() for v in b["templating"]["list"] if v["multi"]
}
CHOSEN |= {"__rate_interval": RATE_INTERVAL, "__range": "1h", "slo": "chat-ttft"}


def panels(board: Board) -> list[Board]:
    """The panels that show something: all but the row headings."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def queries(board: Board) -> Iterator[tuple[str, str]]:
    """(title, expression) of every target of every panel."""
    for panel in panels(board):
        yield from ((panel["title"], target["expr"]) for target in panel["targets"])


def expressions(board: Board) -> Iterator[tuple[str, str]]:
    """(where, expression) of every panel and annotation."""
    yield from queries(board)
    yield from ((annotation["name"], annotation["expr"]) for annotation in board["annotations"]["list"])


def substituted(expr: str, chosen: Mapping[str, str] = CHOSEN) -> str:
    """The expression after Grafana's variables, those of `chosen` first; KeyError for one that no board has."""
    return re.sub(r"\$(\w+)", lambda match: (CHOSEN | chosen)[match[1]], expr)


def nodes(expr: str) -> list[promql_parser.Expr]:
    """Every node of the parsed expression."""
    found: list[promql_parser.Expr] = []
    promql_parser.walk(promql_parser.parse(substituted(expr)), found.append)
    return found


def selectors(expr: str) -> list[promql_parser.VectorSelector]:
    """Every selector of the expression."""
    return [node for node in nodes(expr) if isinstance(node, promql_parser.VectorSelector)]
