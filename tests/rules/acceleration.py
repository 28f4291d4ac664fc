"""Generated rule files in fast motion: every length of time in them divided by one number.

An hour of alerting must fit into a test, so Prometheus gets the rules that people get, read as text and rewritten token
by token: durations (of ranges, offsets, subqueries, intervals, `for` and `keep_firing_for`) and the constants that are
seconds (`* 3600`, `time() - 900`), which are the whole multiples of 60. Names, strings, ratios, factors, counts and
latencies stay: a request that takes 300 ms takes 300 ms in fast motion too.
"""

import re
from pathlib import Path
from typing import Any

import yaml

_UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_TOKEN = re.compile(
    r"""(?P<text>"(?:\\.|[^"\\])*")|(?P<name>[a-zA-Z_:][\w:]*)|(?P<duration>\d+[smhd])\b|(?P<number>\d[\d.]*(?:e\d+)?)|."""
    .strip(),
    re.DOTALL | re.ASCII,
)  # fmt: skip


def duration(text: str, factor: int) -> str:
    """A duration, so many times shorter: `5m` by 30 is `10000ms`. ValueError when that is no whole millisecond."""
    length, rest = divmod(int(text[:-1]) * _UNITS[text[-1]], factor)
    if rest:
        raise ValueError(f"{text} cannot be divided by {factor}: Prometheus counts in milliseconds")
    return f"{length}ms"


def promql(expr: str, factor: int) -> str:
    """An expression in fast motion."""
    return _TOKEN.sub(lambda token: _faster(token, factor), expr)


def _faster(token: re.Match[str], factor: int) -> str:
    if token["duration"]:
        return duration(token["duration"], factor)
    if token["number"] and float(token["number"]) % 60 == 0:
        return f"{float(token['number']) / factor:.12g}"
    return token[0]


def rules(body: dict[str, Any], factor: int) -> dict[str, Any]:
    """A rule file in fast motion."""
    return {"groups": [_group(group, factor) for group in body["groups"]]}


def _group(group: dict[str, Any], factor: int) -> dict[str, Any]:
    faster = [_rule(rule, factor) for rule in group["rules"]]
    return group | {"interval": duration(group["interval"], factor), "rules": faster}


def _rule(rule: dict[str, Any], factor: int) -> dict[str, Any]:
    changed: dict[str, Any] = {"expr": promql(rule["expr"], factor)}
    changed |= {key: duration(rule[key], factor) for key in ("for", "keep_firing_for") if key in rule}
    if "annotations" in rule:
        changed["annotations"] = {name: _template(text, factor) for name, text in rule["annotations"].items()}
    return rule | changed


def _template(text: str, factor: int) -> str:
    """A template: what it asks Prometheus stands between backquotes."""
    return re.sub("`[^`]*`", lambda query: promql(query[0], factor), text)


def rewrite(source: Path, target: Path, factor: int) -> None:
    """Write the rule files of a folder in fast motion."""
    target.mkdir(exist_ok=True)
    for path in source.glob("*.yaml"):
        if not path.name.endswith(".test.yaml"):
            (target / path.name).write_text(yaml.safe_dump(rules(yaml.safe_load(path.read_text()), factor)))
