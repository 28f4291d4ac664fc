"""The walls of the house: who may import whom, and which modules touch the world outside."""

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
# Room by room the modules that touch clocks, files, sockets, processes or the event loop. In all others these are
# arguments.
EDGES = {
    "slo": "stdout session",
    "slo/spec": "document",
    "slo/openslo": "nodes",
    "slo/delivery": "artefacts mimir",
    "slo/evidence": "runs incidents",
    "slo/live": "prometheus exposition status_page",
    "slo/commands": "backtest live push test status",
    "exporters": "cli ending collector",
    "exporters/engines": "fetch",
    "exporters/gpus": "xid sources nvml",
    "exporters/spans": "forward",
    "exporters/serving": "tracing access web runner push server otlp_grpc",
    "loadgen": "cli arguments",
    "loadgen/traffic": "calibrate",
    "loadgen/wire": "client tunnel target",
    "loadgen/running": "sampling cluster progress workers live runner provenance options measure",
    "loadgen/results": "tokens reading baseline parquet",
    "loadgen/reports": "command convert github",
    "loadgen/capacity": "sizing",
    "loadgen/simulator": "protocol driver spans middleware api command server",
    "loadgen/baselining": "random_model engine files command",
    "loadgen/demo": "stack command views",
}
IMPURE = {"time", "os", "socket", "asyncio", "threading", "httpx", "urllib.request", "subprocess"}
MODULES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imports(module: Path) -> Iterator[str]:
    """The modules that a module imports, names in packages included."""
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def opens_files(module: Path) -> bool:
    called = [node.func for node in ast.walk(ast.parse((ROOT / module).read_text())) if isinstance(node, ast.Call)]
    names = {f.id if isinstance(f, ast.Name) else f.attr for f in called if isinstance(f, ast.Name | ast.Attribute)}
    return bool(names & {"open", "read_text", "read_bytes", "write_text", "write_bytes"})


@pytest.mark.parametrize("package", PACKAGES)
def test_arrows_point_into_the_domain(package: str) -> None:
    """slo imports neither of the others, and exporters and loadgen never meet."""
    modules = [module for module in MODULES if module.parts[0] == package]
    assert modules
    wrong = [f"{m} imports {name}" for m in modules for name in imports(m) if name.split(".")[0] in FORBIDDEN[package]]
    assert not wrong


def test_only_the_edges_touch_the_world() -> None:
    """No clock, environment, file, socket or process but in the modules named for it, each of which has some."""
    touching = {str(m.with_suffix("")) for m in MODULES if IMPURE & set(imports(m)) or opens_files(m)}
    assert touching == {f"{room}/{name}" for room, names in EDGES.items() for name in names.split()}


def room_of(name: str) -> str:
    """The folder in which a dotted name is defined."""
    path = Path(*name.split("."))
    while not (ROOT / path).with_suffix(".py").is_file() and not (ROOT / path).is_dir():
        path = path.parent
    return str(path if (ROOT / path).is_dir() else path.parent)


def test_no_two_rooms_import_each_other() -> None:
    """Between the rooms of a package arrows go one way; its own modules, the command line among them, stand between."""
    arrows = {
        (str(module.parent), room)
        for module in MODULES
        for name in imports(module)
        if name.split(".")[0] in PACKAGES and "/" in (room := room_of(name))
    }
    both = sorted({(a, b) for a, b in arrows if a < b and "/" in a and (b, a) in arrows})
    assert not both
