"""Boards on a live Prometheus: each query asked as Grafana would ask it, and what is wrong with the answers."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from boards_as_read import Board, panels, substituted

from loadgen.demo import stack
from slo import render
from slo.boards.dashboards import boards
from slo.spec.model import load

# Seconds. Rules are evaluated once a second, and scrapes have two: a busy machine must not make them fail.
STEP, LOOK_BACK = 2, 30
CHOSEN = {"__rate_interval": "10s", "__range": f"{LOOK_BACK}s"}

CONFIG = """\
global: {{scrape_interval: 2s, evaluation_interval: 1s}}
rule_files: ["{rules}/*.yaml"]
scrape_configs:
  - job_name: llm-slo
    static_configs: [{{targets: ["{sidecar}"]}}]
  - job_name: slo-load
    static_configs: [{{targets: ["{client}"]}}]
"""


def of_spec(path: Path) -> dict[str, Board]:
    """The boards of one spec, as their JSON says them."""
    return {name: json.loads(render.dashboard(model)) for name, model in boards([load(path)]).items()}


@contextmanager
def prometheus(home: Path, rules: Path, sidecar: str, client: str) -> Iterator[str]:
    """A Prometheus over sidecar and load generator (HOST:PORT each), every rule group evaluated each second."""
    (home / "rules").mkdir()
    for path in rules.glob("*.yaml"):
        (home / "rules" / path.name).write_text(re.sub(r"(?m)^( *interval:) .*", r"\1 1s", path.read_text()))
    config = home / "prometheus.yml"
    config.write_text(CONFIG.format(rules=home / "rules", sidecar=sidecar, client=client))
    listen = f"127.0.0.1:{stack.free_port()}"
    flags = {"config.file": config, "storage.tsdb.path": home / "data", "web.listen-address": listen}
    features = "--enable-feature=exemplar-storage"
    with stack.running(["prometheus", features, *(f"--{k}={v}" for k, v in flags.items())], home / "prometheus.log"):
        stack.wait_for("Prometheus", lambda: stack.answers(f"http://{listen}/-/ready"))
        yield f"http://{listen}"


def value(url: str, expr: str) -> float:
    """The value of an expression without labels to tell apart, 0 where it has none."""
    result = httpx.post(f"{url}/api/v1/query", data={"query": expr}, timeout=30).json()["data"]["result"]
    return float(result[0]["value"][1]) if result else 0.0


def healthy(url: str) -> bool:
    """Whether sidecar and load generator were scraped without a miss of late: after one, series end for a moment."""
    return value(url, "count(min_over_time(up[10s]) == 1)") == 2


@dataclass(frozen=True)
class Asked:
    """A Prometheus at the moment `now` (Unix seconds), asked as a board would."""

    url: str
    now: float

    def wrong(self, name: str, board: Board, **chosen: str) -> dict[str, str]:
        """`board/panel` -> what is wrong, for every panel that does not show what it should."""
        found = {f"{name}/{panel['title']}": self._panel(panel, CHOSEN | chosen) for panel in panels(board)}
        return {where: "; ".join(complaints) for where, complaints in found.items() if complaints}

    def unmarked(self, board: Board) -> list[str]:
        """The names of annotations that mark nothing."""
        marks = board["annotations"]["list"]
        return [mark["name"] for mark in marks if not self._series(mark["expr"], False, CHOSEN)]

    def without_exemplars(self, name: str, board: Board) -> list[str]:
        """The panels that ask for exemplars and get none with a trace id."""
        return [
            f"{name}/{panel['title']}"
            for panel in panels(board)
            if any(target["exemplar"] and not self._exemplars(target["expr"]) for target in panel["targets"])
        ]

    def _panel(self, panel: Board, chosen: Mapping[str, str]) -> list[str]:
        complaints = []
        for target in panel["targets"]:
            series = self._series(target["expr"], target["instant"], chosen)
            wanted, exact = labels(panel, target)
            found = {frozenset(one["metric"]) for one in series}
            if not series:
                complaints.append(f"{target['refId']} is empty")
            # A table may say of some rows less: the objective of an SLO without events has no model.
            fits = (
                wanted in found and all(one <= wanted for one in found) if exact else all(map(wanted.issubset, found))
            )
            if series and not fits:
                complaints.append(f"{target['refId']} has labels {[*map(sorted, found)]}, not {sorted(wanted)}")
        return complaints

    def _series(self, expr: str, instant: bool, chosen: Mapping[str, str]) -> list[dict[str, Any]]:
        form: dict[str, str] = {"query": substituted(expr, chosen)}
        if instant:
            return self._ask("query", form | {"time": str(self.now)})["result"]
        span = {"start": str(self.now - LOOK_BACK), "end": str(self.now), "step": str(STEP)}
        return self._ask("query_range", form | span)["result"]

    def _exemplars(self, expr: str) -> bool:
        form = {"query": substituted(expr, CHOSEN), "start": str(self.now - 600), "end": str(self.now)}
        found = [exemplar for series in self._ask("query_exemplars", form) for exemplar in series["exemplars"]]
        return any(exemplar["labels"].get("trace_id") for exemplar in found)

    def _ask(self, endpoint: str, form: Mapping[str, str]) -> Any:
        answer = httpx.post(f"{self.url}/api/v1/{endpoint}", data=form, timeout=30).json()
        assert answer["status"] == "success", (form["query"], answer)
        return answer["data"]


def labels(panel: Board, target: Board) -> tuple[set[str], bool]:
    """The labels that the target's series must have, and whether they may have others."""
    if panel["type"] == "heatmap":
        return {"le"}, True
    if panel["type"] == "trend":
        return {"load"}, True
    if panel["type"] == "table":
        [organize] = [t["options"] for t in panel["transformations"] if t["id"] == "organize"]
        return {name for name in organize["indexByName"] if not name.startswith("Value #")}, True
    return set(re.findall(r"{{(\w+)}}", target["legendFormat"])), False
