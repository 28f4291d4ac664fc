"""Single values of a spec: each reader takes a `Value` and returns what it means, or refuses it by line."""

import math
import re
from collections.abc import Collection

from slo.spec.document import Value

_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def name(value: Value) -> str:
    """A name that may become a label value, a file name and a Kubernetes object name."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", value.text()):
        raise value.error(f"{value.text()!r} is no name: use lower-case letters, digits and '-', at most 63")
    return value.text()


def line(value: Value) -> str:
    """A text of one line, at most 1000 characters."""
    text = value.text().strip()
    if len(text) > 1000 or not text.isprintable():
        raise value.error("expected one line of printable text, at most 1000 characters")
    return text


def label(value: Value, reserved: Collection[str]) -> str:
    """A label name that is free for use."""
    text = value.text()
    if not _LABEL_NAME.fullmatch(text):
        raise value.error(f"{text!r} is no Prometheus label name")
    if text in reserved or text.startswith("__"):
        raise value.error(f"the label {text!r} is taken: the rules or Prometheus set it; use another name")
    return text


def labels(value: Value, reserved: Collection[str]) -> dict[str, str]:
    """A mapping of label names to values."""
    pairs = value.mapping().pairs()
    return {label(key, reserved): line(text) for key, text in pairs}


def group_labels(value: Value, reserved: Collection[str]) -> tuple[str, ...]:
    """A list of different label names."""
    found = [label(item, reserved) for item in value.items()]
    for index, item in enumerate(value.items()):
        if item.text() in found[:index]:
            raise item.error(f"{item.text()!r} is given twice")
    return tuple(found)


def url(value: Value) -> str:
    """An absolute URL of http or https."""
    text = value.text()
    if not re.fullmatch(r"https?://[^\s\"'<>{}]+", text):
        raise value.error(f"{text!r} is no URL; write it like https://host/path")
    return text


def ratio(value: Value) -> float:
    """A share between 0 and 1, both excluded; `95%` and `0.95` say the same."""
    text = value.text()
    share = round(number(value, text.removesuffix("%")) / (100 if text.endswith("%") else 1), 12)
    if not 0 < share < 1:
        raise value.error(f"{text!r} must lie between 0 and 1 (or 0% and 100%), both excluded")
    return share


def positive(value: Value) -> float:
    """A number above 0."""
    found = number(value, value.text())
    if found <= 0:
        raise value.error(f"{value.text()!r} must be greater than 0")
    return found


def whole(value: Value) -> int:
    """A whole number above 0."""
    found = positive(value)
    if found != int(found):
        raise value.error(f"{value.text()!r} must be a whole number")
    return int(found)


def number(value: Value, text: str) -> float:
    """`text` as a finite number; `value` is what a refusal points at."""
    if not re.fullmatch(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?", text, re.ASCII):
        raise value.error(f"{value.text()!r} is not a number")
    if not math.isfinite(float(text)):
        raise value.error(f"{value.text()!r} is not a finite number")
    return float(text)


def flag(value: Value) -> bool:
    """`true` or `false`."""
    if value.text() not in ("true", "false"):
        raise value.error(f"{value.text()!r} is neither true nor false")
    return value.text() == "true"


def seconds(value: Value) -> float:
    """A duration such as `500ms`, `2.5s`, `1m` or `1h`, in seconds."""
    match = re.fullmatch(r"([0-9.]+)\s*(ms|s|m|h)", value.text())
    if not match:
        raise value.error(f"{value.text()!r} is no duration; write it like 500ms, 2.5s or 1m")
    found = number(value, match[1]) * _UNITS[match[2]]
    if found <= 0:
        raise value.error(f"{value.text()!r} must be longer than 0")
    return round(found, 9)
