"""The walls of the house: who may import whom, and what pure modules must not touch."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("slo", "exporters", "loadgen")
FORBIDDEN = {
    "slo": ("exporters", "loadgen"),
    "exporters": ("loadgen",),
    "loadgen": ("exporters",),
}
# Modules whose clock, randomness, files and sockets are arguments.
PURE = [
    *(f"slo/{m}.py" for m in ("catalog", "promql", "stats", "windows", "recorded", "rules", "alerts", "causes")),
    *(f"slo/{m}.py" for m in ("health", "render", "explain", "sampling", "replay", "backtest", "propose", "tables")),
    *(f"slo/sli/{m}.py" for m in ("base", "requests", "slices", "query")),
    *(
        f"exporters/{m}.py"
        for m in (
            "model",
            "join",
            "cells",
            "economics",
            "gpu_pages",
            "gpu_tables",
            "ours",
            "exact",
            "exemplars",
            "otlp",
            "spans",
        )
    ),
    *(f"loadgen/{m}.py" for m in ("arrivals", "workload", "summary", "verdict", "steady", "sampled")),
    *(f"loadgen/{m}.py" for m in ("regression", "comparison", "search", "trial", "capacity", "doubts")),
    *(f"loadgen/{m}.py" for m in ("lengths", "trace", "prompts", "dataset", "conversation", "stamps", "proxies")),
    *(f"loadgen/simulator/{m}.py" for m in ("model", "kv", "gpu", "faults", "virtual")),
]
IMPURE = {"time", "os", "socket", "asyncio", "threading", "httpx", "requests", "urllib.request", "subprocess"}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("package", PACKAGES)
def test_arrows_point_into_the_domain(package: str) -> None:
    """slo imports neither of the others, and exporters and loadgen never meet."""
    files = list((ROOT / package).rglob("*.py"))
    assert files
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imports(path)
        if name.split(".")[0] in FORBIDDEN[package]
    ]
    assert not wrong


@pytest.mark.parametrize("module", PURE)
def test_the_core_is_pure(module: str) -> None:
    """No clock, environment, file or socket in the modules that hold the arithmetic."""
    path = ROOT / module
    assert not IMPURE & set(imports(path))
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    assert "open" not in {call.id for call in calls if isinstance(call, ast.Name)}
