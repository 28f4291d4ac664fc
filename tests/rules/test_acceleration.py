"""Fast motion changes every length of time in the rules, by the same factor, and nothing else."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import acceleration
import promql_parser
import pytest
import yaml

GENERATED = Path(__file__).parents[2] / "rules"
RULES = sorted(path for path in GENERATED.glob("*.yaml") if not path.name.endswith(".test.yaml"))
EXPRESSIONS = sorted({
    rule["expr"] for path in RULES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]
})  # fmt: skip
FACTOR = 40
# What numbers from 60 up mean, as people read the rules: seconds, but for tokens per second, percent and a million.
SECONDS, OTHERS = {60, 300, 600, 900, 3600}, {200, 1000, 95, 100, 1e6}
_PARTS = ("lhs", "rhs", "expr", "param", "vector_selector")


def nodes(expr: Any) -> Iterator[Any]:
    """The expression and all that is in it, as Prometheus' grammar sees it."""
    yield expr
    parts = [getattr(expr, part, None) for part in _PARTS] + list(getattr(expr, "args", ()))
    for part in parts:
        if part is not None:
            yield from nodes(part)


def lengths(expr: str) -> list[timedelta]:
    found = nodes(promql_parser.parse(expr))
    return [t for node in found for name in ("range", "step", "offset") if (t := getattr(node, name, None)) is not None]


def numbers(expr: str) -> list[float]:
    return [node.val for node in nodes(promql_parser.parse(expr)) if isinstance(node, promql_parser.NumberLiteral)]


def skeleton(expr: str) -> str:
    """What is left without lengths of time and numbers."""
    return re.sub(r"(?<![\w:])\d[\d.]*(ms|[smhd]|e\d+)?", "#", expr)


@pytest.mark.parametrize("expr", EXPRESSIONS)
def test_all_times_shrink_and_nothing_else_changes(expr: str) -> None:
    """Judged by another parser: ranges, offsets, steps and seconds are divided, every other token is the same."""
    faster = acceleration.promql(expr, FACTOR)
    assert lengths(faster) == [length / FACTOR for length in lengths(expr)]
    assert numbers(faster) == pytest.approx([n / FACTOR if n in SECONDS else n for n in numbers(expr)])
    assert skeleton(faster) == skeleton(expr)
    assert {n for n in numbers(expr) if n >= 60} <= SECONDS | OTHERS


def test_the_rules_have_something_to_shrink() -> None:
    """The parser finds lengths of time of every kind, or the test above would prove nothing."""
    assert sum(len(lengths(expr)) for expr in EXPRESSIONS) > 100
    assert {n for expr in EXPRESSIONS for n in numbers(expr)} >= SECONDS


def test_strings_and_names_stay() -> None:
    """`5m` in a name or in a string is no length of time."""
    expr = 'slo:good:rate5m{period="30d",le="60.0",a="[5m] \\" 300"} * 300'
    assert acceleration.promql(expr, 30) == expr.removesuffix("300") + "10"


def test_what_groups_and_alerts_wait_for_shrinks(tmp_path: Path) -> None:
    """Intervals, `for`, `keep_firing_for` and the seconds that annotations ask for; what they say stays."""
    for path in RULES:
        body = yaml.safe_load(path.read_text())
        faster = acceleration.rules(body, FACTOR)
        for before, after in zip(body["groups"], faster["groups"], strict=True):
            assert milliseconds(after["interval"]) * FACTOR == milliseconds(before["interval"])
            for was, now in zip(before["rules"], after["rules"], strict=True):
                assert was.keys() == now.keys()
                for key in was.keys() & {"for", "keep_firing_for"}:
                    assert milliseconds(now[key]) * FACTOR == milliseconds(was[key])
                said = was.get("annotations", {})
                for name in said:
                    expected = said[name].replace("* 2592000 ", "* 64800 ").replace("* 2419200 ", "* 60480 ")
                    assert now["annotations"][name] == expected


def milliseconds(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(ms|[smhd])", text).groups()  # type: ignore[union-attr]
    return int(number) * {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}[unit]


@pytest.mark.prometheus
@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_prometheus_takes_them(tmp_path: Path) -> None:
    """promtool accepts the rewritten files."""
    acceleration.rewrite(GENERATED, tmp_path / "fast", FACTOR)
    files = sorted((tmp_path / "fast").glob("*.yaml"))
    assert len(files) == len(RULES)
    done = subprocess.run(["promtool", "check", "rules", *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_cannot_be_told_in_milliseconds_is_refused() -> None:
    """Fast motion by a factor that does not divide is an error, not a rounding."""
    with pytest.raises(ValueError, match="1m cannot be divided by 7"):
        acceleration.duration("1m", 7)
